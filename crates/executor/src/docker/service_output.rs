//! The output of services: passed on as it comes, the last lines kept, and the end noticed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quire_run_files::logs::Stream;
use quire_types::text::format_bytes;
use tokio::sync::Notify;

use crate::api::{OutputSink, StartObserver};
use crate::engine::{ContainerState, DockerError, Engine, OutputFrame};

/// How many of its last lines are shown if a service fails to start, and how much of each.
const MAX_LINES: usize = 20;
const MAX_LINE_BYTES: usize = 400;
/// How long the last output of a service may take to arrive.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest pause between two looks at a container that is about to end.
const MAX_STATE_PAUSE: Duration = Duration::from_secs(1);

/// The services of a run that have ended, each in one sentence. Clones share it.
#[derive(Clone, Default)]
pub(super) struct ServiceFailures(Arc<Mutex<Vec<String>>>);

impl ServiceFailures {
    pub(super) fn sentences(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn push(&self, sentence: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sentence);
    }
}

/// Follows one service to its end.
pub(super) struct OutputFollower {
    pub(super) engine: Engine,
    pub(super) memory: u64,
    pub(super) failures: ServiceFailures,
}

impl OutputFollower {
    pub(super) async fn follow(
        self,
        container: String,
        service: String,
        mut output: BoxStream<'static, Result<OutputFrame, DockerError>>,
        mut sink: Box<dyn OutputSink>,
        last_lines: LastLines,
    ) {
        while let Some(Ok(frame)) = output.next().await {
            let (stream, bytes) = match &frame {
                OutputFrame::Stdout(bytes) => (Stream::Stdout, bytes),
                OutputFrame::Stderr(bytes) => (Stream::Stderr, bytes),
            };
            last_lines.push(bytes);
            sink.output(stream, bytes);
        }
        drop(sink);
        last_lines.close();
        let Some(state) = self.wait_for_end(&container).await else {
            return;
        };
        let how = if state.out_of_memory {
            format!(
                "ran out of memory, the limit is {}",
                format_bytes(self.memory)
            )
        } else {
            format!("ended with exit code {}", state.exit_code)
        };
        self.failures.push(format!("the service `{service}` {how}"));
    }

    /// Returns the state of a container once it has ended, which the engine notices a little after
    /// its outputs are closed. `None` if it was removed with its run, or the engine cannot say.
    async fn wait_for_end(&self, container: &str) -> Option<ContainerState> {
        let mut pause = Duration::from_millis(10);
        loop {
            let state = self.engine.container(container).await.ok().flatten()?;
            if !state.running {
                return Some(state);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_STATE_PAUSE);
        }
    }
}

/// The last lines that a service wrote. Clones share them.
#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<SharedLines>);

#[derive(Default)]
struct SharedLines {
    lines: Mutex<LineBuffer>,
    closed: Notify,
}

#[derive(Default)]
struct LineBuffer {
    complete: VecDeque<Vec<u8>>,
    /// The beginning of the line that has not ended.
    partial: Vec<u8>,
    closed: bool,
}

impl LastLines {
    fn with<T>(&self, work: impl FnOnce(&mut LineBuffer) -> T) -> T {
        work(&mut self.0.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        self.with(|lines| {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                let room = MAX_LINE_BYTES.saturating_sub(lines.partial.len());
                let shown = &piece[..room.min(piece.len())];
                lines.partial.extend_from_slice(shown);
                if piece.ends_with(b"\n") {
                    lines.end_line();
                }
            }
        });
    }

    /// Nothing more will be pushed.
    pub(super) fn close(&self) {
        self.with(|lines| {
            if !lines.partial.is_empty() {
                lines.end_line();
            }
            lines.closed = true;
        });
        self.0.closed.notify_waiters();
    }

    /// Writes the last lines into the log of the run. Waits a little for those of a service that
    /// has ended.
    pub(super) async fn show(&self, service: &str, observer: &mut dyn StartObserver) {
        let closed = self.0.closed.notified();
        if !self.with(|lines| lines.closed) {
            let _ = tokio::time::timeout(LAST_OUTPUT_TIMEOUT, closed).await;
        }
        let lines: Vec<_> = self.with(|lines| lines.complete.iter().cloned().collect());
        let heading = if lines.is_empty() {
            "wrote nothing"
        } else {
            "wrote last:"
        };
        let heading = format!("quire: the service `{service}` {heading}\n");
        observer.line(Stream::Stderr, heading.as_bytes());
        for line in lines {
            let text = String::from_utf8_lossy(&line);
            let line = format!("  {}\n", text.trim_end());
            observer.line(Stream::Stderr, line.as_bytes());
        }
    }
}

impl LineBuffer {
    fn end_line(&mut self) {
        if self.complete.len() == MAX_LINES {
            self.complete.pop_front();
        }
        self.complete.push_back(std::mem::take(&mut self.partial));
    }
}
