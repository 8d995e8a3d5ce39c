//! Compares the refs of every repository with those in the database: records the changes that no hook
//! reported (it was killed, the disk was full) and removes the files that a killed git left.

use std::collections::{BTreeMap, BTreeSet};

use super::drain::Drained;
use super::error::IntakeError;
use super::event_intake::Intake;
use super::spool;
use crate::findings::RepoTask;
use crate::runner::schedules;
use quire_git::{Git, PushMark, RUN_NOTES_REF, RepoListing};
use quire_runtime::blocking::run_blocking;
use quire_store::{Hold, SeenRef, Store};
use quire_types::error_chain::with_sources;
use quire_types::names::{EventId, ObjectId, RefName, RepoName};
use quire_types::push_event::{EventType, PushEvent, RefUpdate, SKIP_OPTION};

/// The object id that stands for "none", as long as the other one.
fn none_like(id: &ObjectId) -> Option<ObjectId> {
    "0".repeat(id.as_str().len()).parse().ok()
}

impl Intake {
    /// Compares every repository once and records what no event told. Call it after the spool is drained.
    /// Returns how many refs differed.
    pub async fn compare_refs(&self) -> usize {
        let listed = self.0.git.call(|git| {
            git.remove_leftovers();
            git.list()
        });
        let listing = match listed.await {
            Ok(listing) => listing,
            Err(error) => {
                tracing::error!(
                    error = with_sources(&error),
                    "the repositories cannot be listed"
                );
                return 0;
            }
        };
        self.0.findings.report_listing(&listing);
        let mut made_up = 0;
        if let Err(error) = self.forget_those_gone(&listing).await {
            tracing::error!(
                error = with_sources(&error),
                "refs of repositories that are gone cannot be forgotten"
            );
        }
        let instance = match self.0.store.call(|store| store.instance().id()).await {
            Ok(instance) => instance,
            Err(error) => {
                tracing::error!(error = with_sources(&error), "the refs cannot be compared");
                return 0;
            }
        };
        for repo in &listing.repos {
            self.remove_stale_locks(repo).await;
            let compared = self.compare(repo, &instance).await;
            let (findings, attempt) = (&self.0.findings, RepoTask::CompareRefs);
            made_up += findings.report(repo, attempt, compared).unwrap_or(0);
        }
        made_up
    }

    /// Compares the repositories whose pushes have ended without their hook: the client vanished, or the hook was
    /// killed. A repository that was created for such a push and has no refs is removed. Call it after the spool is
    /// drained.
    pub async fn compare_marked(&self, drained: &Drained) {
        let paths = self.0.paths.clone();
        let left = run_blocking(move || spool::list(&paths).map(|events| events.len())).await;
        // An event that has arrived since says more of a push than its refs do.
        if !matches!(left, Ok(Ok(left)) if left <= drained.left) {
            return;
        }
        let marks = match self.0.git.call(Git::push_marks).await {
            Ok(marks) => marks,
            Err(error) => {
                tracing::error!(
                    error = with_sources(&error),
                    "the marks of pushes cannot be read"
                );
                return;
            }
        };
        for mark in marks {
            if drained.waiting.contains(&mark.repo) {
                continue;
            }
            let ended = self.compare_after(&mark).await;
            let (findings, task) = (&self.0.findings, RepoTask::CompareRefs);
            if findings.report(&mark.repo, task, ended) == Some(true) {
                // A mark that stays is compared again.
                let _ = run_blocking(move || mark.remove()).await;
            }
        }
    }

    /// Compares the repository of a mark if its push has ended. Returns whether the mark has served its purpose.
    async fn compare_after(&self, mark: &PushMark) -> Result<bool, IntakeError> {
        let git = &self.0.git;
        let name = mark.repo.clone();
        let repo = git
            .call(move |git| {
                let repo = git.resolve(&name);
                Ok(git.exists(&repo)?.then_some(repo))
            })
            .await?;
        let Some(repo) = repo else { return Ok(true) };
        let name = repo.clone();
        if git.call(move |git| git.has_push(&name)).await? {
            return Ok(false);
        }
        let instance = self.0.store.call(|store| store.instance().id()).await?;
        self.compare(&repo, &instance).await?;
        if mark.created {
            let name = repo.clone();
            if git.call(move |git| git.remove_if_empty(&name)).await? {
                tracing::info!(%repo, "removed the empty repository of a push that failed");
            }
        }
        Ok(true)
    }

