//! Bodies that a blocking thread writes while the client reads them.

use std::io;

use axum::body::Body;
use futures_util::StreamExt;
use tokio::io::DuplexStream;
use tokio_util::io::{ReaderStream, SyncIoBridge};

/// How much waits for the client.
const PIPE_BYTES: usize = 64 << 10;

/// What `write` writes, in a thread of its own. What goes wrong breaks the transfer off, so that a client does not take a part for the
/// whole. When the client disconnects, the next write fails.
pub(super) fn written_body<F>(write: F) -> Body
where
    F: FnOnce(io::BufWriter<SyncIoBridge<DuplexStream>>) -> io::Result<()> + Send + 'static,
{
    let (reader, writer) = tokio::io::duplex(PIPE_BYTES);
    let writing =
        tokio::task::spawn_blocking(move || write(io::BufWriter::new(SyncIoBridge::new(writer))));
    let outcome = async move {
        writing
            .await
            .map_err(io::Error::other)
            .and_then(|written| written)
            .err()
            .map(Err)
    };
    let end = futures_util::stream::once(outcome).filter_map(std::future::ready);
    Body::from_stream(ReaderStream::with_capacity(reader, PIPE_BYTES).chain(end))
}
