//! Schedules: read from the pipeline of each repository's default branch, and what starts when one
//! comes due.
//!
//! Level-triggered, and off the path of the push: where the branch does not stand at the commit
//! that was read last, its pipeline is evaluated again. A schedule's next time stands in the
//! database; one that was missed, however often, comes due once.

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::Runner;
use super::examine::{Unread, names_cron};
use crate::clock::Millis;
use crate::git::GitError;
use crate::names::{EventId, ObjectId, RepoName};
use crate::pipeline::{CronSchedule, Source};
use crate::queue::Sleeper;
use crate::run::Trigger;
use crate::store::{NewRun, NewSchedule, ScheduleRow, StoreError};

/// How late a schedule may be: times are full minutes, and the clock may jump meanwhile.
const POLL: Duration = Duration::from_secs(2);
/// How often every repository is looked at, whatever was heard of it.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A clock that was set back by more than this was wrong before; the times reckoned by it are reckoned again.
const CLOCK_WAS_WRONG: i64 = 48 * 60 * 60 * 1000;
/// No time that ever comes.
const NEVER: Millis = Millis(i64::MAX);

/// Why schedules could not be read or started now.
#[derive(Debug, thiserror::Error)]
enum ScheduleError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    NotNow(String),
}

/// When the next look at every repository is due.
#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    newest: Option<EventId>,
}

