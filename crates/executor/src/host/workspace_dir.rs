//! The folder of a workspace: unpacked from a tar stream, found again, removed whatever it holds.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use quire_types::names::RunId;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use crate::error::ExecutorError;
use crate::tar_stream::TarStream;

/// How often a removal is tried.
const REMOVE_ATTEMPTS: u32 = 5;

/// How deep below the folder of all runs their folders are: `[group/]repo/run`.
const MAX_RUN_DEPTH: u8 = 3;

/// Creates `dir` anew and unpacks the stream into it. On an error or a cancellation nothing is
/// left.
pub(super) async fn unpack_tree(
    dir: &Path,
    tar: TarStream,
    cancel: &CancellationToken,
) -> Result<(), ExecutorError> {
    // The stream ends when it is cancelled, so the thread that reads it ends as well.
    let stream = tar.take_until(Box::pin(cancel.clone().cancelled_owned()));
    let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(stream)));
    let cancelled = cancel.clone();
    let target = dir.to_owned();
    let unpacked = run_blocking("unpack the tree", move || {
        remove_dir(&target)?;
        fs::create_dir_all(&target)?;
        let unpacked = unpack(&mut reader, &target);
        if cancelled.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        unpacked?;
        // What follows the end of the archive is read as well: its source may be waiting to write it.
        io::copy(&mut reader, &mut io::sink()).map(|_| ())
    })
    .await;
    if unpacked.is_ok() && !cancel.is_cancelled() {
        return Ok(());
    }
    remove(dir.to_owned()).await?;
    if cancel.is_cancelled() {
        Err(ExecutorError::Cancelled)
    } else {
        unpacked
    }
}

/// Unpacks without leaving `target`: the tar crate rejects `..`, absolute names, and names that
/// lead out through a symbolic link of the archive.
fn unpack(reader: &mut impl io::Read, target: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(false);
    archive.set_preserve_ownerships(false);
    archive.set_overwrite(true);
    archive.unpack(target)
}

/// Removes a folder and everything in it, also what is read-only. Succeeds if it does not exist.
pub(super) async fn remove(dir: PathBuf) -> Result<(), ExecutorError> {
    run_blocking("remove the workspace", move || remove_dir(&dir)).await
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    let mut last = None;
    // A process may still be writing into it, or a folder in it may be read-only.
    for _ in 0..REMOVE_ATTEMPTS {
        match fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.exists() => return Ok(()),
            Err(error) => {
                make_writable(dir);
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::Other.into()))
}

/// Makes every folder below `dir` writable. An error shows when the folder is removed.
fn make_writable(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// Finds the workspaces `…/<run id>/workspace` of the runs that `wanted` selects.
pub(super) async fn find_workspaces(
    runs: PathBuf,
    wanted: impl Fn(RunId) -> bool + Send + 'static,
) -> Result<Vec<(RunId, PathBuf)>, ExecutorError> {
    run_blocking("look for workspaces", move || {
        let mut found = Vec::new();
        find_below(&runs, MAX_RUN_DEPTH, &wanted, &mut found)?;
        Ok(found)
    })
    .await
}

fn find_below(
    dir: &Path,
    depth: u8,
    wanted: &dyn Fn(RunId) -> bool,
    found: &mut Vec<(RunId, PathBuf)>,
) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        // Nothing has run yet, or it was removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(run) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) {
            let workspace = entry.path().join("workspace");
            if wanted(run) && is_dir(&workspace)? {
                found.push((run, workspace));
            }
        } else if depth > 1 && entry.file_type()?.is_dir() {
            find_below(&entry.path(), depth - 1, wanted, found)?;
        }
    }
    Ok(())
}

fn is_dir(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs `work` on a thread that may wait for a disk.
pub(super) async fn run_blocking<T: Send + 'static>(
    attempt: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ExecutorError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| ExecutorError::caused_by(attempt, &error)),
        Err(error) => Err(ExecutorError::caused_by(attempt, &error)),
    }
}
