//! The spool folder: one JSON file per event, named by the event's id.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::IntakeError;
use crate::names::EventId;
use crate::paths::Paths;
use crate::run::event::{EventType, MAX_EVENT_BYTES, PushEvent};

/// What is wrong with a spool file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("it is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
    #[error("it is not an event: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its name and the id in it differ")]
    WrongId,
    #[error("only a push may come through the spool")]
    NotAPush,
}

fn spool_error(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IntakeError {
    let path = path.to_owned();
    move |source| IntakeError::Spool { attempt, path, source }
}

/// The events that lie in the spool, oldest first (UUIDv7 sorts by time). Sets aside what is no event's file.
pub(super) fn list(paths: &Paths) -> Result<Vec<EventId>, IntakeError> {
    let folder = paths.spool();
    let mut events = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(spool_error("cannot list", &folder))? {
        let path = entry.map_err(spool_error("cannot list", &folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A name that starts with a dot is a file that a hook is writing, or was when it was killed:
        // git had not been told "done" then, and the ref comparison makes up for it.
        if path.is_dir() || name.starts_with('.') {
            continue;
        }
        match name.strip_suffix(".json").and_then(|stem| stem.parse().ok()) {
            Some(event) => events.push(event),
            None => {
                tracing::error!(file = %path.display(), "a file in the spool is no event; it was set aside in spool/damaged");
                set_aside(paths, &path)?;
            }
        }
    }
    events.sort_unstable();
    Ok(events)
}

/// Reads one event; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Result<PushEvent, Damage>>, IntakeError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(spool_error("cannot open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_EVENT_BYTES + 1).read_to_end(&mut bytes).map_err(spool_error("cannot read", path))?;
    Ok(Some(parse(&bytes)))
}

/// Parses the content of a spool file: foreign bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<PushEvent, Damage> {
    if bytes.len() as u64 > MAX_EVENT_BYTES {
        return Err(Damage::TooLarge);
    }
    let event: PushEvent = serde_json::from_slice(bytes)?;
    if event.event_type == EventType::Push { Ok(event) } else { Err(Damage::NotAPush) }
}

/// Removes a file that is recorded.
pub(super) fn remove(path: &Path) -> Result<(), IntakeError> {
    std::fs::remove_file(path).map_err(spool_error("cannot remove", path))
}

/// Moves a file out of the way, under a name that is free.
pub(super) fn set_aside(paths: &Paths, path: &Path) -> Result<(), IntakeError> {
    let folder = paths.spool_damaged();
    std::fs::create_dir_all(&folder).map_err(spool_error("cannot make", &folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let target: PathBuf = folder.join(format!("{}-{name}", EventId::new().tail()));
    std::fs::rename(path, &target).map_err(spool_error("cannot set aside", path))
}

/// How many files have been set aside.
pub(super) fn count_damaged(paths: &Paths) -> u64 {
    std::fs::read_dir(paths.spool_damaged()).map(|entries| entries.count() as u64).unwrap_or(0)
}
