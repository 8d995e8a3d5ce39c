//! Sends one response to a client of the control socket.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

use super::protocol::ControlResponse;

/// How long a client may take to send its request, and to read the response.
pub(super) const IO_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn send_response(
    writer: &mut OwnedWriteHalf,
    response: &ControlResponse,
) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(response)?;
    text.push(b'\n');
    tokio::time::timeout(IO_TIMEOUT, writer.write_all(&text)).await?
}
