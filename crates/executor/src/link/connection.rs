//! The connection to the helper of one run: two tasks, one that reads frames and hands each to the
//! task of its id, and one that writes.
//!
//! ```text
//! helper ─► read ─► task of an id (bounded by its credit) ─► command, file, export
//! helper ◄─ write ◄─┬─ control frames: KILL, CREDIT, START, first
//!                   └─ bulk frames: the tree, input, content of files, one at a time
//! ```
//! Every frame is foreign. The helper may send as much on an id as it has credit for; more, a frame
//! that cannot be decoded, or an answer that fits no question is a violation of the protocol and
//! ends the connection. A task whose caller is slow holds up nothing but itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quire_step::{ToHelper, VERSION};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::frame::{FrameReader, HelperEvent};
use super::place::{HelperPlace, HelperStreams};
use super::task::{HelperTask, TaskTable};
use super::writer::{FrameSender, write_frames};
use crate::error::ExecutorError;

/// Why there is no connection any more.
#[derive(Debug, Clone)]
pub(crate) enum Loss {
    /// The stream ended.
    Ended,
    /// The place did not answer while the helper was silent.
    Unreachable,
    /// The helper sent something that it must not send.
    Violation(String),
}

/// The connection to the helper of one run. When the last clone is dropped, the connection is closed,
/// and the helper ends with everything that it started.
#[derive(Clone)]
pub(crate) struct HelperLink {
    shared: Arc<LinkState>,
    sender: FrameSender,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
    _close: Arc<CloseOnDrop>,
}

/// What the two sides of the connection share.
struct LinkState {
    tasks: TaskTable,
    loss: watch::Sender<Option<Loss>>,
    out_of_memory_kills: AtomicU64,
    /// The newest answer to a PING.
    pong: watch::Sender<u64>,
}

/// Ends all tasks when the connection is dropped.
struct CloseOnDrop(Arc<LinkState>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(Loss::Ended);
    }
}

impl HelperLink {
    /// Starts to read and to write. The first frame of the helper is expected next.
    pub(crate) fn new(streams: HelperStreams, place: Arc<dyn HelperPlace>, idle: Duration) -> Self {
        let shared = Arc::new(LinkState {
            tasks: TaskTable::default(),
            loss: watch::Sender::new(None),
            out_of_memory_kills: AtomicU64::new(0),
            pong: watch::Sender::new(0),
        });
        let (sender, frames) = FrameSender::new();
        let HelperStreams { input, output } = streams;
        let reading = {
            let shared = Arc::clone(&shared);
            async move {
                let loss = shared.read(output, place.as_ref(), idle).await;
                shared.close(loss);
            }
        };
        let writing = {
            let mut loss = shared.loss.subscribe();
            async move {
                // A lost connection is closed at once: while it is open and is not read, the engine may be
                // unable to end the container.
                tokio::select! {
                    () = write_frames(input, frames) => {}
                    _ = loss.wait_for(Option::is_some) => {}
                }
            }
        };
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(reading)),
            AbortOnDropHandle::new(tokio::spawn(writing)),
        ];
        Self {
            _close: Arc::new(CloseOnDrop(Arc::clone(&shared))),
            shared,
            sender,
            _tasks: Arc::new(tasks),
        }
    }

    /// Begins a task with a frame that asks for it; `None` if the connection is lost.
    pub(crate) fn begin(&self, request: &ToHelper<'_>) -> Option<HelperTask> {
        let task = self.shared.tasks.begin(&self.sender)?;
        self.sender.send(task.id(), request);
        Some(task)
    }

    /// Gives the helper a lease in seconds: it ends when that has passed, and not before because
    /// the connection is closed. Returns whether the helper has confirmed it.
    pub(crate) async fn lease(&self, lease: u32) -> bool {
        let nonce = 1;
        let mut pong = self.shared.pong.subscribe();
        self.sender.send(0, &ToHelper::Ping { nonce, lease });
        let mut loss = self.shared.loss.subscribe();
        tokio::select! {
            confirmed = pong.wait_for(|answer| *answer == nonce) => confirmed.is_ok(),
            _ = loss.wait_for(Option::is_some) => false,
        }
    }

    /// Renews the helper's lease as long as the connection exists.
    pub(crate) fn keep_alive(&self, interval: Duration, lease: Duration) {
        let lease = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX);
        let sender = self.sender.clone();
        let mut loss = self.shared.loss.subscribe();
        let renewing = async move {
            let mut ticks = tokio::time::interval(interval);
            for nonce in 2.. {
                ticks.tick().await;
                sender.send(0, &ToHelper::Ping { nonce, lease });
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = renewing => {}
                _ = loss.wait_for(Option::is_some) => {}
            }
        });
    }

    /// How many processes were killed so far because memory ran out, as far as is known.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        self.shared.out_of_memory_kills.load(Ordering::SeqCst)
    }

    /// Whether the connection is known to be lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.loss.borrow().is_some()
    }

    /// Waits until the connection is lost, and returns why.
    pub(crate) async fn lost(&self) -> Loss {
        let mut loss = self.shared.loss.subscribe();
        let lost = loss.wait_for(Option::is_some).await;
        lost.ok()
            .and_then(|loss| loss.clone())
            .unwrap_or(Loss::Ended)
    }
}

impl LinkState {
    /// Ends all tasks; there are no new ones.
    fn close(&self, loss: Loss) {
        self.loss.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(loss);
            is_first
        });
        self.tasks.close();
    }

    /// Reads frames until the connection is lost.
    async fn read(
        &self,
        mut output: BoxStream<'static, Result<Bytes, ExecutorError>>,
        place: &dyn HelperPlace,
        idle: Duration,
    ) -> Loss {
        let mut reader = FrameReader::default();
        loop {
            let Ok(chunk) = tokio::time::timeout(idle, output.next()).await else {
                let is_waiting = self.tasks.is_any_open();
                if is_waiting && place.check_alive().await.is_err() {
                    return Loss::Unreachable;
                }
                continue;
            };
            let Some(Ok(chunk)) = chunk else {
                return Loss::Ended;
            };
            reader.push(&chunk);
            loop {
                match reader.next() {
                    Ok(None) => break,
                    Ok(Some((id, frame))) => {
                        if let Err(violation) = self.dispatch(id, frame) {
                            return Loss::Violation(violation);
                        }
                    }
                    Err(error) => return Loss::Violation(error.to_string()),
                }
            }
        }
    }

    /// Hands a frame to its task.
    fn dispatch(&self, id: u32, frame: HelperEvent) -> Result<(), String> {
        match (id, frame) {
            (0, HelperEvent::OutOfMemory { kills }) => {
                self.out_of_memory_kills.fetch_max(kills, Ordering::SeqCst);
                Ok(())
            }
            (0, HelperEvent::Hello { version: VERSION }) => Ok(()),
            (0, HelperEvent::Hello { version }) => Err(format!(
                "it uses version {version} of the protocol, and quire uses version {VERSION}"
            )),
            (0, HelperEvent::Pong { nonce }) => {
                self.pong.send_replace(nonce);
                Ok(())
            }
            (0, HelperEvent::Failed(failure)) => Err(failure.detail),
            (id, frame) => self.tasks.deliver(id, frame),
        }
    }
}
