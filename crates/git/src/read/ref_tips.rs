//! Branches and tags with the commits that they point to, the newest first.

use std::ops::ControlFlow;

use gix::ObjectId as Id;
use gix::bstr::ByteSlice;
use gix::prelude::FindExt as _;

use super::budget::{Budget, Portion};
use super::commit::{CommitSummary, Person, person};
use super::error::ReadError;
use super::reader::{Reader, gix_id};
use super::refs::{BranchOrTag, RefNames};
use super::rev::RevPath;

/// The most refs that are sorted by time; of more, those whose names come first.
const MAX_SORTED: usize = 2000;

/// What an annotated tag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Who made it.
    pub tagger: Option<Person>,
    /// The first line of its message.
    pub subject: String,
}

/// A branch or tag with its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefTip {
    /// Its name.
    pub name: BranchOrTag,
    /// The commit; `None` if it points to something else.
    pub commit: Option<CommitSummary>,
    /// What it says, if it is an annotated tag.
    pub annotation: Option<Annotation>,
}

/// Branches or tags, and whether there are more than were sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefTips {
    /// Part of the list; the rest begins after the short name of [`Portion::next`].
    pub page: Portion<RefTip, Vec<u8>>,
    /// How many there are; at least so many if `is_cut`.
    pub total: usize,
    /// Whether there are more than were sorted.
    pub is_cut: bool,
}

struct Candidate {
    seconds: i64,
    short: Vec<u8>,
    target: Id,
}

impl Reader {
    /// Branches or tags by the time of their commits, after the one with the short name `after`.
    pub fn ref_tips(
        &self,
        wanted: RefNames,
        after: Option<&[u8]>,
        budget: &Budget,
    ) -> Result<RefTips, ReadError> {
        let (mut candidates, is_cut) = self.candidates(wanted, budget)?;
        candidates.sort_by(|a, b| {
            b.seconds
                .cmp(&a.seconds)
                .then_with(|| a.short.cmp(&b.short))
        });
        let total = candidates.len();
        let start = match after {
            Some(after) => {
                let at = candidates.iter().position(|found| found.short == after);
                at.ok_or(ReadError::NoPath)? + 1
            }
            None => 0,
        };
        let end = total.min(start.saturating_add(budget.lines));
        let mut items = Vec::new();
        for candidate in &candidates[start..end] {
            items.push(self.tip(wanted, candidate)?);
        }
        let next = (end < total).then(|| candidates[end - 1].short.clone());
        Ok(RefTips {
            page: Portion {
                items,
                next,
                out_of_time: false,
                is_cut: false,
            },
            total,
            is_cut,
        })
    }

    /// Whether a revision is named by a ref, or is the commit that HEAD, a branch or a tag points to. Of many refs, some are looked at.
    pub fn is_at_tip(&self, wanted: &RevPath, budget: &Budget) -> Result<bool, ReadError> {
        let (rev, _) = self.resolve(wanted)?;
        if !rev.is_fixed() || self.head()?.is_some_and(|head| head.commit == rev.commit) {
            return Ok(true);
        }
        let commit = gix_id(&rev.commit)?;
        let mut is_tip = false;
        for kind in [RefNames::Branches, RefNames::Tags] {
            let mut seen = 0;
            self.visit_refs(kind, |found| {
                let target = found.try_id().map(gix::Id::detach);
                is_tip = target.is_some_and(|target| {
                    target == commit
                        || matches!(self.peel_to_commit(target), Ok(Some(id)) if id == commit)
                });
                seen += 1;
                match is_tip || seen == MAX_SORTED || budget.is_over() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            if is_tip {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn candidates(
        &self,
        wanted: RefNames,
        budget: &Budget,
    ) -> Result<(Vec<Candidate>, bool), ReadError> {
        let mut candidates = Vec::new();
        let are_all = self.visit_refs(wanted, |found| {
            if candidates.len() == MAX_SORTED || budget.is_over() {
                return ControlFlow::Break(());
            }
            if let Some(target) = found.try_id() {
                let target = target.detach();
                let full = found.name().as_bstr();
                candidates.push(Candidate {
                    seconds: self.seconds_of(target),
                    short: full.strip_prefix(wanted.prefix()).unwrap_or(full).to_vec(),
                    target,
                });
            }
            ControlFlow::Continue(())
        })?;
        Ok((candidates, !are_all))
    }

    fn seconds_of(&self, target: Id) -> i64 {
        let mut buffer = Vec::new();
        let commit = self.peel_to_commit(target).ok().flatten();
        commit
            .and_then(|id| self.repo.objects.find_commit_iter(&id, &mut buffer).ok())
            .and_then(|commit| commit.committer().ok())
            .map_or(i64::MIN, |committer| committer.seconds())
    }

    fn tip(&self, wanted: RefNames, candidate: &Candidate) -> Result<RefTip, ReadError> {
        let full = [wanted.prefix(), &candidate.short].concat();
        let commit = self.peel_to_commit(candidate.target)?;
        Ok(RefTip {
            name: BranchOrTag {
                spelled: self.spelling(&full),
                short: candidate.short.clone(),
            },
            commit: commit
                .map(|id| Ok::<_, ReadError>(self.commit_details(id)?.summary))
                .transpose()?,
            annotation: self.annotation(candidate.target),
        })
    }

    fn annotation(&self, id: Id) -> Option<Annotation> {
        let mut buffer = Vec::new();
        let tag = self.repo.objects.find_tag(&id, &mut buffer).ok()?;
        let subject = tag.message.lines().next().unwrap_or_default();
        let subject = String::from_utf8_lossy(subject);
        Some(Annotation {
            tagger: tag.tagger.map(|raw| person(raw, None)),
            subject: subject.chars().take(500).collect(),
        })
    }
}
