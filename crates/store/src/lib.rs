//! The database: the only place with SQL. One writer connection, readers beside it (WAL).
//!
//! Every state change is one conditional UPDATE with the old state in its WHERE clause; one that
//! changes no row is an error. Times that would run backwards (the clock was set back) are
//! raised to the time before them, so the CHECK constraints hold whatever the clock does.
//! Calls are synchronous and short; async code uses [`Store::call`].
//!
//! Each aggregate has a file and an accessor: `store.runs()`, `store.queue()`, `store.images()`. Rows are
//! private to this crate; callers get domain types.

mod access_tokens;
mod artifacts;
mod caches;
mod change_commits;
mod database_copy;
mod error;
mod health_findings;
mod hook_deliveries;
mod images;
mod instance;
mod jobs;
mod kept_containers;
mod landings;
mod maintenance;
mod migrate;
mod mirrors;
mod new_run;
mod open;
mod operations;
mod outbox;
mod overwritten_refs;
mod pull_mirrors;
mod push_events;
mod queue;
mod redirects;
mod repo_rows;
mod repos;
mod retention;
mod retry;
mod row;
mod run_list;
mod runs;
mod schedules;
mod secrets;
mod seen_refs;
mod sessions;
mod sql;
mod steps;
mod supersede;
#[cfg(test)]
mod tests;

pub use access_tokens::{AccessToken, AccessTokens};
pub use artifacts::Artifacts;
pub use caches::{CacheUse, Caches};
pub use change_commits::{ChangeCommit, ChangeCommits};
pub use database_copy::DatabaseSummary;
pub use error::StoreError;
pub use health_findings::{HealthFindings, HealthReport, ToldFinding};
pub use hook_deliveries::{HookDeliveries, HookDelivery};
pub use images::{ImageUse, Images, LastLook, LayerUse};
pub use instance::{Hold, Instance};
pub use jobs::{JobResult, Jobs};
pub use kept_containers::{KeptContainer, KeptContainers};
pub use landings::{Landing, Landings, OpenLanding};
pub use maintenance::{LastMaintenance, Maintenance};
pub use mirrors::{
    MirrorFailure, MirrorKey, MirrorRef, MirrorState, MirroredRef, Mirrors, NewMirror,
};
pub use new_run::NewRun;
pub use open::{Journal, Store};
pub use operations::{LoggedOperation, NewOperation, OperationState, Operations};
pub use outbox::{
    EndedRun, FailureStreak, MAX_FAILURE_STREAK, Outbox, OutboxEntry, OutboxPush, RECENT,
    RecentEnd, TargetProgress,
};
pub use overwritten_refs::{OverwrittenRef, OverwrittenRefs};
pub use pull_mirrors::{PULL_MIRROR, PullMirror, PullMirrors};
pub use push_events::{CurrentRefs, Events, PlannedEvent, RecordedEvent};
pub use queue::QueueTable;
pub use redirects::{Redirect, Redirects};
pub use repos::{BranchRuns, RecentRun, RepoSummary, Repos};
pub use retention::{RemovedFiles, Retention, RetentionCandidate};
pub use retry::{RetryOptions, STOPPED_WITH_QUIRE};
pub use run_list::{RunCounts, RunFilter};
pub use runs::Runs;
pub use schedules::{NewSchedule, RepoSchedule, ScheduleSource, Schedules};
pub use secrets::{SealedSecret, SealedValue, SecretUse, Secrets};
pub use seen_refs::{SeenRef, SeenRefs};
pub use sessions::{SessionOwner, Sessions};
pub use steps::Steps;
pub use supersede::SupersedeDecision;
