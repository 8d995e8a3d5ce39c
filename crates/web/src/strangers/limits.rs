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
}

impl Default for StrangerLimits {
    fn default() -> Self {
        Self {
            units_per_minute: 60,
            burst: 120,
            clients: 10_000,
            // A quarter of one processor.
            processor_time: Duration::from_millis(2500),
        }
    }
}
