//! How long helpers live without a word from the appliance, and how long the appliance waits for one of theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How long a helper lives after the last PING.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How long after the end of its connection no helper can be alive: what a PING may take until it is obeyed is added
/// to the lease.
pub(super) const NO_HELPER_AFTER: Duration = Duration::from_secs(45);

/// The interval of PINGs.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long a helper may send nothing until its connection counts as lost.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(15);

/// The connection to the helper of a run, as far as the end of the run depends on it.
#[derive(Debug)]
pub(super) struct HelperContact {
    heard: Mutex<Instant>,
    /// Fires when the connection is to be closed.
    pub(super) closing: CancellationToken,
    closed: OnceLock<Instant>,
    /// Whether the helper has ended the connection, which it does only by its own end.
    closed_by_helper: AtomicBool,
}

impl HelperContact {
    pub(super) fn new() -> Self {
        Self {
            heard: Mutex::new(Instant::now()),
            closing: CancellationToken::new(),
            closed: OnceLock::new(),
            closed_by_helper: AtomicBool::new(false),
        }
    }

    /// Something of the helper has arrived.
    pub(super) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether the helper has been silent for too long.
    pub(super) fn is_silent(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.elapsed() > MAX_SILENCE
    }

    /// Closes the connection: nothing that was sent and has not arrived will arrive any more.
    pub(super) fn close(&self) {
        self.closed.get_or_init(Instant::now);
        self.closing.cancel();
    }

    /// The helper has ended the connection.
    pub(super) fn close_by_helper(&self) {
        self.closed_by_helper.store(true, Ordering::SeqCst);
        self.close();
    }

    pub(super) fn has_helper_closed(&self) -> bool {
        self.closed_by_helper.load(Ordering::SeqCst)
    }

    /// Whether the connection has been closed for so long that no helper can be alive.
    pub(super) fn has_lease_expired(&self) -> bool {
        let closed = self.closed.get();
        closed.is_some_and(|closed| closed.elapsed() > NO_HELPER_AFTER)
    }
}