impl Runner {
    /// Reads schedules and starts what comes due, again and again.
    pub(super) async fn keep_schedules(&self) {
        let mut looked = Looked::default();
        loop {
            if let Err(error) = self.read_schedules(&mut looked).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "schedules cannot be read now"
                );
            }
            if let Err(error) = self.start_due().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what is scheduled cannot be started now"
                );
            }
            self.0.queue.woken(Sleeper::Schedules, POLL).await;
        }
    }

    async fn read_schedules(&self, looked: &mut Looked) -> Result<(), ScheduleError> {
        let newest = self.0.store.call(|store| store.newest_event()).await?;
        if newest == looked.newest && looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let git = self.0.git.clone();
        let repos = tokio::task::spawn_blocking(move || git.list())
            .await
            .map_err(|_| ScheduleError::NotNow("it was cut off".into()))??;
        let names = repos.clone();
        self.0
            .store
            .call(move |store| store.keep_schedules_of(&names))
            .await?;
        let mut all = true;
        for repo in repos {
            if let Err(error) = self.read_schedules_of(&repo).await {
                tracing::error!(%repo, error = &error as &dyn std::error::Error, "the schedules of a repository cannot be read now");
                all = false;
            }
        }
        self.mend_times().await?;
        // Something that could not be read is tried again at the next wake-up.
        *looked = Looked {
            at: all.then(Instant::now),
            newest,
        };
        Ok(())
    }

    /// Reads the schedules of a repository whose default branch has moved.
    async fn read_schedules_of(&self, repo: &RepoName) -> Result<(), ScheduleError> {
        let branch = self.0.git.head(repo)?;
        let (name, asked) = (repo.clone(), branch.clone());
        let source = match asked {
            Some(branch) => Some(
                self.0
                    .store
                    .call(move |store| store.schedule_source(&name, &branch))
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
                .0
                .store
                .call(move |store| store.forget_schedules(&name))
                .await?);
        };
        if source.and_then(|source| source.read) == Some((branch.clone(), tip.clone())) {
            return Ok(());
        }
        let registered = self.registered(repo, &tip).await;
        let name = repo.clone();
        match registered {
            Ok(new) => Ok(self
                .0
                .store
                .call(move |store| store.set_schedules(&name, &branch, &tip, &new))
                .await?),
            Err(Unread::Wrong(problem)) => {
                tracing::warn!(%repo, sha = %tip, problem, "the pipeline of the default branch cannot be read; its schedules stay as they were");
                Ok(self
                    .0
                    .store
                    .call(move |store| store.note_schedule_problem(&name, &branch, &tip, &problem))
                    .await?)
            }
            Err(Unread::NotNow(why)) => Err(ScheduleError::NotNow(why)),
        }
    }

    /// The schedules that the pipeline of a commit registers.
    async fn registered(
        &self,
        repo: &RepoName,
        sha: &ObjectId,
    ) -> Result<Vec<NewSchedule>, Unread> {
        let files = self.files_of(repo, sha).await?;
        if !names_cron(&files) {
            return Ok(Vec::new());
        }
        let pipeline = self.evaluate(&files).await?;
        let now = self.0.store.clock().now();
        let new = |cron: &crate::pipeline::Cron| {
            (
                cron.name.clone(),
                cron.schedule.clone(),
                next_after(&cron.schedule, now),
            )
        };
        Ok(pipeline.crons().iter().map(new).collect())
    }

    /// Reckons times again that are too far off: the clock was wrong when they were reckoned.
    async fn mend_times(&self) -> Result<(), ScheduleError> {
        let now = self.0.store.clock().now();
        for row in self.0.store.call(|store| store.schedules(None)).await? {
            if row.next_at_ms <= now.plus(CLOCK_WAS_WRONG) {
                continue;
            }
            let next = next_after(&row.schedule, now);
            if row.next_at_ms > next_after(&row.schedule, next) {
                self.0
                    .store
                    .call(move |store| store.fire_schedule(&row, next, None))
                    .await?;
            }
        }
        Ok(())
    }

    async fn start_due(&self) -> Result<(), ScheduleError> {
        let now = self.0.store.clock().now();
        for due in self
            .0
            .store
            .call(move |store| store.due_schedules(now))
            .await?
        {
            let (repo, name) = (due.repo.clone(), due.name.clone());
            match self.start_scheduled(due, now).await {
                Ok(true) => {
                    tracing::info!(%repo, schedule = name, "a schedule came due");
                    self.0.queue.wake();
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%repo, schedule = name, error = &error as &dyn std::error::Error, "a schedule came due and cannot be started now");
                }
            }
        }
        Ok(())
    }

    async fn start_scheduled(&self, due: ScheduleRow, now: Millis) -> Result<bool, ScheduleError> {
        let run = self.scheduled_run(&due).await?;
        let next = next_after(&due.schedule, now);
        crate::fault::point("schedule-before-fire");
        let queued = self
            .0
            .store
            .call(move |store| store.fire_schedule(&due, next, run.as_ref()))
            .await?;
        crate::fault::point("schedule-fired");
        Ok(queued)
    }

    /// The run of a schedule, of the commit at which the branch stands now; none where it is gone.
    async fn scheduled_run(&self, due: &ScheduleRow) -> Result<Option<NewRun>, ScheduleError> {
        if !self.0.git.is_reached_by(&due.repo)? {
            return Ok(None);
        }
        let folder = self.0.paths.repo(&due.repo);
        let found = self
            .0
            .git
            .push_facts(&folder, &[], &[&due.ref_name])
            .await?;
        let (Some(sha), Ok(name)) = (found.refs.into_iter().next().flatten(), due.name.parse())
        else {
            return Ok(None);
        };
        let facts = self
            .0
            .git
            .commit_facts(&folder, std::slice::from_ref(&sha))
            .await?;
        Ok(Some(NewRun {
            trigger: Trigger::Cron,
            source: Source::Cron(name).to_string(),
            unexamined: facts.first().is_some_and(|facts| facts.may_group),
            ..NewRun::of_push(due.repo.clone(), due.ref_name.clone(), sha, due.next_at_ms)
        }))
    }
}

/// When a schedule comes due after this, in the time zone of the system.
fn next_after(schedule: &str, after: Millis) -> Millis {
    CronSchedule::parse(schedule)
        .ok()
        .and_then(|schedule| schedule.next_after(after, &TimeZone::system()))
        .unwrap_or(NEVER)
}
