//! Writes frames to the helper: control frames before bulk.

use std::pin::Pin;

use bytes::Bytes;
use quire_step::{HEADER_LENGTH, ToHelper};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;

/// How many frames of bulk may wait: each task has a window of its own, and the rest waits there.
const BULK_FRAMES: usize = 2;

/// How many bytes small frames are gathered into.
const WRITE_BUFFER: usize = 64 << 10;

/// A frame to write: its head, and the part of its body that is not copied.
struct OutgoingFrame {
    head: Vec<u8>,
    rest: Bytes,
}

/// Sends frames to the writing task. Clones share it.
#[derive(Clone)]
pub(super) struct FrameSender {
    control: mpsc::UnboundedSender<OutgoingFrame>,
    bulk: mpsc::Sender<OutgoingFrame>,
}

/// The frames to be written.
pub(super) struct FrameReceiver {
    control: mpsc::UnboundedReceiver<OutgoingFrame>,
    bulk: mpsc::Receiver<OutgoingFrame>,
}

impl FrameSender {
    pub(super) fn new() -> (Self, FrameReceiver) {
        let (control, control_frames) = mpsc::unbounded_channel();
        let (bulk, bulk_frames) = mpsc::channel(BULK_FRAMES);
        let frames = FrameReceiver {
            control: control_frames,
            bulk: bulk_frames,
        };
        (Self { control, bulk }, frames)
    }

    /// Sends a control frame. If the connection is lost, the reader of the task learns it.
    pub(super) fn send(&self, id: u32, frame: &ToHelper<'_>) {
        let _ = self.control.send(control_frame(id, frame));
    }

    /// Sends input of a task once those before it are on their way.
    pub(super) async fn send_input(&self, id: u32, bytes: Bytes) {
        let mut head = Vec::with_capacity(HEADER_LENGTH);
        let _ = ToHelper::Stdin(&bytes).encode(id, &mut head);
        let _ = self.bulk.send(OutgoingFrame { head, rest: bytes }).await;
    }

    /// Ends the input of a task, after all input that was sent before.
    pub(super) async fn send_end_of_input(&self, id: u32) {
        let _ = self.bulk.send(control_frame(id, &ToHelper::StdinEof)).await;
    }
}

fn control_frame(id: u32, frame: &ToHelper<'_>) -> OutgoingFrame {
    let mut head = Vec::new();
    let rest = frame.encode(id, &mut head);
    let rest = Bytes::copy_from_slice(rest);
    OutgoingFrame { head, rest }
}

impl FrameReceiver {
    async fn next(&mut self) -> Option<OutgoingFrame> {
        tokio::select! {
            biased;
            Some(frame) = self.control.recv() => Some(frame),
            Some(frame) = self.bulk.recv() => Some(frame),
            else => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.bulk.is_empty()
    }
}

/// Writes frames until there can be no more, or the connection breaks, which its reader reports.
pub(super) async fn write_frames(
    input: Pin<Box<dyn AsyncWrite + Send>>,
    mut frames: FrameReceiver,
) {
    let mut input = BufWriter::with_capacity(WRITE_BUFFER, input);
    while let Some(OutgoingFrame { head, rest }) = frames.next().await {
        let written = async {
            input.write_all(&head).await?;
            input.write_all(&rest).await?;
            if frames.is_empty() {
                input.flush().await?;
            }
            std::io::Result::Ok(())
        };
        if written.await.is_err() {
            return;
        }
    }
}
