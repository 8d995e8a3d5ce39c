//! The poke: tells `serve` over its socket that an event lies there, and waits a little for the answer.
//!
//! Nothing here may hold a push up: connecting never blocks (a full backlog counts as not
//! there), and reading and writing share one deadline.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::names::EventId;
use crate::run::event::{SocketAnswer, SocketRequest};

/// How long the whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that is read: thousands of runs fit.
const MAX_ANSWER: usize = 8 << 20;

/// Why there is no answer. Never serious: the event is in the spool.
#[derive(Debug, thiserror::Error)]
pub(super) enum PokeError {
    /// Nobody listens.
    #[error("the server is not there")]
    Unreachable(#[source] io::Error),
    /// Somebody listens and says nothing in time.
    #[error("the server does not answer")]
    Silent,
    /// An answer that cannot be understood.
    #[error("the server's answer cannot be understood")]
    Garbled(#[source] serde_json::Error),
}

/// Says that this event lies in the spool, and gives the answer.
pub(super) fn taken(path: &Path, event: EventId) -> Result<SocketAnswer, PokeError> {
    ask(path, &SocketRequest::Taken { event }, PATIENCE)
}

/// One request, one answer.
pub(super) fn ask(
    path: &Path,
    request: &SocketRequest,
    patience: Duration,
) -> Result<SocketAnswer, PokeError> {
    let deadline = Instant::now() + patience;
    let mut stream = dial(path).map_err(PokeError::Unreachable)?;
    let mut line = serde_json::to_vec(request).map_err(PokeError::Garbled)?;
    line.push(b'\n');
    stream
        .set_write_timeout(Some(patience))
        .and_then(|()| stream.write_all(&line))
        .map_err(|_| PokeError::Silent)?;
    let answer = read_line(&mut stream, deadline).map_err(|_| PokeError::Silent)?;
    serde_json::from_slice(&answer).map_err(PokeError::Garbled)
}

/// Connects without ever blocking.
pub(super) fn dial(path: &Path) -> io::Result<UnixStream> {
    let descriptor = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(UnixStream::from(descriptor))
}

fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Some(end) = buffer[..read].iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&buffer[..end]);
            return Ok(line);
        }
        line.extend_from_slice(&buffer[..read]);
        if line.len() > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}
