//! Makes one backup in the folder of scheduled backups, and proves it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use quire_store::Store;
use quire_types::clock::Millis;
use quire_types::fsutil::rename_durably;
use quire_types::paths::Paths;

use super::error::BackupError;
use super::restore::prove;
use super::stored_backups::BackupFolder;
use super::write::{BackupContent, write};

/// Writes a backup into the folder, proves it, and removes all but the newest `keep`. Returns the file and what is wrong with
/// it: the file of a backup with problems has `unproved` in its name.
///
/// # Errors
/// The backup could not be made. One that was made and could not be proved stays, as an unproved one.
pub async fn make_stored(
    paths: &Paths,
    store: &Store,
    folder: BackupFolder,
    keep: usize,
) -> Result<(PathBuf, Vec<String>), BackupError> {
    let path = folder.path().to_owned();
    fs::create_dir_all(&path).map_err(BackupError::io("create", &path))?;
    let in_folder = |attempt| BackupError::io(attempt, folder.path());
    folder
        .remove_partial()
        .map_err(in_folder("remove old files from"))?;
    let now = store.clock().now();
    let partial = folder.partial(now);
    let (paths, store, target) = (paths.clone(), store.clone(), partial.clone());
    let written = tokio::task::spawn_blocking(move || write_file(&paths, &store, &target));
    let written = written
        .await
        .unwrap_or_else(|error| Err(BackupError::Write(std::io::Error::other(error))));
    if let Err(error) = written {
        // On a full disk it would take the space that everything else needs.
        let _ = folder.remove_partial();
        return Err(error);
    }
    let problems = match prove_file(&partial, &folder, now).await {
        Ok(problems) => problems,
        Err(error) => vec![quire_types::error_chain::chain(&error)],
    };
    let complete = folder.complete(now, problems.is_empty());
    rename_durably(&partial, &complete).map_err(BackupError::io("name", &complete))?;
    folder
        .prune(keep)
        .map_err(in_folder("remove old backups from"))?;
    Ok((complete, problems))
}

fn write_file(paths: &Paths, store: &Store, target: &Path) -> Result<(), BackupError> {
    let content = BackupContent {
        logs: true,
        artifacts: true,
        trash: true,
    };
    let file = create_private(target).map_err(BackupError::io("create", target))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    write(paths, store, content, &mut file)?;
    file.flush()
        .and_then(|()| file.get_ref().sync_all())
        .map_err(BackupError::io("write", target))
}

/// A backup contains keys: only its owner may read it.
fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

async fn prove_file(
    partial: &Path,
    folder: &BackupFolder,
    now: Millis,
) -> Result<Vec<String>, BackupError> {
    let file = File::open(partial).map_err(BackupError::io("open", partial))?;
    let summary = prove(file, &folder.scratch(now)).await?;
    Ok(summary.problems)
}
