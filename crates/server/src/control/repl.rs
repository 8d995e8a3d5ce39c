//! The server's side of `run repl`: evaluates the entries of a client one after the other.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::attach_frames::{FrameKind, MAX_FRAME};
use super::frame_stream::{read_frame, stream_kind, write_frame};
use crate::runner::{EntryError, ReplSession};
use quire_types::text::excerpt;

/// How many chunks of output wait for the client.
const OUTPUT_CHUNKS: usize = 256;

/// Serves a session until the client disconnects or `stop` is cancelled.
pub(super) async fn serve(
    mut session: ReplSession,
    reader: impl AsyncRead + Unpin + Send + 'static,
    mut writer: impl AsyncWrite + Unpin,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    // Reading a frame must not be cancelled half-way.
    let (frames, mut received) = mpsc::channel(4);
    let _reading = AbortOnDropHandle::new(tokio::spawn(forward_frames(reader, frames)));
    loop {
        let next = stop.run_until_cancelled(received.recv()).await;
        let entry = match next.ok_or(ErrorKind::ConnectionAborted)? {
            Some((FrameKind::Input, entry)) => entry,
            // The entry had ended before its interrupt arrived.
            Some((FrameKind::Interrupt, _)) => continue,
            Some(_) => return Err(ErrorKind::InvalidData.into()),
            None => return Ok(()),
        };
        let entry = String::from_utf8_lossy(&entry).into_owned();
        let interrupt = CancellationToken::new();
        let (output, mut chunks) = mpsc::channel(OUTPUT_CHUNKS);
        let mut evaluating = std::pin::pin!(session.evaluate(entry, output, interrupt.clone()));
        let end = loop {
            tokio::select! {
                biased;
                Some((stream, bytes)) = chunks.recv() => {
                    write_frame(&mut writer, stream_kind(stream), &bytes).await?;
                }
                end = &mut evaluating => break end,
                frame = received.recv(), if !interrupt.is_cancelled() => match frame {
                    Some((FrameKind::Interrupt, _)) => interrupt.cancel(),
                    // A client that has gone ends its command.
                    None => interrupt.cancel(),
                    Some(_) => return Err(Error::other("an entry before the end of the last one")),
                },
                () = stop.cancelled(), if !interrupt.is_cancelled() => interrupt.cancel(),
            }
        };
        while let Ok((stream, bytes)) = chunks.try_recv() {
            write_frame(&mut writer, stream_kind(stream), &bytes).await?;
        }
        let failure = match &end {
            Ok(value) => {
                if let Some(value) = value {
                    let line = format!("{value}\n");
                    write_frame(&mut writer, FrameKind::Stdout, line.as_bytes()).await?;
                }
                String::new()
            }
            Err(error) => excerpt(&error.to_string(), MAX_FRAME / 8),
        };
        write_frame(&mut writer, FrameKind::EntryEnd, failure.as_bytes()).await?;
        if let Err(EntryError::Ended(_)) = end {
            return Ok(());
        }
    }
}

async fn forward_frames(
    mut reader: impl AsyncRead + Unpin,
    frames: mpsc::Sender<(FrameKind, Vec<u8>)>,
) {
    while let Ok(frame) = read_frame(&mut reader).await {
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}
