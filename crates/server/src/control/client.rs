//! The client of the control socket: one request, one response, and never longer than its time limit.
//!
//! The hook uses it within a push, so nothing here may block: connecting fails at once if the server's
//! backlog is full, and writing and reading share one deadline.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};

use super::protocol::{
    CacheEntry, ComponentProblem, ControlRequest, ControlResponse, GcReport, MirrorSyncResult,
    ReloadReport, RunLink,
};
use crate::doctor::DoctorFinding;
use quire_types::names::{EventId, RepoName};
use quire_types::paths::Paths;

/// How long a pusher waits for the runs of a push.
const EVENT_TIMEOUT: Duration = Duration::from_secs(2);
const WAKE_TIMEOUT: Duration = Duration::from_millis(500);
/// The server holds this list in memory.
const PROBLEMS_TIMEOUT: Duration = Duration::from_secs(3);
/// An engine may take long to remove a large volume.
pub const CACHES_TIMEOUT: Duration = Duration::from_secs(130);
/// An attempt to deliver a message has a time limit of its own, which is shorter.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(45);
/// An image may have to be pulled first, and git may check repositories for a minute.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(600);
/// A push of everything to a new remote may take long.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// A configuration is evaluated within seconds.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
const GC_TIMEOUT: Duration = Duration::from_secs(3600);

/// The largest response that is read, in bytes: thousands of runs fit.
pub(super) const MAX_RESPONSE: usize = 8 << 20;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the server is not running")]
    Unreachable(#[source] io::Error),
    #[error("the server did not answer in time")]
    TimedOut,
    /// Of an import.
    #[error(
        "the connection to the server ended before the import; the same command goes on from here"
    )]
    Disconnected,
    #[error("the server sent a response that is not valid JSON")]
    Malformed(#[source] serde_json::Error),
    #[error("the server sent a response to another request")]
    Unexpected,
    /// The server's own sentence.
    #[error("{0}")]
    Failed(String),
}

/// Announces a push event that is in the spool. Returns its runs, and sentences for the pusher, who reached this machine by the
/// address `reached`.
pub fn announce_event(
    paths: &Paths,
    event: EventId,
    reached: Option<IpAddr>,
) -> Result<(Vec<RunLink>, Vec<String>), ControlError> {
    match ask(
        paths,
        &ControlRequest::EventSpooled { event, reached },
        EVENT_TIMEOUT,
    )? {
        ControlResponse::Runs { runs, notes } => Ok((runs, notes)),
        _ => Err(ControlError::Unexpected),
    }
}

/// Tells the server that a push begins, and does not wait for an answer: the push is what counts.
pub fn push_begun(paths: &Paths, repo: RepoName) {
    let request = ControlRequest::PushBegun { repo };
    // Without it the run that may follow starts as any other.
    let _ = connect(&paths.control_socket())
        .map_err(ControlError::Unreachable)
        .and_then(|mut stream| send(&mut stream, &request, WAKE_TIMEOUT));
}

/// Tells the server that another process changed the database. The server also polls, so an error
/// only means that it notices later.
pub fn wake(paths: &Paths) -> Result<(), ControlError> {
    ask(paths, &ControlRequest::Wake, WAKE_TIMEOUT).map(drop)
}

pub fn caches(paths: &Paths, repo: Option<RepoName>) -> Result<Vec<CacheEntry>, ControlError> {
    match ask(paths, &ControlRequest::Caches { repo }, CACHES_TIMEOUT)? {
        ControlResponse::Caches { caches } => Ok(caches),
        _ => Err(ControlError::Unexpected),
    }
}

/// Removes all caches of a repository, or the one with this name. Returns those that were removed, and with their volumes
/// those that a person has to remove on nodes of a swarm.
pub fn clear_caches(
    paths: &Paths,
    repo: RepoName,
    name: Option<String>,
    timeout: Duration,
) -> Result<Vec<CacheEntry>, ControlError> {
    match ask(paths, &ControlRequest::ClearCaches { repo, name }, timeout)? {
        ControlResponse::Caches { caches } => Ok(caches),
        _ => Err(ControlError::Unexpected),
    }
}

/// Starts a garbage collection and waits until it has ended.
pub fn collect_garbage(paths: &Paths) -> Result<GcReport, ControlError> {
    match ask(paths, &ControlRequest::CollectGarbage, GC_TIMEOUT)? {
        ControlResponse::Collected(report) => Ok(report),
        _ => Err(ControlError::Unexpected),
    }
}

pub fn problems(paths: &Paths) -> Result<Vec<ComponentProblem>, ControlError> {
    match ask(paths, &ControlRequest::ListProblems, PROBLEMS_TIMEOUT)? {
        ControlResponse::Problems { problems } => Ok(problems),
        _ => Err(ControlError::Unexpected),
    }
}

/// Lets the server check everything, and waits until that is done.
pub fn examine(paths: &Paths) -> Result<Vec<DoctorFinding>, ControlError> {
    match ask(paths, &ControlRequest::Doctor, DOCTOR_TIMEOUT)? {
        ControlResponse::Examined { findings } => Ok(findings),
        _ => Err(ControlError::Unexpected),
    }
}

