//! What all clients that are not signed in may use, together and each.

use std::time::Duration;

use quire_config::StrangerAccess;

/// What strangers may see and use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StrangerSettings {
    /// What they see of public repositories.
    pub access: StrangerAccess,
    /// What they may use.
    pub limits: StrangerLimits,
}

/// What strangers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrangerLimits {
    /// Units of cost that a client may use in a minute, after its burst.
    pub units_per_minute: u32,
    /// Units that it may use at once after a pause.
    pub burst: u32,
    /// Clients whose use is remembered.
    pub clients: usize,
    /// Processor time of the threads that read for strangers, in any ten seconds.
    pub processor_time: Duration,
    /// Threads that read for strangers.
    pub reading_threads: usize,
    /// How many of them blames and searches may have.
    pub heavy_threads: usize,
    /// Calls that wait for such a thread: of those that cost little, and of the others.
    pub queue: usize,
    /// How long they, a download and a clone wait.
    pub max_wait: Duration,
    /// Processes of git that serve clones at once.
    pub git_processes: usize,
    /// Archives and patches that are written at once.
    pub downloads: usize,
    /// Live streams at once.
    pub followers: usize,
}

impl Default for StrangerLimits {
    fn default() -> Self {
        Self {
            units_per_minute: 60,
            burst: 120,
            clients: 10_000,
            // A quarter of one processor.
            processor_time: Duration::from_millis(2500),
            reading_threads: 2,
            heavy_threads: 1,
            queue: 8,
            max_wait: Duration::from_secs(2),
            git_processes: 2,
            downloads: 1,
            followers: 64,
        }
    }
}
