//! Runs git's maintenance: one repository after the other, each at most once a day and only if it was pushed
//! to since, never during a push to it, and not before all pushes to it are recorded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quire_git::{Git, GitError, MaintenanceOutcome};
use quire_store::{LastMaintenance, Store};
use quire_types::clock::Millis;
use quire_types::error_chain::chain;
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use tokio_util::sync::CancellationToken;

use super::deps::HousekeepingDeps;
use super::error::HousekeepingError;
use crate::findings::{Findings, RepoTask};
use crate::intake;

/// Before the first check. By then the lock files of a git that was killed with the server are old enough
/// to be removed.
const INITIAL_DELAY: Duration = Duration::from_secs(70);
/// How often the repositories are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) struct GitMaintenance {
    paths: Paths,
    git: Git,
    store: Store,
    findings: Findings,
}

impl GitMaintenance {
    pub(super) fn new(deps: &HousekeepingDeps) -> Self {
        Self {
            paths: deps.paths.clone(),
            git: Git::new(&deps.paths),
            store: deps.store.clone(),
            findings: deps.findings.clone(),
        }
    }

    pub(super) async fn run(&self, stop: &CancellationToken) {
        tokio::join!(self.maintain_repeatedly(stop), self.check_suspects(stop));
    }

    async fn maintain_repeatedly(&self, stop: &CancellationToken) {
        let mut pause = INITIAL_DELAY;
        while stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
        {
            self.maintain_due(stop).await;
            pause = CHECK_INTERVAL;
        }
    }

    /// Lets git check the repositories of which something could not be read: at once, and then until they are sound.
    async fn check_suspects(&self, stop: &CancellationToken) {
        let mut checked = BTreeMap::new();
        loop {
            let again = tokio::time::timeout(CHECK_INTERVAL, self.findings.changed());
            match stop.run_until_cancelled(again).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(_)) => checked.clear(),
            }
            let suspects = self.findings.suspects();
            checked.retain(|repo, _| suspects.contains_key(repo));
            for (repo, failed) in suspects {
                // The same failures again say nothing new.
                if checked.insert(repo.clone(), failed.clone()) == Some(failed) {
                    continue;
                }
                let result = stop.run_until_cancelled(self.git.check(&repo)).await;
                match result {
                    None => return,
                    Some(Ok(Some(words))) => self.findings.add(&repo, RepoTask::Check, words),
                    Some(Ok(None)) => {
                        self.findings.clear(&repo, RepoTask::Check);
                        self.findings.clear(&repo, RepoTask::ReadCommit);
                    }
                    Some(Err(error)) => self.findings.add(&repo, RepoTask::Check, chain(&error)),
                }
            }
        }
    }

    async fn maintain_due(&self, stop: &CancellationToken) {
        let repos = match self.git.call(Git::list).await {
            // What cannot be looked at is a finding of the comparison of refs.
            Ok(listing) => listing.repos,
            Err(error) => {
                tracing::error!(
                    "cannot list the repositories for maintenance: {}",
                    chain(&error)
                );
                return;
            }
        };
        for repo in repos {
            if stop.is_cancelled() {
                return;
            }
            self.remove_stale_locks(&repo).await;
            let name = repo.clone();
            let now = self.store.clock().now();
            match self
                .store
                .call(move |store| store.maintenance().last(&name))
                .await
            {
                Ok(last) if is_due(last.as_ref(), now) => self.maintain(&repo, stop).await,
                Ok(_) => {}
                Err(error) => tracing::error!(
                    "cannot read when {repo} was last maintained: {}",
                    chain(&error)
                ),
            }
        }
    }

    async fn remove_stale_locks(&self, repo: &RepoName) {
        let name = repo.clone();
        let now = self.store.clock().now();
        match self
            .git
            .call(move |git| git.remove_stale_locks(&name, now))
            .await
        {
            Ok(0) => {}
            Ok(removed) => {
                tracing::warn!(%repo, removed, "removed stale lock files of a git process that was killed")
            }
            Err(error) => tracing::warn!(
                "cannot remove stale lock files of {repo}: {}",
                chain(&error)
            ),
        }
    }

    /// Whether git may remove what is unreachable: what pushes overwrote is kept once they are recorded.
    async fn may_collect(&self, repo: &RepoName) -> Result<bool, HousekeepingError> {
        let (paths, name) = (self.paths.clone(), repo.clone());
        let unrecorded = self
            .git
            .call(move |git| intake::has_unrecorded_push(git, &paths, &name));
        if unrecorded.await? {
            return Ok(false);
        }
        let name = repo.clone();
        let seen = self
            .store
            .call(move |store| store.seen_refs().list(&name))
            .await?;
        let current = self.git.refs(&self.paths.repo(repo)).await?;
        Ok(intake::are_recorded(&seen, &current.refs))
    }

    async fn maintain(&self, repo: &RepoName, stop: &CancellationToken) {
        // What cannot be read is a finding of the comparison of refs. It stays due.
        if !self.may_collect(repo).await.unwrap_or(false) {
            return;
        }
        let started = Instant::now();
        let problem = match self.git.maintain(repo, stop.cancelled()).await {
            Ok(MaintenanceOutcome::Done) => {
                tracing::info!(%repo, ms = started.elapsed().as_millis(), "ran git maintenance");
                None
            }
            // It stays due.
            Ok(MaintenanceOutcome::Stopped) => return,
            Err(error) => {
                if self.was_removed(repo).await {
                    return;
                }
                let reason = chain(&error);
                tracing::warn!(
                    "git maintenance of {repo} failed and is retried in a day: {reason}"
                );
                Some(reason)
            }
        };
        let name = repo.clone();
        let recorded = self
            .store
            .call(move |store| store.maintenance().record(&name, problem.as_deref()))
            .await;
        if let Err(error) = recorded {
            tracing::error!(
                "cannot record the git maintenance of {repo}: {}",
                chain(&error)
            );
        }
    }

    /// Whether the repository was removed or renamed during its maintenance.
    async fn was_removed(&self, repo: &RepoName) -> bool {
        let name = repo.clone();
        let exists: Result<bool, GitError> = self.git.call(move |git| git.exists(&name)).await;
        matches!(exists, Ok(false))
    }
}

