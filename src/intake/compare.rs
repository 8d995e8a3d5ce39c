//! Refs against what the database has seen: repairs what a hook could not tell (killed, full disk),
//! and clears away what a killed git left.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::SKIP;
use super::{Intake, IntakeError, disk};
use crate::names::{EventId, ObjectId, RefName, RepoName};
use crate::run::event::{EventType, PushEvent, RefUpdate};
use crate::store::SeenRef;

/// The object id that stands for "none", as long as the other one.
fn none_like(id: &ObjectId) -> Option<ObjectId> {
    "0".repeat(id.as_str().len()).parse().ok()
}

impl Intake {
    /// Compares every repository once and records what no event told. Call it after the spool is drained.
    /// Gives how many refs had to be made up for.
    pub async fn compare_refs(&self) -> usize {
        let git = self.0.git.clone();
        let listed = move || {
            git.remove_abandoned();
            git.list()
        };
        let repos = match tokio::task::spawn_blocking(listed).await {
            Ok(Ok(repos)) => repos,
            Ok(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the repositories cannot be listed"
                );
                return 0;
            }
            Err(_) => return 0,
        };
        let mut made_up = 0;
        if let Err(error) = self.forget_those_gone(&repos).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "refs of repositories that are gone cannot be forgotten"
            );
        }
        let instance = match self.0.store.call(|store| store.instance_id()).await {
            Ok(instance) => instance,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the refs cannot be compared"
                );
                return 0;
            }
        };
        for repo in repos {
            self.free(&repo).await;
            match self.compare(&repo, &instance).await {
                Ok(refs) => made_up += refs,
                Err(error) => {
                    tracing::error!(%repo, error = &error as &dyn std::error::Error, "the refs cannot be compared")
                }
            }
        }
        made_up
    }

    /// Removes what a git that was killed left in the way of the next push.
    async fn free(&self, repo: &RepoName) {
        let (git, name, now) = (self.0.git.clone(), repo.clone(), self.0.store.clock().now());
        match tokio::task::spawn_blocking(move || git.unlock(&name, now)).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(removed)) => {
                tracing::warn!(%repo, removed, "removed lock files that a killed git had left")
            }
            Ok(Err(error)) => {
                tracing::error!(%repo, error = &error as &dyn std::error::Error, "dead locks cannot be looked for")
            }
        }
    }

    /// Forgets what was seen of repositories that two looks in a row did not find: one of the same name starts afresh.
    /// A volume that is away for a moment must not make everything look new.
    async fn forget_those_gone(&self, there: &[RepoName]) -> Result<(), IntakeError> {
        let known = self
            .0
            .store
            .call(|store| store.repos_with_seen_refs())
            .await?;
        let gone: BTreeSet<RepoName> = known
            .into_iter()
            .filter(|repo| there.binary_search(repo).is_err())
            .collect();
        let before = std::mem::replace(&mut *self.0.gone.lock().await, gone.clone());
        for repo in gone.intersection(&before) {
            let _one_at_a_time = self.0.taking.of(repo).lock().await;
            let (git, name) = (self.0.git.clone(), repo.clone());
            if !disk(move || git.exists(&name)).await?? {
                let name = repo.clone();
                self.0
                    .store
                    .call(move |store| store.forget_seen_refs(&name))
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
            .call(move |store| store.seen_refs(&name))
            .await?;
        let (git, name, id) = (self.0.git.clone(), repo.clone(), instance.to_owned());
        let adopt = !disk(move || git.is_of(&name, &id)).await??;
        let current = self.0.git.refs(&self.0.paths.repo(repo)).await?;
        let refs = differences(&seen, &current.refs);
        let count = refs.len();
        if count > 0 {
            if adopt {
                tracing::warn!(%repo, refs = count, "the repository is new to the database: its refs are taken as they stand, without runs");
            } else {
                tracing::warn!(%repo, refs = count, "refs stand where no recorded push put them; their runs are made now");
            }
            self.record_differences(repo, refs, adopt).await?;
        }
        if adopt {
            let (git, name, id) = (self.0.git.clone(), repo.clone(), instance.to_owned());
            disk(move || git.take_over(&name, &id)).await??;
        }
        Ok(count)
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
                vec![SKIP.to_owned()]
            } else {
                Vec::new()
            },
            refs,
        };
        self.record(event).await?;
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
