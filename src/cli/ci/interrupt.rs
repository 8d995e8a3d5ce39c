//! Being told to stop while a run goes on: Ctrl-C and its relatives.
//!
//! The first signal asks the run to end and clean up, the second one gives up waiting for that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Heard signals.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    /// Fires when the run is to end.
    pub(super) stop: CancellationToken,
    /// Fires when cleaning up is to end as well.
    pub(super) give_up: CancellationToken,
    code: Arc<AtomicU8>,
}

impl Interrupt {
    /// Listens from now on. A signal that the caller has ignored (as `nohup` does) stays so.
    ///
    /// # Errors
    /// The system refuses.
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
                        .hear(signal(kind)?, u8::try_from(128 + number).unwrap_or(1)),
                );
            }
        }
        Ok(this)
    }

    async fn hear(self, mut signals: Signal, code: u8) {
        while signals.recv().await.is_some() {
            if self.stop.is_cancelled() {
                self.give_up.cancel();
            } else {
                self.code.store(code, Ordering::Relaxed);
                self.stop.cancel();
            }
        }
    }

    /// The exit code of who was ended by the signal that came; 1 where none did.
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
