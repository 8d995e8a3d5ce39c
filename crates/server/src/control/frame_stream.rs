//! Reads and writes the frames of the attach socket.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::attach_frames::{FrameKind, HEADER_LEN, MAX_FRAME, decode_header, encode_header};
use quire_executor::Stream;

/// The kind of a frame with output.
pub(super) fn stream_kind(stream: Stream) -> FrameKind {
    match stream {
        Stream::Stdout => FrameKind::Stdout,
        Stream::Stderr => FrameKind::Stderr,
    }
}

/// Reads the next frame. Not cancel-safe.
pub(super) async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<(FrameKind, Vec<u8>)> {
    let mut start = [0; HEADER_LEN];
    reader.read_exact(&mut start).await?;
    let (kind, length) = decode_header(start).ok_or(std::io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Ok((kind, bytes))
}

/// Writes bytes as frames of a kind: at least one, which is empty if there are no bytes.
pub(super) async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut chunks = bytes.chunks(MAX_FRAME);
    let mut next = Some(chunks.next().unwrap_or_default());
    while let Some(chunk) = next {
        writer.write_all(&encode_header(kind, chunk.len())).await?;
        writer.write_all(chunk).await?;
        next = chunks.next();
    }
    Ok(())
}
