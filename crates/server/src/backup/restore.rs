//! Restores a backup into an empty data folder, and proves a backup by restoring it elsewhere.
//!
//! ```text
//! archive ──unpack──► .restore/data ──verify──► .restore/verified ──move──► the data folder
//! ```
//! Until the marker exists, an interrupted restore has changed nothing and begins anew. After it, the next one moves the
//! rest. `quire init` does not start on a folder with an interrupted restore.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use quire_git::Git;
use quire_store::DatabaseSummary;
use quire_types::clock::Millis;
use quire_types::fsutil::{remove_folder, replace_file_durably, sync_folder};
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use serde::{Deserialize, Serialize};

use super::archive_reader::{UnpackedBackup, unpack};
use super::archive_writer::read_sorted;
use super::error::BackupError;
use super::trash_entries::keep_only;
use crate::trash::TrashedRepo;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSummary {
    pub repos: usize,
    pub runs: u64,
    /// When the backup was made.
    pub created_at_ms: Millis,
    /// The version of quire that made it.
    pub quire: String,
    /// Whether the server was running meanwhile. All runs are held then until the owner decides.
    pub while_running: bool,
    /// What was missing in the backup, and what `git fsck` finds in its repositories.
    pub problems: Vec<String>,
}

/// The folders of a restore.
struct Staging {
    root: PathBuf,
}

impl Staging {
    fn new(paths: &Paths) -> Self {
        Self {
            root: paths.restore(),
        }
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn marker(&self) -> PathBuf {
        self.root.join("verified")
    }
}

/// Restores a backup into the data folder, which has to be empty. A restore that was interrupted after its verification is
/// completed, without reading the input.
///
/// # Errors
/// The folder is not empty, or the backup is damaged, cut off, or of a newer quire. Nothing is changed then.
pub async fn restore<R>(paths: &Paths, input: R) -> Result<RestoreSummary, BackupError>
where
    R: Read + Send + 'static,
{
    let data = paths.data();
    fs::create_dir_all(data).map_err(BackupError::io("create", data))?;
    let staging = Staging::new(paths);
    if let Some(summary) = verified(&staging)? {
        move_into_place(&staging, data)?;
        return Ok(summary);
    }
    require_empty(data)?;
    remove_tree(&staging.root)?;
    let summary = unpack_and_verify(input, staging.data()).await?;
    let text = serde_json::to_vec(&summary).map_err(|error| BackupError::Read(error.into()))?;
    sync_file_system(data)?;
    let marker = staging.marker();
    replace_file_durably(&marker, &text, 0o600).map_err(BackupError::io("write", &marker))?;
    move_into_place(&staging, data)?;
    Ok(summary)
}

/// Restores a backup into a folder that does not exist yet, and removes the folder again.
///
/// # Errors
/// The backup is damaged, cut off, or of a newer quire.
pub(super) async fn prove<R>(input: R, scratch: &Path) -> Result<RestoreSummary, BackupError>
where
    R: Read + Send + 'static,
{
    let result = unpack_and_verify(input, scratch.to_owned()).await;
    remove_tree(scratch)?;
    result
}

/// Unpacks an archive, and checks the database, its rows, and the objects of each repository.
async fn unpack_and_verify<R>(input: R, target: PathBuf) -> Result<RestoreSummary, BackupError>
where
    R: Read + Send + 'static,
{
    let folder = target.clone();
    let unpacked = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&folder).map_err(BackupError::io("create", &folder))?;
        let unpacked = unpack(input, &folder)?;
        check_content(&unpacked, &folder)?;
        Ok::<_, BackupError>(unpacked)
    });
    let UnpackedBackup { header, end } = unpacked
        .await
        .unwrap_or_else(|error| Err(BackupError::Read(io::Error::other(error))))?;
    // Git's configuration file of the appliance need not exist: git then has its defaults.
    let git = Git::new(&Paths::new(&target, target.join("runtime")));
    let mut problems = end.problems;
    for repo in &end.repos {
        if let Some(words) = git.check(repo).await? {
            problems.push(format!("the repository {repo} is damaged: {words}"));
        }
    }
    for trashed in TrashedRepo::list(&git)? {
        if let Some(words) = git.check_in_trash(trashed.entry).await? {
            let repo = trashed.repo;
            problems.push(format!(
                "the repository {repo} in the trash is damaged: {words}"
            ));
        }
    }
    Ok(RestoreSummary {
        repos: end.repos.len(),
        runs: end.runs,
        created_at_ms: header.created_at_ms,
        quire: header.quire,
        while_running: end.while_running,
        problems,
    })
}

fn check_content(unpacked: &UnpackedBackup, folder: &Path) -> Result<(), BackupError> {
    let end = &unpacked.end;
    let database = folder.join("quire.db");
    let summary = DatabaseSummary::read(&database)?;
    let paths = Paths::new(folder, folder);
    let known: Vec<&RepoName> = end.repos.iter().chain(&end.incomplete).collect();
    let listing = Git::new(&paths).list()?;
    let found = listing.repos.iter().filter(|repo| known.contains(repo));
    for (what, found, expected) in [
        ("runs", summary.runs, end.runs),
        ("recorded pushes", summary.pushes, end.pushes),
        ("repositories", found.count() as u64, known.len() as u64),
    ] {
        if found != expected {
            return Err(BackupError::Missing {
                what,
                found,
                expected,
            });
        }
    }
    let expected = end.trash.len() as u64;
    let found = keep_only(&paths, &end.trash)? as u64;
    if found != expected {
        return Err(BackupError::Missing {
            what: "repositories in the trash",
            found,
            expected,
        });
    }
    // They were removed while the backup was made.
    for repo in listing.repos.iter().filter(|repo| !known.contains(repo)) {
        remove_tree(&paths.repo(repo))?;
    }
    // A number ahead of the database makes the server hold all runs at its start.
    if let Some(instance) = summary.instance {
        let number = summary.sequence + i64::from(end.while_running);
        let file = paths.sequence();
        fs::write(&file, format!("{instance} {number}\n"))
            .map_err(BackupError::io("write", &file))?;
    }
    Ok(())
}

/// The summary of a restore that was interrupted after its verification.
fn verified(staging: &Staging) -> Result<Option<RestoreSummary>, BackupError> {
    let marker = staging.marker();
    match fs::read(&marker) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::io("read", &marker)(error)),
    }
}

fn require_empty(data: &Path) -> Result<(), BackupError> {
    let entries = read_sorted(data).map_err(BackupError::io("list", data))?;
    let mut foreign = entries.iter().filter(|name| {
        ![".restore", "lost+found"]
            .iter()
            .any(|known| name.as_path() == Path::new(known))
    });
    match foreign.next() {
        None => Ok(()),
        Some(entry) => Err(BackupError::NotEmpty {
            path: data.to_owned(),
            entry: entry.display().to_string(),
        }),
    }
}

fn move_into_place(staging: &Staging, data: &Path) -> Result<(), BackupError> {
    let from = staging.data();
    for name in read_sorted(&from).map_err(BackupError::io("list", &from))? {
        let target = data.join(&name);
        fs::rename(from.join(&name), &target).map_err(BackupError::io("move to", &target))?;
    }
    sync_folder(data).map_err(BackupError::io("write", data))?;
    remove_tree(&staging.root)
}

/// Everything that was unpacked is on the disk afterwards.
fn sync_file_system(folder: &Path) -> Result<(), BackupError> {
    File::open(folder)
        .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        .map_err(BackupError::io("write", folder))
}

fn remove_tree(folder: &Path) -> Result<(), BackupError> {
    remove_folder(folder).map_err(BackupError::io("remove", folder))
}