    /// Applies what the owner decided about an older copy of the database.
    pub(super) async fn apply_decision(&self) {
        if let Err(error) = self.try_apply_decision().await {
            tracing::error!(
                error = with_sources(&error),
                "the decision of `reconcile` cannot be applied yet"
            );
        }
    }

    async fn try_apply_decision(&self) -> Result<(), IntakeError> {
        let hold = self.0.store.call(|store| store.instance().hold()).await?;
        let Some(decision @ (Hold::Adopt | Hold::Run)) = hold else {
            return Ok(());
        };
        let refs = self.compare_refs().await;
        if decision == Hold::Adopt {
            schedules::skip_due(&self.0.store).await?;
        }
        let canceled = self
            .0
            .store
            .call(move |store| store.instance().end_hold(decision))
            .await?;
        tracing::warn!(
            refs,
            canceled,
            "applied the decision about the older copy of the database"
        );
        self.0.queue.wake();
        Ok(())
    }

    /// Removes what a git that was killed left in the way of the next push.
    async fn remove_stale_locks(&self, repo: &RepoName) {
        let (name, now) = (repo.clone(), self.0.store.clock().now());
        let git = &self.0.git;
        let removed = git
            .call(move |git| git.remove_stale_locks(&name, now))
            .await;
        let (findings, attempt) = (&self.0.findings, RepoTask::RemoveLocks);
        if let Some(removed @ 1..) = findings.report(repo, attempt, removed) {
            tracing::warn!(%repo, removed, "removed lock files that a killed git had left");
        }
    }

    /// Forgets what was seen of repositories that two looks in a row did not find: one of the same name starts afresh.
    /// A volume that is away for a moment must not make everything look new.
    async fn forget_those_gone(&self, listing: &RepoListing) -> Result<(), IntakeError> {
        let known = self.0.store.call(|store| store.seen_refs().repos()).await?;
        let gone: BTreeSet<RepoName> = known
            .into_iter()
            .filter(|repo| !listing.may_contain(repo))
            .collect();
        let before = std::mem::replace(&mut *self.0.gone.lock().await, gone.clone());
        for repo in gone.intersection(&before) {
            let _one_at_a_time = self.0.taking.of(repo).lock().await;
            let name = repo.clone();
            if !self.0.git.call(move |git| git.exists(&name)).await? {
                let name = repo.clone();
                self.0
                    .store
                    .call(move |store| store.seen_refs().forget(&name))
                    .await?;
            }
        }
        Ok(())
    }

    /// Compares one repository. The refs of one that this instance did not make, and has not taken over before, are
    /// taken as they stand: its database is new, or a person put the repository there. Its old branches and tags
    /// must not all run.
    async fn compare(&self, repo: &RepoName, instance: &str) -> Result<usize, IntakeError> {
        let _one_at_a_time = self.0.taking.of(repo).lock().await;
        let name = repo.clone();
        let seen = self
            .0
            .store
            .call(move |store| store.seen_refs().list(&name))
            .await?;
        let (name, id) = (repo.clone(), instance.to_owned());
        let git = &self.0.git;
        let is_foreign = !git.call(move |git| git.belongs_to(&name, &id)).await?;
        let hold = self.0.store.call(|store| store.instance().hold()).await?;
        if hold == Some(Hold::Undecided) {
            return Ok(0);
        }
        let name = repo.clone();
        let find = move |store: &Store| store.pull_mirrors().find(&name);
        let mirror = self.0.store.call(find).await?;
        // A mirror may be cut off between the move of a ref and its event.
        let is_without_runs = mirror.is_some_and(|mirror| !mirror.has_runs);
        let adopt = is_foreign || hold == Some(Hold::Adopt) || is_without_runs;
        let current = self.0.git.refs(&self.0.paths.repo(repo)).await?;
        let (name, names) = (repo.clone(), current.refs.clone());
        self.0
            .git
            .call(move |git| {
                let names = names.iter().map(|(name, _)| name);
                let branches: Vec<&RefName> =
                    names.filter(|name| name.branch().is_some()).collect();
                git.follow_first_branch(&name, &branches).map(drop)
            })
            .await?;
        let refs = differences(&seen, &current.refs);
        let count = refs.len();
        if count > 0 {
            if adopt {
                tracing::warn!(%repo, refs = count, "the repository is new to the database, or a mirror without runs: its refs are taken as they stand, without runs");
            } else {
                tracing::warn!(%repo, refs = count, "refs stand where no recorded push put them; their runs are made now");
            }
            self.record_differences(repo, refs, adopt).await?;
        }
        if is_foreign {
            let (name, id) = (repo.clone(), instance.to_owned());
            self.0.git.call(move |git| git.adopt(&name, &id)).await?;
        }
        Ok(count)
    }

