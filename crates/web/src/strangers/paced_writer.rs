//! Writers for strangers, whose processor time is that of all strangers.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use quire_types::clock::Clock;
use quire_types::thread_time::thread_cpu_time;

use super::cost::CostClass;
use super::processor_share::ProcessorShare;

/// After so much processor time it is recorded.
const STEP: Duration = Duration::from_millis(5);
/// A writer rests no longer at once, so that it notices that its client has gone.
const MAX_REST: Duration = Duration::from_secs(1);

/// What the time of a writer is recorded in.
#[derive(Clone)]
pub(crate) struct Pace {
    pub(super) share: Arc<ProcessorShare>,
    pub(super) clock: Clock,
}

/// Passes everything on, and rests while strangers have used up their time. Without a pace it never rests.
pub(crate) struct PacedWriter<W> {
    inner: W,
    pace: Option<Pace>,
    /// The processor time of the thread that is recorded.
    recorded: Duration,
}

impl<W: Write> PacedWriter<W> {
    /// A writer for the thread that calls this.
    pub(crate) fn new(inner: W, pace: Option<Pace>) -> Self {
        Self {
            inner,
            pace,
            recorded: thread_cpu_time(),
        }
    }

    fn rest(&mut self) {
        let Some(Pace { share, clock }) = &self.pace else {
            return;
        };
        let now = thread_cpu_time();
        let used = now.saturating_sub(self.recorded);
        if used < STEP {
            return;
        }
        self.recorded = now;
        share.add(used, clock.now());
        if let Some(wait) = share.wait(CostClass::Medium, clock.now()) {
            std::thread::sleep(wait.min(MAX_REST));
        }
    }
}

impl<W: Write> Write for PacedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest();
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_writer_counts_for_all_strangers() {
        let pace = Pace {
            share: Arc::new(ProcessorShare::new(Duration::from_secs(3600))),
            clock: Clock::system(),
        };
        let mut writer = PacedWriter::new(Vec::new(), Some(pace.clone()));
        let begin = thread_cpu_time();
        while thread_cpu_time() < begin + 4 * STEP {
            writer.write_all(b"x").unwrap();
        }
        writer.flush().unwrap();
        let used = pace.share.used(pace.clock.now());
        assert!(used >= 2 * STEP, "{used:?}");
        assert!(!writer.inner.is_empty());
    }
}
