//! What a run, a job and a step are: states, failure kinds, allowed transitions. No I/O, no clock.
//!
//! ```text
//! run:  pending ──claim──► active ──► complete | failed
//!          │                 └──────► canceled | superseded (once its container is removed)
//!          └────────────────────────► canceled | superseded | failed
//! job:  pending ──► active ──► complete | failed | skipped | aborted
//!          └─────────────────► skipped | aborted
//! ```

mod executor_name;
mod run_name;
mod run_selector;

pub use executor_name::ExecutorName;
pub use run_name::RunName;
pub use run_selector::{InvalidRunSelector, RunSelector};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::names::{EventId, JobName, ObjectId, RefName, RepoName, RunId};

/// A word that is not one of a closed set; only a foreign database or client can cause it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a {what}; use one of {}", known.join(", "))]
pub struct ParseStateError {
    what: &'static str,
    known: &'static [&'static str],
    word: String,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal, {$($(#[$vmeta:meta])* $variant:ident = $word:literal),* $(,)?}) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word used in the database, in JSON and on pages.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ParseStateError;

            fn from_str(word: &str) -> Result<Self, ParseStateError> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(ParseStateError { what: $what, known: &[$($word),*], word: word.chars().take(40).collect() }),
                }
            }
        }
    };
}

words!(
    /// State of a run.
    RunState, "run state", {
        /// In the queue.
        Pending = "pending",
        /// Claimed by the runner.
        Active = "active",
        /// Every job ended well.
        Complete = "complete",
        /// Ended otherwise; the failure kind says how.
        Failed = "failed",
        /// A person canceled it.
        Canceled = "canceled",
        /// A newer push to the same ref took its place.
        Superseded = "superseded",
    }
);

words!(
    /// State of a job within its run.
    JobState, "job state", {
        /// Waits for its inputs.
        Pending = "pending",
        /// Its function runs.
        Active = "active",
        /// Ended well.
        Complete = "complete",
        /// Ended badly.
        Failed = "failed",
        /// Had nothing to do, or an input failed.
        Skipped = "skipped",
        /// Was running when the run was stopped.
        Aborted = "aborted",
    }
);

words!(
    /// Why a run failed.
    FailureKind, "failure kind", {
        /// The pipeline's file is wrong.
        Pipeline = "pipeline",
        /// The image could not be pulled or built.
        Image = "image",
        /// A job failed.
        Job = "job",
        /// A time limit of run or job was reached.
        Timeout = "timeout",
        /// The container ended under a job.
        ContainerDied = "container-died",
        /// The engine went away while the run was in it.
        DockerUnavailable = "docker-unavailable",
        /// quire stopped or crashed while the run was active.
        Orphaned = "orphaned",
        /// A fault of quire's own.
        Internal = "internal",
    }
);

words!(
    /// What made a run.
    Trigger, "trigger", {
        /// A push.
        Push = "push",
        /// A person.
        Manual = "manual",
        /// A schedule.
        Cron = "cron",
        /// A person, again.
        Retry = "retry",
        /// quire, after the run it names was orphaned.
        Orphan = "orphan",
    }
);

words!(
    /// Why the runner was asked to stop a run that is active.
    StopReason, "stop reason", {
        /// A person asked.
        Canceled = "canceled",
        /// A newer push took its place.
        Superseded = "superseded",
    }
);

impl RunState {
    /// Whether the run has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Active)
    }

    /// Whether a run may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (
                Self::Pending,
                Self::Active | Self::Failed | Self::Canceled | Self::Superseded
            ) | (
                Self::Active,
                Self::Complete | Self::Failed | Self::Canceled | Self::Superseded
            )
        )
    }
}

impl JobState {
    /// Whether the job has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Active)
    }

    /// Whether a job may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Active | Self::Skipped | Self::Aborted),
            Self::Active => next.is_final(),
            _ => false,
        }
    }
}

/// How a run ended; what the one outcome transaction writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every job ended well.
    Complete,
    /// It failed, with one sentence for a person.
    Failed(FailureKind, String),
    /// A person canceled it while it ran.
    Canceled,
    /// A newer run took its place.
    Superseded,
}

impl Outcome {
    /// The state that this outcome puts the run in.
    #[must_use]
    pub fn state(&self) -> RunState {
        match self {
            Self::Complete => RunState::Complete,
            Self::Failed(..) => RunState::Failed,
            Self::Canceled => RunState::Canceled,
            Self::Superseded => RunState::Superseded,
        }
    }

    /// The outcome of a run that was asked to stop and has stopped.
    #[must_use]
    pub fn of_stop_request(reason: StopReason) -> Self {
        match reason {
            StopReason::Superseded => Self::Superseded,
            StopReason::Canceled => Self::Canceled,
        }
    }
}

