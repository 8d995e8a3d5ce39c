//! The durable step: an event as one file in the spool.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::paths::Paths;
use crate::run::event::PushEvent;

/// Why an event is not in the spool.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub(super) struct SpoolError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the event: under a name that the intake passes over, to the disk, then by rename to
/// its own name, and that to the disk too. A reader meets all of it or nothing.
pub(super) fn write(paths: &Paths, event: &PushEvent) -> Result<(), SpoolError> {
    let folder = paths.spool();
    let target = paths.spool_file(event.id);
    let draft = folder.join(format!(".{}.tmp", event.id));
    let at = |path: &PathBuf| {
        let path = path.clone();
        move |source| SpoolError { path, source }
    };
    let mut text =
        serde_json::to_vec(event).map_err(|error| at(&target)(io::Error::other(error)))?;
    text.push(b'\n');
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
    crate::fault::point("hook-in-spool");
    if let Err(source) = written.and_then(|()| fs::rename(&draft, &target)) {
        let _ = fs::remove_file(&draft);
        return Err(at(&draft)(source));
    }
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(&folder))
}
