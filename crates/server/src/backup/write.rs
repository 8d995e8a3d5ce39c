//! Writes a backup.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use quire_git::Git;
use quire_store::{DatabaseSummary, Store};
use quire_types::names::RepoName;
use quire_types::paths::Paths;

use super::archive_writer::{BackupArchive, read_sorted};
use super::error::BackupError;
use super::manifest::{BackupEnd, BackupHeader, END_NAME, FORMAT, HEADER_NAME};
use super::repo_files::RepoCopy;
use crate::rename::Renamer;
use crate::trash::TrashedRepo;

/// What is written beside repositories, database, keys and configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupContent {
    /// The logs of runs.
    pub logs: bool,
    /// The artifacts of runs.
    pub artifacts: bool,
    /// Removed repositories that can be restored.
    pub trash: bool,
}

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    pub repos: usize,
    pub runs: u64,
    /// The size of all files, before compression.
    pub bytes: u64,
    /// What could not be read, and is missing in the backup.
    pub problems: Vec<String>,
}

/// Entries of the data folder that are added in an order of their own, or that a restored appliance makes anew.
const LEFT_OUT: [&str; 19] = [
    "quire.db",
    "quire.db-wal",
    "quire.db-shm",
    "quire.db-journal",
    "repos",
    "spool",
    // Copies of the database.
    "backups",
    "caches",
    "runtime",
    "init.lock",
    "authorized_keys.lock",
    // Who has a backup must not have the values of secrets.
    "secrets.key",
    ".secrets.key.new",
    "secrets-key-file",
    "secrets.lock",
    "endpoint.json",
    "settings-in-force.json",
    "lost+found",
    ".restore",
];

/// Writes a backup of the appliance to `sink`.
///
/// # Errors
/// The archive cannot be written, or the database cannot be copied. What else cannot be read is listed in the summary.
pub fn write(
    paths: &Paths,
    store: &Store,
    content: BackupContent,
    sink: impl Write,
) -> Result<BackupSummary, BackupError> {
    let data = paths.data();
    let mut archive = BackupArchive::new(data, sink)?;
    let header = BackupHeader {
        format: FORMAT,
        quire: env!("CARGO_PKG_VERSION").to_owned(),
        created_at_ms: store.clock().now(),
    };
    archive.add_json(HEADER_NAME, &header)?;
    archive.add_folder(Path::new("spool"), &|_| false)?;
    let copy = DatabaseCopy::path(paths);
    let repositories = Repositories::with_database(paths, store, &copy.0)?;
    let summary = DatabaseSummary::read(&copy.0)?;
    archive.add_file(Path::new("quire.db"), &copy.0)?;
    drop(copy);
    archive.problems.extend(repositories.problems);
    for (path, target) in &repositories.redirects {
        archive.add_symlink(path, target)?;
    }
    let (mut complete, mut incomplete) = (Vec::new(), Vec::new());
    for repo in repositories.repos {
        let folder = Path::new("repos").join(format!("{repo}.git"));
        match archive.add_repo(data, &folder, &repo)? {
            RepoCopy::Complete => complete.push(repo),
            RepoCopy::Incomplete => incomplete.push(repo),
            RepoCopy::Removed => {}
        }
    }
    let trash = match content.trash {
        true => archive.add_trash(&Git::new(paths), &repositories.trash, content)?,
        false => Vec::new(),
    };
    add_rest(&mut archive, data, content)?;
    let end = BackupEnd {
        repos: complete,
        incomplete,
        trash,
        runs: summary.runs,
        pushes: summary.pushes,
        while_running: is_running(paths),
        problems: archive.problems.clone(),
    };
    archive.add_json(END_NAME, &end)?;
    let summary = BackupSummary {
        repos: end.repos.len(),
        runs: end.runs,
        bytes: archive.bytes,
        problems: end.problems,
    };
    archive.finish()?;
    Ok(summary)
}

/// Adds keys, configuration, logs, artifacts, and all other entries of the data folder.
fn add_rest<W: Write>(
    archive: &mut BackupArchive<'_, W>,
    data: &Path,
    content: BackupContent,
) -> Result<(), BackupError> {
    let is_left_out = |path: &Path| {
        LEFT_OUT.iter().any(|name| path == Path::new(name))
            // The runs of removed repositories: of those that are still there, they were added before.
            || ["runs/.trash", "artifacts/.trash"].iter().any(|name| path == Path::new(name))
            || (!content.logs && path == Path::new("runs"))
            || (!content.artifacts && path == Path::new("artifacts"))
            // The workspaces of active runs.
            || (path.starts_with("runs") && path.file_name() == Some("workspace".as_ref()))
    };
    for name in read_sorted(data).map_err(BackupError::io("list", data))? {
        if !is_left_out(&name) {
            archive.add_entry(&name, &is_left_out)?;
        }
    }
    Ok(())
}

/// The repositories of one moment, at which the database was copied.
struct Repositories {
    repos: Vec<RepoName>,
    /// Former names: the path of the link, relative to the data folder, and its target.
    redirects: Vec<(PathBuf, PathBuf)>,
    trash: Vec<TrashedRepo>,
    problems: Vec<String>,
}

impl Repositories {
    /// Copies the database and lists the repositories. Nothing is renamed or removed meanwhile.
    fn with_database(paths: &Paths, store: &Store, copy: &Path) -> Result<Self, BackupError> {
        let renamer = Renamer::new(paths, store.clone());
        let _names = renamer.lock()?;
        store.copy_to(copy)?;
        let git = Git::new(paths);
        let listing = git.list()?;
        let redirects = store.redirects().list()?;
        let link = |name: &RepoName| PathBuf::from("repos").join(format!("{name}.git"));
        let redirects = redirects.iter().filter_map(|redirect| {
            let path = link(&redirect.name);
            Some((path.clone(), fs::read_link(paths.data().join(path)).ok()?))
        });
        Ok(Self {
            repos: listing.repos,
            redirects: redirects.collect(),
            trash: TrashedRepo::list(&git)?,
            problems: listing
                .unreadable
                .iter()
                .map(|entry| format!("{} could not be read: {}", entry.name, entry.error))
                .collect(),
        })
    }
}

/// The copy of the database, which is removed when it has been added to the archive.
struct DatabaseCopy(PathBuf);

impl DatabaseCopy {
    fn path(paths: &Paths) -> Self {
        // The hourly removal of leftovers knows this name.
        let name = format!("backup-{}.partial", std::process::id());
        let path = paths.backups().join(name);
        let _ = fs::create_dir_all(paths.backups());
        let _ = fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for DatabaseCopy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether the server may be running: it answers, or `quire init`, which restarts it, holds its lock.
fn is_running(paths: &Paths) -> bool {
    let lock = File::open(paths.data().join("init.lock")).map(|file| file.try_lock_shared());
    let init_is_running = matches!(lock, Ok(Err(TryLockError::WouldBlock)));
    init_is_running || UnixStream::connect(paths.control_socket()).is_ok()
}
