//! Binds the addresses and sockets of the server.

use std::io::{self, ErrorKind};
use std::time::Duration;

/// How long an address that is in use is tried again before another server is assumed to use it.
const BIND_TIMEOUT: Duration = Duration::from_secs(2);
const BIND_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Binds an address, and retries for a while if it is in use: a server that was killed while it
/// started a child leaves a process that holds its sockets until that child executes its program.
pub(super) async fn bind_with_retry<T>(bind: impl AsyncFn() -> io::Result<T>) -> io::Result<T> {
    let deadline = tokio::time::Instant::now() + BIND_TIMEOUT;
    loop {
        match bind().await {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(BIND_RETRY_DELAY).await;
            }
            result => return result,
        }
    }
}
