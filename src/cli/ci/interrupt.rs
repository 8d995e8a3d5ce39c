//! Signals that stop a local run: interrupt, terminate and hang-up.
//!
//! The first signal stops the run and starts the clean-up; the second one stops waiting for the clean-up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals received so far.
#[derive(Debug, Clone)]
pub(super) struct StopSignals {
    /// Cancelled when the run has to stop.
    pub(super) stop: CancellationToken,
    /// Cancelled when the clean-up has to stop as well.
    pub(super) give_up: CancellationToken,
    code: Arc<AtomicU8>,
}

impl StopSignals {
    /// Starts to listen. A signal that the parent process ignores (as `nohup` does) stays ignored.
    pub(super) fn listen() -> io::Result<Self> {
        let this = Self {
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            code: Arc::new(AtomicU8::new(1)),
        };
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            let number = kind.as_raw_value();
            if !is_ignored(number) {
                tokio::spawn(
                    this.clone()
                        .receive(signal(kind)?, u8::try_from(128 + number).unwrap_or(1)),
                );
            }
        }
        Ok(this)
    }

    async fn receive(self, mut signals: Signal, code: u8) {
        while signals.recv().await.is_some() {
            if self.stop.is_cancelled() {
                self.give_up.cancel();
            } else {
                self.code.store(code, Ordering::Relaxed);
                self.stop.cancel();
            }
        }
    }

    /// The exit code of a process ended by the received signal; 1 if there was none.
    pub(super) fn code(&self) -> u8 {
        self.code.load(Ordering::Relaxed)
    }
}

fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
