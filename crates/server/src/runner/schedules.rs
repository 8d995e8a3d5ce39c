//! Schedules: reads them from the pipeline of each repository's default branch and starts due runs.
//!
//! Level-triggered, and off the path of the push: if the branch is not at the commit that was read last,
//! its pipeline is evaluated again. The next time of a schedule is in the database; a schedule that was
//! missed, however often, starts one run.

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::group::{EvalError, mentions_cron};
use super::run_loop::Runner;
use crate::findings::RepoTask;
use crate::forge::runs;
use crate::queue::Waiter;
use quire_git::{CommitInfo, Git, GitError};
use quire_pipeline::{CronSchedule, Source};
use quire_store::{NewRun, NewSchedule, RepoSchedule, Store, StoreError};
use quire_types::clock::Millis;
use quire_types::error_chain::with_sources;
use quire_types::names::{EventId, ObjectId, RepoName};
use quire_types::run::Trigger;
use quire_types::supersede;

/// The most that a schedule is late; times are whole minutes.
const POLL: Duration = Duration::from_secs(2);
/// The interval at which every repository is scanned, whether or not an event named it.
const FULL_SCAN_INTERVAL: Duration = Duration::from_secs(60);
/// A clock that is set back by more than this was wrong before, so times computed by it are computed again.
const MAX_CLOCK_SKEW_MS: i64 = 48 * 60 * 60 * 1000;
/// The time of a schedule that never comes due.
const NEVER: Millis = Millis(i64::MAX);

/// Why schedules could not be read or started now.
#[derive(Debug, thiserror::Error)]
enum ScheduleError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Transient(String),
}

/// The state of the last scan of the repositories.
#[derive(Default)]
struct ScanState {
    at: Option<Instant>,
    newest: Option<EventId>,
}

impl Runner {
    /// Reads schedules and starts due runs until the runner stops.
    pub(super) async fn schedule_loop(&self) {
        let mut scanned = ScanState::default();
        loop {
            if let Err(error) = self.read_schedules(&mut scanned).await {
                tracing::error!(
                    error = with_sources(&error),
                    "cannot read the schedules now"
                );
            }
            if let Err(error) = self.start_due_runs().await {
                tracing::error!(error = with_sources(&error), "cannot start due runs now");
            }
            self.deps().queue.wait(Waiter::Schedules, POLL).await;
        }
    }

    async fn read_schedules(&self, scanned: &mut ScanState) -> Result<(), ScheduleError> {
        let newest = self
            .deps()
            .store
            .call(|store| store.events().newest())
            .await?;
        if newest == scanned.newest
            && scanned
                .at
                .is_some_and(|at| at.elapsed() < FULL_SCAN_INTERVAL)
        {
            return Ok(());
        }
        let listing = self.deps().git.call(Git::list).await?;
        let findings = &self.deps().findings;
        findings.report_listing(&listing);
        let (names, unreadable) = (listing.repos.clone(), listing.unreadable);
        self.deps()
            .store
            .call(move |store| {
                // What cannot be looked at keeps its schedules.
                let unreadable: Vec<&str> = unreadable.iter().map(|entry| &*entry.name).collect();
                store.schedules().forget_all_but(&names, &unreadable)
            })
            .await?;
        let mut all = true;
        for repo in &listing.repos {
            let read = self.read_schedules_of(repo).await;
            all &= findings
                .report(repo, RepoTask::ReadSchedules, read)
                .is_some();
        }
        self.recompute_after_clock_jump().await?;
        // What could not be read is retried at the next wake-up.
        *scanned = ScanState {
            at: all.then(Instant::now),
            newest,
        };
        Ok(())
    }

    /// Reads the schedules of a repository if its default branch has moved.
    async fn read_schedules_of(&self, repo: &RepoName) -> Result<(), ScheduleError> {
        let name = repo.clone();
        let branch = self
            .deps()
            .git
            .call(move |git| git.head_branch(&name))
            .await?;
        let (name, asked) = (repo.clone(), branch.clone());
        let source = match asked {
            Some(branch) => Some(
                self.deps()
                    .store
                    .call(move |store| store.schedules().source(&name, &branch))
                    .await?,
            ),
            None => None,
        };
        let (Some(branch), Some(tip)) = (
            branch,
            source.as_ref().and_then(|source| source.tip.clone()),
        ) else {
            let name = repo.clone();
            return Ok(self
                .deps()
                .store
                .call(move |store| store.schedules().forget(&name))
                .await?);
        };
        if source.and_then(|source| source.read) == Some((branch.clone(), tip.clone())) {
            return Ok(());
        }
        let registered = self.registered(repo, &tip).await;
        let name = repo.clone();
        match registered {
            Ok(new) => Ok(self
                .deps()
                .store
                .call(move |store| store.schedules().replace(&name, &branch, &tip, &new))
                .await?),
            Err(EvalError::Invalid(problem)) => {
                tracing::warn!(%repo, sha = %tip, problem, "the pipeline of the default branch is invalid; the schedules stay unchanged");
                Ok(self
                    .deps()
                    .store
                    .call(move |store| {
                        store
                            .schedules()
                            .set_problem(&name, &branch, &tip, &problem)
                    })
                    .await?)
            }
            Err(EvalError::Transient(why)) => Err(ScheduleError::Transient(why)),
        }
    }