    /// Records the refs of a repository that was imported, without runs.
    pub async fn record_import(
        &self,
        repo: &RepoName,
        event: EventId,
        user: Option<String>,
    ) -> Result<(), IntakeError> {
        let _one_at_a_time = self.0.taking.of(repo).lock().await;
        let name = repo.clone();
        let read = move |store: &Store| {
            let seen = store.seen_refs().list(&name)?;
            Ok((seen, store.instance().id()?))
        };
        let (seen, instance) = self.0.store.call(read).await?;
        let current = self.0.git.refs(&self.0.paths.repo(repo)).await?;
        let event = PushEvent {
            id: event,
            event_type: EventType::Push,
            repo: repo.clone(),
            pusher: user,
            pushed_at: self.0.store.clock().now(),
            options: vec![SKIP_OPTION.to_owned()],
            refs: differences(&seen, &current.refs),
        };
        let (planned, _) = self.plan(event).await?;
        self.0.queue.record(vec![planned]).await?;
        self.0.queue.write_sequence().await;
        let name = repo.clone();
        let adopt = move |git: &Git| git.adopt(&name, &instance);
        Ok(self.0.git.call(adopt).await?)
    }

    async fn record_differences(
        &self,
        repo: &RepoName,
        refs: Vec<RefUpdate>,
        adopt: bool,
    ) -> Result<(), IntakeError> {
        let now = self.0.store.clock().now();
        let event = PushEvent {
            id: EventId::new(),
            event_type: EventType::Reconcile,
            repo: repo.clone(),
            pusher: None,
            pushed_at: now,
            options: if adopt {
                vec![SKIP_OPTION.to_owned()]
            } else {
                Vec::new()
            },
            refs,
        };
        let (planned, _) = self.plan(event).await?;
        self.0.queue.record(vec![planned]).await?;
        self.0.queue.write_sequence().await;
        Ok(())
    }
}

/// What moved between two pictures of a repository's refs, by name.
fn differences(seen: &[SeenRef], current: &[(RefName, ObjectId)]) -> Vec<RefUpdate> {
    let mut before: BTreeMap<&RefName, &ObjectId> = seen
        .iter()
        .map(|seen| (&seen.ref_name, &seen.sha))
        .collect();
    let mut updates = Vec::new();
    for (ref_name, sha) in current {
        let old = before.remove(ref_name);
        if old == Some(sha) {
            continue;
        }
        let Some(none) = none_like(sha) else { continue };
        updates.push(RefUpdate {
            ref_name: ref_name.clone(),
            old_sha: old.cloned().unwrap_or(none),
            new_sha: sha.clone(),
        });
    }
    for (ref_name, sha) in before {
        let Some(none) = none_like(sha) else { continue };
        updates.push(RefUpdate {
            ref_name: ref_name.clone(),
            old_sha: sha.clone(),
            new_sha: none,
        });
    }
    // quire itself writes notes, without an event.
    updates.retain(|update| update.ref_name.as_str() != RUN_NOTES_REF);
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_moved_and_deleted_refs_differ() {
        let id = |digit: &str| digit.repeat(40).parse::<ObjectId>().unwrap();
        let name = |short: &str| format!("refs/heads/{short}").parse::<RefName>().unwrap();
        let seen = [("same", "1"), ("moved", "1"), ("deleted", "1")].map(|(n, d)| SeenRef {
            ref_name: name(n),
            sha: id(d),
        });
        let current = [("same", "1"), ("moved", "2"), ("made", "3")].map(|(n, d)| (name(n), id(d)));
        let found: Vec<_> = differences(&seen, &current)
            .into_iter()
            .map(|u| (u.ref_name.short().to_owned(), u.old_sha, u.new_sha))
            .collect();
        assert_eq!(
            found,
            [
                ("moved".into(), id("1"), id("2")),
                ("made".into(), id("0"), id("3")),
                ("deleted".into(), id("1"), id("0"))
            ]
        );
    }
}
