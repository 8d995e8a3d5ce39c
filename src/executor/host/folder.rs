//! A workspace's folder: laid out from a tar stream, removed whatever lies in it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::super::ExecutorError;
use super::other;
use crate::names::RunId;

const FILL: &str = "lay out the workspace";
const REMOVE: &str = "remove the workspace";

/// Makes `folder` anew and unpacks the stream into it. On failure or when cancelled, nothing is left.
pub(super) async fn fill(
    folder: &Path,
    tar: BoxStream<'static, io::Result<Bytes>>,
    cancel: &CancellationToken,
) -> Result<(), ExecutorError> {
    // The stream ends when cancelled, so the thread that reads it ends as well.
    let stream = tar.take_until(Box::pin(cancel.clone().cancelled_owned()));
    let checked = cancel.clone();
    let target = folder.to_owned();
    let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(stream)));
    let filled = run_blocking(FILL, move || {
        remove_folder(&target)?;
        fs::create_dir_all(&target)?;
        let unpacked = unpack(&mut reader, &target);
        if checked.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // What follows the archive's end is read as well: its source may be waiting to write it.
        unpacked.and_then(|()| io::copy(&mut reader, &mut io::sink()).map(|_| ()))
    })
    .await;
    if filled.is_ok() && !cancel.is_cancelled() {
        return Ok(());
    }
    remove(folder.to_owned()).await?;
    if cancel.is_cancelled() {
        Err(ExecutorError::Cancelled)
    } else {
        filled
    }
}

/// Unpacks without leaving `target`: the tar crate refuses `..`, absolute names, and names that
/// lead through a symbolic link of the archive to the outside.
fn unpack(reader: &mut impl io::Read, target: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(false);
    archive.set_preserve_ownerships(false);
    archive.set_overwrite(true);
    archive.unpack(target)
}

/// Removes a folder and everything in it, also what was made read-only. One that is missing is fine.
pub(super) async fn remove(folder: PathBuf) -> Result<(), ExecutorError> {
    run_blocking(REMOVE, move || remove_folder(&folder)).await
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    let mut last = None;
    // Something may still be writing, or a folder may be closed: open it and try again.
    for _ in 0..5 {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(());
            }
            Err(error) => {
                open_up(folder);
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::Other.into()))
}

/// Makes every folder below writable; what fails shows when it is removed.
fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// The workspaces `…/<run id>/workspace` of the runs that are wanted.
pub(super) async fn workspaces(
    runs: PathBuf,
    wanted: impl Fn(RunId) -> bool + Send + 'static,
) -> Result<Vec<(RunId, PathBuf)>, ExecutorError> {
    run_blocking("look for workspaces", move || {
        let mut found = Vec::new();
        // runs/[group/]repo/run/workspace
        find(&runs, 3, &wanted, &mut found)?;
        Ok(found)
    })
    .await
}

fn find(
    folder: &Path,
    depth: u8,
    wanted: &dyn Fn(RunId) -> bool,
    found: &mut Vec<(RunId, PathBuf)>,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        // Nothing has run yet, or it went meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(run) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) {
            let workspace = entry.path().join("workspace");
            if wanted(run) && is_folder(&workspace)? {
                found.push((run, workspace));
            }
        } else if depth > 1 && entry.file_type()?.is_dir() {
            find(&entry.path(), depth - 1, wanted, found)?;
        }
    }
    Ok(())
}

fn is_folder(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn run_blocking<T: Send + 'static>(
    attempt: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ExecutorError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| other(attempt, &error)),
        Err(error) => Err(other(attempt, &error)),
    }
}