fn is_due(last: Option<&LastMaintenance>, now: Millis) -> bool {
    let Some(last) = last else { return true };
    // The clock was set back since: when it last ran is not known.
    if last.ended > now {
        return true;
    }
    now.since(last.ended) >= DAY_MS
        && (last.problem.is_some() || last.pushed.is_some_and(|pushed| pushed > last.ended))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::intake::spool_event;
    use quire_store::{CurrentRefs, Journal};
    use quire_types::clock::Clock;
    use quire_types::names::EventId;
    use quire_types::push_event::{EventType, PushEvent, RefUpdate};
    use quire_types::supersede::superseded_runs;

    #[tokio::test]
    async fn nothing_is_collected_before_all_pushes_are_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        let database = paths.database();
        fs::create_dir_all(paths.spool()).unwrap();
        let store = Store::open(&database, &paths.backups(), Journal::Wal, Clock::system());
        let maintenance = GitMaintenance {
            git: Git::new(&paths),
            store: store.unwrap(),
            findings: Findings::default(),
            paths,
        };
        let (git, paths) = (&maintenance.git, &maintenance.paths);
        let (app, other): (RepoName, RepoName) = ("app".parse().unwrap(), "other".parse().unwrap());
        assert!(git.create(&app).unwrap() && git.create(&other).unwrap());
        let may_collect = async || {
            let [app, other] = [&app, &other].map(|repo| maintenance.may_collect(repo));
            (app.await.unwrap(), other.await.unwrap())
        };
        assert_eq!(may_collect().await, (true, true));
        let mark = git.mark_push(&app, false).unwrap();
        assert_eq!(may_collect().await, (false, true), "the mark of a push");
        mark.remove().unwrap();
        let event = PushEvent {
            id: EventId::new(),
            event_type: EventType::Push,
            repo: app.clone(),
            pusher: None,
            pushed_at: Clock::system().now(),
            options: Vec::new(),
            refs: vec![RefUpdate {
                ref_name: "refs/heads/main".parse().unwrap(),
                old_sha: "0".repeat(40).parse().unwrap(),
                new_sha: "1".repeat(40).parse().unwrap(),
            }],
        };
        spool_event(paths, &event).unwrap();
        assert_eq!(may_collect().await, (false, true), "an event in the spool");
        fs::remove_file(paths.spool_file(event.id)).unwrap();
        assert_eq!(may_collect().await, (true, true));
        // A ref that was recorded was deleted, and no event says so.
        maintenance
            .store
            .events()
            .record(&event, &[], &CurrentRefs::new(), superseded_runs)
            .unwrap();
        assert_eq!(may_collect().await, (false, true), "refs that differ");
    }

    #[test]
    fn due_at_most_once_a_day_and_only_after_a_push() {
        let day = i64::try_from(DAY_MS).unwrap();
        let last = |ended: i64, pushed: Option<i64>, problem: bool| {
            Some(LastMaintenance {
                ended: Millis(ended),
                problem: problem.then(|| "why".to_owned()),
                pushed: pushed.map(Millis),
            })
        };
        for (last, now, due) in [
            (None, 0, true),
            (last(0, Some(1), false), day, true),
            (last(0, Some(1), false), day - 1, false),
            (last(0, Some(0), false), day * 30, false),
            (last(0, None, false), day * 30, false),
            (last(0, None, true), day, true),
            (last(day * 365, Some(day * 365 + 1), false), day, true),
            // Noted by a clock that was ahead, and since then by one that is right.
            (last(day * 365, Some(day), false), day, true),
        ] {
            assert_eq!(is_due(last.as_ref(), Millis(now)), due, "{last:?} at {now}");
        }
    }
}
