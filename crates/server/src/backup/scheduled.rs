//! Makes backups by schedule. Each one is made and proved by a process of its own, with low priority.
//!
//! The folder of the backups says when the next one is due, so a restart of the server changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quire_runtime::process::{self, Limits};
use quire_store::Store;
use quire_types::clock::{Clock, Millis};
use quire_types::error_chain::chain;
use quire_types::sync::lock;
use quire_types::text::single_line;
use tokio::process::Command;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use super::stored_backups::{BackupFolder, StoredBackup};

/// How often it is checked whether a backup is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(20);
/// The longest time before a failed backup is tried again.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60 * 60);
/// The limit for one backup and its proof.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
/// Between TERM and KILL, at a stop of the server.
const TERM_TIMEOUT: Duration = Duration::from_secs(2);

/// When backups are made, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPlan {
    pub folder: PathBuf,
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
}

/// What is known of the scheduled backups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BackupState {
    /// No folder is configured.
    #[default]
    NotConfigured,
    /// The first one is being made.
    First,
    Known {
        /// The newest one that was restored as a test.
        proved: Option<StoredBackup>,
        /// Why the last attempt failed, or the last backup could not be proved.
        problem: Option<String>,
        /// Whether the newest proved one is older than two intervals.
        overdue: bool,
    },
}

/// The task that makes the backups.
#[derive(Clone)]
pub struct ScheduledBackups {
    store: Store,
    instance: String,
    /// The quire binary.
    program: PathBuf,
    plan: Receiver<Option<BackupPlan>>,
    state: Arc<Mutex<BackupState>>,
}

impl ScheduledBackups {
    #[must_use]
    pub fn new(
        store: Store,
        instance: &str,
        program: PathBuf,
        plan: Receiver<Option<BackupPlan>>,
    ) -> Self {
        Self {
            store,
            instance: instance.to_owned(),
            program,
            plan,
            state: Arc::default(),
        }
    }

    /// What health reports.
    #[must_use]
    pub fn state(&self) -> BackupState {
        lock(&self.state).clone()
    }

    /// The clock that the times of the state were read from.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// Makes backups until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut failed: Option<FailedAttempt> = None;
        loop {
            let plan = self.plan.borrow().clone();
            match plan {
                None => {
                    failed = None;
                    *lock(&self.state) = BackupState::NotConfigured;
                }
                Some(plan) => failed = self.check(&plan, failed, &stop).await,
            }
            let pause = tokio::time::sleep(CHECK_INTERVAL);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Makes a backup if one is due. Returns the failure that is to be retried.
    async fn check(
        &self,
        plan: &BackupPlan,
        failed: Option<FailedAttempt>,
        stop: &CancellationToken,
    ) -> Option<FailedAttempt> {
        let folder = BackupFolder::new(plan.folder.clone(), &self.instance);
        let now = self.store.clock().now();
        let mut listed = list(folder.clone()).await;
        let newest = listed.as_ref().ok().and_then(|backups| backups.first());
        let is_due = match (&failed, newest) {
            (Some(failure), _) => now >= failure.retry_at,
            (None, None) => true,
            // A backup from the future was made by a clock that was ahead.
            (None, Some(newest)) => {
                newest.made_at > now || now.since(newest.made_at) >= millis(plan.every)
            }
        };
        let mut failure = failed;
        if is_due {
            match newest.is_none() && failure.is_none() {
                true => *lock(&self.state) = BackupState::First,
                // An attempt may take hours.
                false => self.report(plan, listed, failure.as_ref()),
            }
            failure = match self.make(plan, stop).await {
                Ok(()) => None,
                Err(AttemptEnd::Stopped) => return failure,
                Err(AttemptEnd::Failed(problem)) => {
                    tracing::warn!("the scheduled backup failed: {problem}");
                    let delay = plan.every.min(MAX_RETRY_DELAY);
                    Some(FailedAttempt {
                        problem,
                        retry_at: now.plus(i64::try_from(millis(delay)).unwrap_or(i64::MAX)),
                    })
                }
            };
            listed = list(folder).await;
        }
        self.report(plan, listed, failure.as_ref());
        failure
    }

    async fn make(&self, plan: &BackupPlan, stop: &CancellationToken) -> Result<(), AttemptEnd> {
        let mut command = Command::new(&self.program);
        command
            .arg("stored-backup")
            .arg(&plan.folder)
            .args(["--keep", &plan.keep.to_string()]);
        let limits = Limits {
            deadline: MAX_DURATION,
            ..Limits::default()
        };
        let stdin = std::process::Stdio::null();
        let ended =
            process::capture_until(&mut command, stdin, limits, stop.cancelled(), TERM_TIMEOUT);
        match ended.await {
            Ok(None) => Err(AttemptEnd::Stopped),
            Ok(Some(ended)) if ended.status.success() => Ok(()),
            Ok(Some(ended)) => {
                let words = single_line(String::from_utf8_lossy(&ended.stderr).trim());
                let words = words.strip_prefix("quire: ").unwrap_or(&words);
                Err(AttemptEnd::Failed(match words {
                    "" => format!("the process ended with {}", ended.status),
                    words => words.to_owned(),
                }))
            }
            Err(error) => Err(AttemptEnd::Failed(chain(&error))),
        }
    }

    fn report(
        &self,
        plan: &BackupPlan,
        listed: Result<Vec<StoredBackup>, String>,
        failure: Option<&FailedAttempt>,
    ) {
        let now = self.store.clock().now();
        let (backups, unreadable) = match listed {
            Ok(backups) => (backups, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let proved = backups.iter().find(|backup| backup.proved).cloned();
        let unproved = backups.first().filter(|backup| !backup.proved);
        let unproved =
            unproved.map(|backup| format!("{} could not be proved", backup.path.display()));
        let overdue = proved
            .as_ref()
            .is_none_or(|backup| now.since(backup.made_at) > millis(plan.every).saturating_mul(2));
        *lock(&self.state) = BackupState::Known {
            proved,
            problem: failure
                .map(|failure| failure.problem.clone())
                .or(unreadable)
                .or(unproved),
            overdue,
        };
    }
}

/// An attempt that failed.
struct FailedAttempt {
    problem: String,
    retry_at: Millis,
}

/// How an attempt ended without a backup.
enum AttemptEnd {
    /// The server stops.
    Stopped,
    Failed(String),
}

async fn list(folder: BackupFolder) -> Result<Vec<StoredBackup>, String> {
    let path = folder.path().display().to_string();
    let listed = tokio::task::spawn_blocking(move || folder.list()).await;
    match listed {
        Ok(Ok(backups)) => Ok(backups),
        Ok(Err(error)) => Err(format!("{path} cannot be listed: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
