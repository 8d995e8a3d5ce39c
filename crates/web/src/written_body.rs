//! Bodies that a blocking thread writes while the client reads them.

use std::io;

use axum::body::Body;
use futures_util::StreamExt;
use quire_runtime::thread_priority::enter_background;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio_util::io::{ReaderStream, SyncIoBridge};

/// How much waits for the client.
const PIPE_BYTES: usize = 64 << 10;

/// What `write` writes, in a thread of its own, which lets others have the processor first if it writes for a stranger. What goes wrong
/// breaks the transfer off, so that a client does not take a part for the whole. When the client disconnects, the next write fails.
pub(super) fn written_body<F>(is_stranger: bool, write: F) -> Body
where
    F: FnOnce(io::BufWriter<SyncIoBridge<DuplexStream>>) -> io::Result<()> + Send + 'static,
{
    let (reader, writer) = tokio::io::duplex(PIPE_BYTES);
    let writer = io::BufWriter::new(SyncIoBridge::new(writer));
    let (end, ended) = oneshot::channel();
    let work = move || {
        let _ = end.send(write(writer));
    };
    // A thread that is used again by others cannot lower its priority.
    let started = match is_stranger {
        true => std::thread::Builder::new()
            .name("write-body".to_owned())
            .spawn(|| {
                enter_background();
                work();
            })
            .map(drop),
        false => {
            tokio::task::spawn_blocking(work);
            Ok(())
        }
    };
    let outcome = async move {
        let written = match started {
            Ok(()) => ended.await.map_err(io::Error::other).flatten(),
            Err(error) => Err(error),
        };
        written.err().map(Err)
    };
    let end = futures_util::stream::once(outcome).filter_map(std::future::ready);
    Body::from_stream(ReaderStream::with_capacity(reader, PIPE_BYTES).chain(end))
}