/// A row of `runs`. Field names are the column names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Primary key.
    pub id: RunId,
    /// The repository.
    pub repo: RepoName,
    /// The number of the run in its repository, from 1.
    pub number: u32,
    /// The ref that was pushed.
    pub ref_name: RefName,
    /// The commit (or tag object) the run is of.
    pub sha: ObjectId,
    /// The first line of the commit's message.
    pub subject: Option<String>,
    /// Where the ref stood before; none for a new ref.
    pub previous_sha: Option<ObjectId>,
    /// The event that made it.
    pub event_id: Option<EventId>,
    /// What made it.
    pub trigger: Trigger,
    /// The pipeline source it starts from, such as `quire/push`.
    pub source: String,
    /// Name of the key that pushed.
    pub pusher: Option<String>,
    /// Only this job and its ancestors (push option `ci.job`).
    pub only_job: Option<String>,
    /// The run this one repeats.
    pub retry_of: Option<RunId>,
    /// Whether it repeats only what failed of that run, and what depends on it.
    pub only_failed: bool,
    /// What the person who started it gave along, each a text.
    pub params: Option<serde_json::Map<String, serde_json::Value>>,
    /// The group it is of: runs of one group do not go on side by side.
    pub group_name: Option<String>,
    /// Whether a newer push takes its place.
    pub supersede: bool,
    /// Whether its pipeline may name a group and has not been evaluated for it yet.
    pub group_unknown: bool,
    /// Whether its container is kept for a while when it fails.
    pub keep: bool,
    /// Whether its images are pulled and built afresh.
    pub rebuild: bool,
    /// The run that took its place.
    pub superseded_by: Option<RunId>,
    /// Why it was asked to stop.
    pub stop_requested: Option<StopReason>,
    /// Its state.
    pub state: RunState,
    /// Why it failed.
    pub failure_kind: Option<FailureKind>,
    /// One sentence: why it waits or how it ended.
    pub message: Option<String>,
    /// When the push was accepted.
    pub pushed_at_ms: Millis,
    /// When it entered the queue.
    pub queued_at_ms: Millis,
    /// When it was claimed.
    pub started_at_ms: Option<Millis>,
    /// When it ended.
    pub finished_at_ms: Option<Millis>,
    /// How its commands run.
    pub executor: Option<ExecutorName>,
    /// The container it has, while it has one.
    pub container_id: Option<String>,
    /// The image it runs in.
    pub image_tag: Option<String>,
    /// Start of the image build.
    pub build_started_at_ms: Option<Millis>,
    /// End of the image build.
    pub build_finished_at_ms: Option<Millis>,
    /// When its container started.
    pub container_started_at_ms: Option<Millis>,
    /// When its container was gone.
    pub container_stopped_at_ms: Option<Millis>,
    /// The workspace on disk, where the executor has one.
    pub workspace_path: Option<String>,
    /// When retention removed its logs.
    pub logs_removed_at_ms: Option<Millis>,
    /// When retention removed its artifacts.
    pub artifacts_removed_at_ms: Option<Millis>,
}

impl Run {
    /// The name that people use for it, such as `tally#14`.
    #[must_use]
    pub fn name(&self) -> RunName {
        RunName {
            repo: self.repo.clone(),
            number: self.number,
        }
    }
}

/// A row of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunJob {
    /// The run it belongs to.
    pub run_id: RunId,
    /// Its id within the pipeline.
    pub job_id: JobName,
    /// Its place in the order of registration, from 0.
    pub position: u32,
    /// What it waits for.
    pub inputs: Vec<String>,
    /// Its state.
    pub state: JobState,
    /// Exit code of the command that failed it, where one did.
    pub exit_code: Option<i32>,
    /// One sentence on how it ended.
    pub message: Option<String>,
    /// What its function returned, as JSON.
    pub output: Option<serde_json::Value>,
    /// The run that it was run in, where its result is used again.
    pub reused_from: Option<RunId>,
    /// When its function was called.
    pub started_at_ms: Option<Millis>,
    /// When it ended.
    pub finished_at_ms: Option<Millis>,
}

/// A row of `steps`: one `sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// The run it belongs to.
    pub run_id: RunId,
    /// Its number in the run, from 1, in the order of starting.
    pub seq: u32,
    /// The job that called it.
    pub job_id: JobName,
    /// The command as a person would type it, secrets redacted.
    pub command: String,
    /// Its exit code; none while it runs, or when it was cut.
    pub exit_code: Option<i32>,
    /// When it started.
    pub started_at_ms: Millis,
    /// When it ended.
    pub finished_at_ms: Option<Millis>,
}

/// A row of `artifacts`: a file or folder that a job kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunArtifact {
    /// The run it belongs to.
    pub run_id: RunId,
    /// Its name, unique in the run.
    pub name: String,
    /// The job that kept it.
    pub job_id: JobName,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// How many files it holds.
    pub files: u64,
    /// Their size together.
    pub bytes: u64,
    /// When it was kept.
    pub created_at_ms: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for state in RunState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("done".parse::<JobState>().is_err());
    }

    #[test]
    fn final_states_are_final() {
        for from in RunState::ALL {
            for to in RunState::ALL {
                assert!(!(from.is_final() && from.may_become(*to)), "{from} -> {to}");
                assert!(!from.may_become(*from));
            }
        }
        for from in JobState::ALL {
            for to in JobState::ALL {
                assert!(!(from.is_final() && from.may_become(*to)), "{from} -> {to}");
            }
        }
    }
}
