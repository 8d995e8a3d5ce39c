//! The names of branches and tags.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::budget::Budget;
use super::error::ReadError;
use super::reader::Reader;
use super::rev::spelling;

/// Which refs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefNames {
    /// `refs/heads/`.
    Branches,
    /// `refs/tags/`.
    Tags,
}

impl RefNames {
    /// What their full names begin with.
    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Branches => b"refs/heads/",
            Self::Tags => b"refs/tags/",
        }
    }
}

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchOrTag {
    /// The name without `refs/heads/` or `refs/tags/`.
    pub short: Vec<u8>,
    /// What addresses call it.
    pub spelled: Vec<u8>,
}

/// The first branches and tags by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedRefs {
    pub branches: Vec<BranchOrTag>,
    pub tags: Vec<BranchOrTag>,
    /// Whether there are no others.
    pub are_all: bool,
}

impl Reader {
    /// The first branches and tags by name, `limit` of each.
    pub fn named_refs(&self, limit: usize, budget: &Budget) -> Result<NamedRefs, ReadError> {
        let (branches, all_branches) = self.full_names(RefNames::Branches, limit, budget)?;
        let (tags, all_tags) = self.full_names(RefNames::Tags, limit, budget)?;
        let are_all = all_branches && all_tags;
        let spelled = |full: &[u8]| {
            if !are_all {
                return self.spelling(full);
            }
            // All names are known, so no file has to be read to compare them.
            spelling(full, |other| {
                is_among(&branches, other) || is_among(&tags, other)
            })
        };
        let named = |kind: RefNames, names: &BTreeSet<Vec<u8>>| {
            let names = names.iter().map(|full| BranchOrTag {
                short: full.strip_prefix(kind.prefix()).unwrap_or(full).to_vec(),
                spelled: spelled(full),
            });
            names.collect()
        };
        Ok(NamedRefs {
            branches: named(RefNames::Branches, &branches),
            tags: named(RefNames::Tags, &tags),
            are_all,
        })
    }

    /// How many refs of a kind there are.
    pub fn count_refs(&self, wanted: RefNames) -> Result<usize, ReadError> {
        let mut count = 0;
        self.visit_refs(wanted, |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// The first full names of a kind, and whether they are all.
    fn full_names(
        &self,
        wanted: RefNames,
        limit: usize,
        budget: &Budget,
    ) -> Result<(BTreeSet<Vec<u8>>, bool), ReadError> {
        let mut names = BTreeSet::new();
        let are_all = self.visit_refs(wanted, |found| {
            if names.len() == limit || budget.is_over() {
                return ControlFlow::Break(());
            }
            names.insert(found.name().as_bstr().to_vec());
            ControlFlow::Continue(())
        })?;
        Ok((names, are_all))
    }

    /// Visits the refs of a kind by name. Returns whether the visitor has seen all of them.
    pub(super) fn visit_refs(
        &self,
        wanted: RefNames,
        mut visit: impl FnMut(&gix::Reference<'_>) -> ControlFlow<()>,
    ) -> Result<bool, ReadError> {
        let attempt = "list the refs";
        let platform = self
            .repo
            .references()
            .map_err(ReadError::damaged(attempt))?;
        let refs = match wanted {
            RefNames::Branches => platform.local_branches(),
            RefNames::Tags => platform.tags(),
        };
        // A ref that cannot be read is left out of the list, as git does.
        let mut refs = refs.map_err(ReadError::damaged(attempt))?.flatten();
        Ok(refs.try_for_each(|found| visit(&found)).is_continue())
    }
}

/// Whether a name, or one that begins with it and a slash, is in the set.
fn is_among(names: &BTreeSet<Vec<u8>>, full: &[u8]) -> bool {
    let below = [full, b"/"].concat();
    names.contains(full)
        || names
            .range(below.clone()..)
            .next()
            .is_some_and(|name| name.starts_with(&below))
}
