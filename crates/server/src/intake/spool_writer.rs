//! The durable step: an event as one file in the spool.

use std::fs;
use std::io;
use std::path::PathBuf;

use quire_types::fsutil;
use quire_types::paths::Paths;
use quire_types::push_event::PushEvent;

/// Why an event is not in the spool.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct SpoolError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the event durably and atomically. The intake ignores the draft, whose name begins with a dot.
pub fn write(paths: &Paths, event: &PushEvent) -> Result<(), SpoolError> {
    let folder = paths.spool();
    let target = paths.spool_file(event.id);
    let at = |path: &PathBuf| {
        let path = path.clone();
        move |source| SpoolError { path, source }
    };
    let mut text =
        serde_json::to_vec(event).map_err(|error| at(&target)(io::Error::other(error)))?;
    text.push(b'\n');
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let draft = fsutil::write_draft(&target, &text, 0o600).map_err(at(&target))?;
    quire_types::failpoint::hit("hook-in-spool");
    fsutil::rename_durably(&draft, &target).map_err(at(&target))
}
