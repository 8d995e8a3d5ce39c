//! The program itself over the control socket, for a session whose user may not read it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

use super::protocol::ControlResponse;
use super::send_response::send_response;
use quire_runtime::blocking::run_blocking;

/// How much is read at once.
const CHUNK: usize = 256 << 10;
/// How long a client may take for one chunk: it may pass it on over a slow line.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(300);

/// Sends the size of the program, and then its bytes.
pub(super) async fn send_program(
    program: Option<&Arc<File>>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let Some(program) = program else {
        let message = "the server was not started by `quire init`, and may not read the program";
        let response = ControlResponse::Error {
            message: message.to_owned(),
        };
        return send_response(writer, &response).await;
    };
    let file = program.clone();
    let bytes = blocking(move || Ok(file.metadata()?.len())).await?;
    send_response(writer, &ControlResponse::Program { bytes }).await?;
    let mut sent = 0;
    while sent < bytes {
        let file = program.clone();
        let chunk = blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let read = file.read_at(&mut chunk, sent)?;
            chunk.truncate(read);
            Ok(chunk)
        });
        let chunk = chunk.await?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tokio::time::timeout(CHUNK_TIMEOUT, writer.write_all(&chunk)).await??;
        sent += chunk.len() as u64;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run_blocking(call).await.map_err(io::Error::other)?
}