/// Sends a test message to a target of notifications, and waits until it is delivered.
pub fn test_notification(paths: &Paths, target: &str) -> Result<(), ControlError> {
    let request = ControlRequest::TestNotification {
        target: target.to_owned(),
    };
    ask(paths, &request, NOTIFICATION_TIMEOUT).map(drop)
}

/// Pushes a repository to one of its mirrors, or to all, and waits until that has ended.
pub fn sync_mirrors(
    paths: &Paths,
    repo: RepoName,
    name: Option<String>,
    new_host_key: bool,
) -> Result<Vec<MirrorSyncResult>, ControlError> {
    let request = ControlRequest::SyncMirrors {
        repo,
        name,
        new_host_key,
    };
    match ask(paths, &request, MIRROR_TIMEOUT)? {
        ControlResponse::Mirrors { mirrors } => Ok(mirrors),
        _ => Err(ControlError::Unexpected),
    }
}

/// Lets the server load the configuration again.
pub fn reload(paths: &Paths) -> Result<ReloadReport, ControlError> {
    match ask(paths, &ControlRequest::Reload, RELOAD_TIMEOUT)? {
        ControlResponse::Reloaded(report) => Ok(report),
        _ => Err(ControlError::Unexpected),
    }
}

fn ask(
    paths: &Paths,
    request: &ControlRequest,
    timeout: Duration,
) -> Result<ControlResponse, ControlError> {
    match exchange(&paths.control_socket(), request, timeout)? {
        ControlResponse::Error { message } => Err(ControlError::Failed(message)),
        response => Ok(response),
    }
}

fn exchange(
    socket: &Path,
    request: &ControlRequest,
    timeout: Duration,
) -> Result<ControlResponse, ControlError> {
    let deadline = Instant::now() + timeout;
    let mut stream = connect(socket).map_err(ControlError::Unreachable)?;
    send(&mut stream, request, timeout)?;
    let response = read_line(&mut stream, deadline).map_err(|_| ControlError::TimedOut)?;
    serde_json::from_slice(&response).map_err(ControlError::Malformed)
}

pub(super) fn send(
    stream: &mut UnixStream,
    request: &ControlRequest,
    timeout: Duration,
) -> Result<(), ControlError> {
    let mut line = serde_json::to_vec(request).map_err(ControlError::Malformed)?;
    line.push(b'\n');
    stream
        .set_write_timeout(Some(timeout))
        .and_then(|()| stream.write_all(&line))
        .map_err(|_| ControlError::TimedOut)
}

/// Connects without ever blocking: a full backlog is an error.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let descriptor = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    nix::sys::socket::connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
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
        if line.len() > MAX_RESPONSE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn socket_path() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        (folder, path)
    }

    #[test]
    fn every_failure_has_a_sentence() {
        let malformed = serde_json::from_str::<ControlResponse>("x").unwrap_err();
        let sentences: Vec<String> = [
            ControlError::Unreachable(io::ErrorKind::NotFound.into()),
            ControlError::TimedOut,
            ControlError::Disconnected,
            ControlError::Malformed(malformed),
            ControlError::Unexpected,
            ControlError::Failed("the database is full".to_owned()),
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        insta::assert_snapshot!(sentences.join("\n"), @r"
        the server is not running
        the server did not answer in time
        the connection to the server ended before the import; the same command goes on from here
        the server sent a response that is not valid JSON
        the server sent a response to another request
        the database is full
        ");
    }

    #[test]
    fn silence_and_nonsense_are_told_apart() {
        let (_folder, path) = socket_path();
        let silent = UnixListener::bind(&path).unwrap();
        assert!(matches!(
            exchange(&path, &ControlRequest::Wake, Duration::from_millis(50)),
            Err(ControlError::TimedOut)
        ));
        drop(silent);
        for (response, malformed) in [
            (&b"nonsense\n"[..], true),
            (b"", false),
            (b"{\"answer\":\"ok\"", false),
        ] {
            std::fs::remove_file(&path).unwrap();
            let listener = UnixListener::bind(&path).unwrap();
            let server = std::thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                (&stream).write_all(response).unwrap();
            });
            let error =
                exchange(&path, &ControlRequest::Wake, Duration::from_secs(10)).unwrap_err();
            assert_eq!(
                matches!(error, ControlError::Malformed(_)),
                malformed,
                "{response:?}: {error}"
            );
            server.join().unwrap();
        }
    }

    #[test]
    fn a_full_backlog_does_not_block() {
        let (_folder, path) = socket_path();
        let _listener = UnixListener::bind(&path).unwrap();
        let mut connected = Vec::new();
        let refused = (0..100_000).find_map(|_| match connect(&path) {
            Ok(stream) => {
                connected.push(stream);
                None
            }
            Err(error) => Some(error),
        });
        // Either the backlog was full or the process was out of descriptors; it never hung.
        assert!(refused.is_some());
    }
}
