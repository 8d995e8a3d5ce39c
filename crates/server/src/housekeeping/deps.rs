//! What housekeeping needs from the rest of the server.

use std::sync::Arc;
use std::time::Duration;

use crate::findings::Findings;
use crate::metrics::Metrics;
use quire_executor::Executor;
use quire_runtime::changes::ChangeNotifier;
use quire_store::Store;
use quire_types::keep_times::KeepTimes;
use quire_types::paths::Paths;
use tokio::sync::watch;

/// How much is kept (`:keep` of the configuration). 0 means no limit, except for the times of removed things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Runs of each repository.
    pub runs: u32,
    pub days: u32,
    /// Bytes of all logs.
    pub logs: u64,
    /// Bytes of all artifacts.
    pub artifacts: u64,
    /// Bytes of all caches.
    pub caches: u64,
    /// Removed things.
    pub times: KeepTimes,
    /// How long the log of operations goes back.
    pub operations: Duration,
}

pub struct HousekeepingDeps {
    pub paths: Paths,
    pub store: Store,
    /// Told about each run whose files were removed.
    pub changes: ChangeNotifier,
    /// They hold the images and caches.
    pub executors: Vec<Arc<dyn Executor>>,
    /// Replaced when the configuration is reloaded.
    pub limits: watch::Receiver<RetentionLimits>,
    pub findings: Findings,
    /// Told how much space removed things take.
    pub metrics: Arc<Metrics>,
}