    /// The schedules that the pipeline of a commit registers.
    async fn registered(
        &self,
        repo: &RepoName,
        sha: &ObjectId,
    ) -> Result<Vec<NewSchedule>, EvalError> {
        let files = self.files_of(repo, sha).await?;
        if !mentions_cron(&files) {
            return Ok(Vec::new());
        }
        let pipeline = self.evaluate(&files).await?;
        let now = self.deps().store.clock().now();
        let new = |cron: &quire_pipeline::Cron| NewSchedule {
            name: cron.name.clone(),
            schedule: cron.schedule.clone(),
            next_at: next_after(&cron.schedule, now),
        };
        Ok(pipeline.crons().iter().map(new).collect())
    }

    /// Computes times again that are too far in the future, because the clock was wrong when they were computed.
    async fn recompute_after_clock_jump(&self) -> Result<(), ScheduleError> {
        let now = self.deps().store.clock().now();
        for row in self
            .deps()
            .store
            .call(|store| store.schedules().list(None))
            .await?
        {
            if row.next_at_ms <= now.plus(MAX_CLOCK_SKEW_MS) {
                continue;
            }
            let next = next_after(&row.schedule, now);
            if row.next_at_ms > next_after(&row.schedule, next) {
                self.deps()
                    .store
                    .call(move |store| {
                        store
                            .schedules()
                            .fire(&row, next, None, supersede::superseded_runs)
                    })
                    .await?;
            }
        }
        Ok(())
    }

    async fn start_due_runs(&self) -> Result<(), ScheduleError> {
        if self
            .deps()
            .store
            .call(|store| store.instance().hold())
            .await?
            .is_some()
        {
            return Ok(());
        }
        let now = self.deps().store.clock().now();
        for due in self
            .deps()
            .store
            .call(move |store| store.schedules().due(now))
            .await?
        {
            let (repo, name) = (due.repo.clone(), due.name.clone());
            match self.start_scheduled(due, now).await {
                Ok(true) => {
                    tracing::info!(%repo, schedule = name, "started the run of a schedule");
                    self.deps().queue.wake();
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%repo, schedule = name, error = with_sources(&error), "cannot start the run of a schedule now");
                }
            }
        }
        Ok(())
    }

    async fn start_scheduled(&self, due: RepoSchedule, now: Millis) -> Result<bool, ScheduleError> {
        let run = self.scheduled_run(&due).await?;
        let next = next_after(&due.schedule, now);
        quire_types::failpoint::hit("schedule-before-fire");
        let queued = self
            .deps()
            .store
            .call(move |store| {
                store
                    .schedules()
                    .fire(&due, next, run.as_ref(), supersede::superseded_runs)
            })
            .await?;
        quire_types::failpoint::hit("schedule-fired");
        Ok(queued)
    }

    /// The run of a schedule for the commit that the branch points to; `None` if the repository or branch was removed.
    async fn scheduled_run(&self, due: &RepoSchedule) -> Result<Option<NewRun>, ScheduleError> {
        let repo = due.repo.clone();
        let exists = self
            .deps()
            .git
            .call(move |git| git.exists_or_redirects(&repo));
        if !exists.await? {
            return Ok(None);
        }
        let folder = self.deps().paths.repo(&due.repo);
        let tip = runs::commit_at(&self.deps().git, &folder, &due.ref_name).await?;
        let (Some((sha, info)), Ok(name)) = (tip, due.name.parse()) else {
            return Ok(None);
        };
        Ok(Some(NewRun {
            subject: info.as_ref().and_then(CommitInfo::subject),
            trigger: Trigger::Cron,
            source: Source::Cron(name).to_string(),
            group_unknown: info.is_some_and(|info| info.may_declare_group),
            ..NewRun::of_push(due.repo.clone(), due.ref_name.clone(), sha, due.next_at_ms)
        }))
    }
}

/// Sets the next time of each schedule that is due, without a run.
pub(crate) async fn skip_due(store: &Store) -> Result<(), StoreError> {
    let now = store.clock().now();
    store
        .call(move |store| {
            for due in store.schedules().due(now)? {
                let next = next_after(&due.schedule, now);
                store
                    .schedules()
                    .fire(&due, next, None, supersede::superseded_runs)?;
            }
            Ok(())
        })
        .await
}

/// The next time of a schedule after `after`, in the time zone of the system.
fn next_after(schedule: &str, after: Millis) -> Millis {
    CronSchedule::parse(schedule)
        .ok()
        .and_then(|schedule| schedule.next_after(after, &TimeZone::system()))
        .unwrap_or(NEVER)
}
