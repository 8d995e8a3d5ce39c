//! Writes the commit-graph of a repository some seconds after the last push to it, so that pages read its history fast.
//!
//! A graph that is not written costs time on pages and nothing else, so nothing here is recorded: after a restart the next
//! push, or git's daily maintenance, writes it.

use std::collections::HashMap;
use std::time::Duration;

use quire_git::{Git, MaintenanceOutcome};
use quire_runtime::changes::ChangeNotifier;
use quire_store::{Store, StoreError};
use quire_types::error_chain::chain;
use quire_types::names::{EventId, RepoName};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deps::HousekeepingDeps;

/// How long no push has come before a graph is written.
const QUIET_TIME: Duration = Duration::from_secs(5);
/// The time between two graphs of a repository.
const MIN_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct CommitGraphs {
    git: Git,
    store: Store,
    changes: ChangeNotifier,
}

/// When the graph of a repository was written, and when it will be.
#[derive(Debug, Clone, Copy, Default)]
struct GraphTimes {
    due: Option<Instant>,
    written: Option<Instant>,
}

/// Which graphs are to be written, and when.
#[derive(Debug, Default)]
struct DueGraphs(HashMap<RepoName, GraphTimes>);

impl DueGraphs {
    fn pushed(&mut self, repo: RepoName, now: Instant) {
        let times = self.0.entry(repo).or_default();
        let earliest = times.written.map(|written| written + MIN_INTERVAL);
        times.due = earliest.max(Some(now + QUIET_TIME));
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|times| times.due).min()
    }

    /// Takes one that is due. Repositories to which nothing was pushed for long are forgotten.
    fn take(&mut self, now: Instant) -> Option<RepoName> {
        self.0.retain(|_, times| {
            let is_recent = |written: Instant| now < written + MIN_INTERVAL;
            times.due.is_some() || times.written.is_some_and(is_recent)
        });
        let is_due = |times: &GraphTimes| times.due.is_some_and(|due| due <= now);
        let found = self.0.iter_mut().find(|(_, times)| is_due(times));
        found.map(|(repo, times)| {
            *times = GraphTimes {
                due: None,
                written: Some(now),
            };
            repo.clone()
        })
    }
}

impl CommitGraphs {
    pub(super) fn new(deps: &HousekeepingDeps) -> Self {
        Self {
            git: Git::new(&deps.paths),
            store: deps.store.clone(),
            changes: deps.changes.clone(),
        }
    }

    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut changes = self.changes.subscribe_repos();
        let newest = self.store.call(|store| store.events().newest()).await;
        let mut newest = newest.unwrap_or_default();
        let mut graphs = DueGraphs::default();
        loop {
            let due = graphs.next();
            let is_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = is_due => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    match self.pushed_since(newest).await {
                        Ok((repos, last)) => {
                            newest = last.or(newest);
                            let now = Instant::now();
                            repos.into_iter().for_each(|repo| graphs.pushed(repo, now));
                        }
                        Err(error) => tracing::debug!("cannot list new pushes: {}", chain(&error)),
                    }
                }
            }
            while let Some(repo) = graphs.take(Instant::now()) {
                if stop.is_cancelled() {
                    return;
                }
                if self.write(&repo, stop).await == MaintenanceOutcome::Stopped {
                    graphs.pushed(repo, Instant::now());
                }
            }
        }
    }

    async fn pushed_since(
        &self,
        event: Option<EventId>,
    ) -> Result<(Vec<RepoName>, Option<EventId>), StoreError> {
        let pushed = move |store: &Store| store.events().repos_since(event);
        self.store.call(pushed).await
    }

    async fn write(&self, repo: &RepoName, stop: &CancellationToken) -> MaintenanceOutcome {
        let written = self.git.write_commit_graph(repo, stop.cancelled()).await;
        written.unwrap_or_else(|error| {
            // A repository that was removed meanwhile has none either.
            tracing::debug!("cannot write the commit-graph of {repo}: {}", chain(&error));
            MaintenanceOutcome::Done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_due_after_the_last_push_and_once_a_minute() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (app, other): (RepoName, RepoName) = ("app".parse().unwrap(), "other".parse().unwrap());
        let mut graphs = DueGraphs::default();
        assert_eq!(graphs.next(), None);
        graphs.pushed(app.clone(), at(0));
        graphs.pushed(app.clone(), at(3));
        assert_eq!(graphs.next(), Some(at(8)));
        assert_eq!(graphs.take(at(7)), None);
        assert_eq!(graphs.take(at(8)), Some(app.clone()));
        assert_eq!((graphs.take(at(8)), graphs.next()), (None, None));
        graphs.pushed(app.clone(), at(10));
        graphs.pushed(other.clone(), at(11));
        assert_eq!(graphs.take(at(16)), Some(other));
        assert_eq!(graphs.next(), Some(at(68)), "a minute after the last one");
        graphs.pushed(app.clone(), at(66));
        assert_eq!(graphs.take(at(71)), Some(app));
        assert_eq!(graphs.take(at(200)), None);
        assert!(graphs.0.is_empty(), "forgotten");
    }
}
