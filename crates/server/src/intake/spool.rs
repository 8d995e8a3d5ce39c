//! The spool folder: one JSON file per event, named by the event's id.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::libc;

use super::error::IntakeError;
use quire_types::error_chain::with_sources;
use quire_types::names::EventId;
use quire_types::paths::Paths;
use quire_types::push_event::{EventType, MAX_EVENT_BYTES, PushEvent};

/// A hook writes its draft in a moment; after so long the one who did is dead.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What is wrong with a spool file.
#[derive(Debug, thiserror::Error)]
pub enum SpoolFileError {
    /// Larger than any event.
    #[error("it is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
    /// Not JSON, or not of an event.
    #[error("it is not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// Its name says another id than its content.
    #[error("its name and the id in it differ")]
    WrongId,
    /// An event that no hook writes.
    #[error("only a push may come through the spool")]
    NotAPush,
    /// A folder, link, pipe or the like.
    #[error("it is no plain file")]
    NotAFile,
}

fn spool_error(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IntakeError {
    let path = path.to_owned();
    move |source| IntakeError::Spool {
        attempt,
        path,
        source,
    }
}

/// The events that lie in the spool, oldest first (UUIDv7 sorts by time). Sets aside what is no event's file.
pub(super) fn list(paths: &Paths) -> Result<Vec<EventId>, IntakeError> {
    let folder = paths.spool();
    let mut events = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(spool_error("cannot list", &folder))? {
        let path = entry.map_err(spool_error("cannot list", &folder))?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        // A name that starts with a dot is a file that a hook is writing, or was when it was killed:
        // git had not been told "done" then, and the ref comparison makes up for it.
        if name.starts_with('.') {
            remove_abandoned(&path);
            continue;
        }
        if path == paths.spool_damaged() {
            continue;
        }
        match event_of(&name) {
            Some(event) => events.push(event),
            None => {
                tracing::error!(file = %path.display(), "what lies here in the spool is no event; it is set aside in spool/damaged");
                // One that cannot be moved must not hold the events.
                if let Err(error) = quarantine(paths, &path) {
                    tracing::error!(error = with_sources(&error), "it could not be set aside");
                }
            }
        }
    }
    events.sort_unstable();
    Ok(events)
}

/// Removes a draft that no hook is writing any more.
fn remove_abandoned(draft: &Path) {
    let age = std::fs::symlink_metadata(draft)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|written| written.elapsed().ok());
    if age.is_some_and(|age| age > ABANDONED) {
        // One that stays is looked at again; it does no harm.
        let _ = std::fs::remove_file(draft);
    }
}

/// The event whose file bears this name.
fn event_of(name: &str) -> Option<EventId> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Reads one event; `None` if the file does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Result<PushEvent, SpoolFileError>>, IntakeError> {
    let file = match open(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Some(Err(SpoolFileError::NotAFile))),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(spool_error("cannot open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_EVENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(spool_error("cannot read", path))?;
    Ok(Some(parse(&bytes)))
}

/// Opens a plain file; `None` for anything else. Never waits (for a writer of a pipe), never follows a link.
fn open(path: &Path) -> std::io::Result<Option<File>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
    {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses the content of a spool file: foreign bytes.
///
/// # Errors
/// It is no event that a hook could have written.
pub fn parse(bytes: &[u8]) -> Result<PushEvent, SpoolFileError> {
    if bytes.len() as u64 > MAX_EVENT_BYTES {
        return Err(SpoolFileError::TooLarge);
    }
    let event: PushEvent = serde_json::from_slice(bytes)?;
    if event.event_type == EventType::Push {
        Ok(event)
    } else {
        Err(SpoolFileError::NotAPush)
    }
}

/// Removes a file that is recorded; `false` if it did not exist.
pub(super) fn remove(path: &Path) -> Result<bool, IntakeError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(spool_error("cannot remove", path)(error)),
    }
}

/// Moves a file out of the way, under a name that is free.
pub(super) fn quarantine(paths: &Paths, path: &Path) -> Result<(), IntakeError> {
    let folder = paths.spool_damaged();
    std::fs::create_dir_all(&folder).map_err(spool_error("cannot make", &folder))?;
    let mut name = std::ffi::OsString::from(format!("{}-", EventId::new().short()));
    name.push(path.file_name().unwrap_or(OsStr::new("file")));
    let target: PathBuf = folder.join(name);
    match std::fs::rename(path, &target) {
        // Another task has moved it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.map_err(spool_error("cannot set aside", path)),
    }
}

/// How many files have been set aside.
pub(super) fn count_damaged(paths: &Paths) -> u64 {
    std::fs::read_dir(paths.spool_damaged())
        .map(|entries| entries.count() as u64)
        .unwrap_or(0)
}
