//! Bare repositories on disk: create, look up, remove.
//!
//! A repository appears and disappears by one rename, so it is never seen incomplete. Folders whose
//! names start with `.` are not repositories (no [`RepoName`] does): `.new` has those being
//! created, `.import` those being imported, `.trash` those that were removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::libc::ELOOP;
use uuid::Uuid;

use super::error::GitError;
use super::git::Git;
use super::object_format::ObjectFormat;
use super::trash_entry::TrashState;
use quire_types::fsutil::{replace_file, sync_folder};
use quire_types::names::RepoName;

/// A file in each repository that quire created or adopted: the id of the instance whose database knows its refs.
pub(super) const INSTANCE: &str = "quire-instance";

impl Git {
    /// Whether a repository of this name exists. A redirect ([`Git::resolve`]) does not count. Fails if that cannot be
    /// determined: an error of the disk does not mean that the repository was removed.
    pub fn exists(&self, repo: &RepoName) -> Result<bool, GitError> {
        Ok(self.exists_or_redirects(repo)? && self.resolve(repo) == *repo)
    }

    /// Whether this is the name of a repository, or redirects to one.
    pub fn exists_or_redirects(&self, repo: &RepoName) -> Result<bool, GitError> {
        is_repository(&self.paths.repo(repo))
    }

    /// Creates an empty bare repository. Returns false if it exists already, also if another process
    /// created it meanwhile.
    pub fn create(&self, repo: &RepoName) -> Result<bool, GitError> {
        self.create_with_format(repo, ObjectFormat::Sha1)
    }

    /// [`Git::create`] for objects of this format.
    pub fn create_with_format(
        &self,
        repo: &RepoName,
        format: ObjectFormat,
    ) -> Result<bool, GitError> {
        if self.exists(repo)? {
            return Ok(false);
        }
        if repo.collides_with_run_id() {
            return Err(GitError::LooksLikeRunId(repo.clone()));
        }
        let fresh = self.init_bare(format, |_| Ok(()))?;
        let is_placed = self.place(&fresh, repo);
        if !matches!(is_placed, Ok(true)) {
            let _ = fs::remove_dir_all(&fresh);
        }
        is_placed
    }

    /// Makes a finished folder, which is on the disk, a repository. Returns false if there is one of this name already.
    pub(super) fn place(&self, fresh: &Path, repo: &RepoName) -> Result<bool, GitError> {
        let target = self.paths.repo(repo);
        match move_into_place(fresh, &target) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) && self.exists(repo)? =>
            {
                Ok(false)
            }
            // There is a link: a rename is pending, or the link is dangling and will be removed soon.
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                Err(GitError::Reserved(repo.clone()))
            }
            Err(source) => Err(GitError::Io {
                action: "create the repository",
                path: target,
                source,
            }),
        }
    }

    /// Whether a repository has objects in Git LFS and nothing else: git-lfs sends them before a first push.
    pub fn has_only_lfs(&self, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(repo);
        let has_only_lfs = || {
            Ok(stat(&path.join("lfs"))?.is_some()
                && !path.join("packed-refs").try_exists()?
                && !has_files(&path.join("refs"))?
                && !has_files(&path.join("objects"))?)
        };
        has_only_lfs().map_err(|source| GitError::Io {
            action: "read",
            path: path.clone(),
            source,
        })
    }

    /// Changes the format of a repository that has only objects in Git LFS. Another one is unchanged.
    pub fn change_format_of_lfs(
        &self,
        repo: &RepoName,
        format: ObjectFormat,
    ) -> Result<(), GitError> {
        if !self.has_only_lfs(repo)? {
            return Ok(());
        }
        let path = self.paths.repo(repo);
        let fresh = self.init_bare(format, |_| Ok(()))?;
        // The format is in the configuration, and nowhere else.
        let changed = fs::rename(fresh.join("config"), path.join("config"));
        let _ = fs::remove_dir_all(&fresh);
        let synced = changed.and_then(|()| sync_folder(&path));
        synced.map_err(|source| GitError::Io {
            action: "change the format of",
            path,
            source,
        })
    }

    /// The format of the ids of a repository.
    pub fn object_format(&self, repo: &RepoName) -> Result<ObjectFormat, GitError> {
        let mut command = self.command();
        command
            .arg("--git-dir")
            .arg(self.paths.repo(repo))
            .args(["rev-parse", "--show-object-format"]);
        let output = Self::run(&mut command, "rev-parse")?;
        Ok(match output.trim_ascii() {
            b"sha256" => ObjectFormat::Sha256,
            _ => ObjectFormat::Sha1,
        })
    }

    /// Initializes a new bare repository in `.new`, with what `finish` adds, and syncs all of it to the disk.
    pub(super) fn init_bare(
        &self,
        format: ObjectFormat,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, GitError> {
        let folder = self.paths.repos().join(".new");
        fs::create_dir_all(&folder).map_err(|source| GitError::Io {
            action: "create",
            path: folder.clone(),
            source,
        })?;
        let fresh = folder.join(Uuid::now_v7().to_string());
        let mut command = self.command();
        // Set here as well as in the configuration, since without it git prints a hint about the default branch.
        command
            .args([
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--initial-branch=main",
            ])
            .arg(format!("--object-format={}", format.as_str()))
            .arg("--")
            .arg(&fresh);
        let finished = || {
            self.write_instance(&fresh)
                .and_then(|()| finish(&fresh))
                .and_then(|()| sync_all(&fresh))
        };
        let finished = || {
            finished().map_err(|source| GitError::Io {
                action: "write",
                path: fresh.clone(),
                source,
            })
        };
        Self::run(&mut command, "init")
            .and_then(|_| finished())
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&fresh);
            })?;
        Ok(fresh)
    }

    /// Creates the repository of [`Git::empty_repo`] if it does not exist.
    pub(super) fn ensure_empty_repo(&self, format: ObjectFormat) -> Result<PathBuf, GitError> {
        let empty = self.empty_repo(format);
        if is_repository(&empty)? {
            return Ok(empty);
        }
        let fresh = self.init_bare(format, |fresh| {
            fs::create_dir_all(fresh.join("info"))?;
            fs::write(
                fresh.join("info/attributes"),
                "* -export-ignore -export-subst\n",
            )
        })?;
        if let Err(source) = fs::rename(&fresh, &empty) {
            let _ = fs::remove_dir_all(&fresh);
            if !is_repository(&empty)? {
                return Err(GitError::Io {
                    action: "create",
                    path: empty,
                    source,
                });
            }
        }
        Ok(empty)
    }

    /// Writes the id of this instance into a repository that is being created.
    fn write_instance(&self, fresh: &Path) -> io::Result<()> {
        match fs::read(self.paths.instance()) {
            Ok(instance) => fs::write(fresh.join(INSTANCE), instance),
            // The server has never run. What is pushed before it does is in the spool.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether this instance of quire created the repository, or adopted it. A new repository that quire
    /// did not create was put there by the user, or is older than the database.
    pub fn belongs_to(&self, repo: &RepoName, instance: &str) -> Result<bool, GitError> {
        let path = self.paths.repo(repo).join(INSTANCE);
        match fs::read(&path) {
            Ok(found) => Ok(found == instance.as_bytes()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(GitError::Io {
                action: "read",
                path,
                source,
            }),
        }
    }

    /// Records that this instance has adopted the repository.
    pub fn adopt(&self, repo: &RepoName, instance: &str) -> Result<(), GitError> {
        let path = self.paths.repo(repo).join(INSTANCE);
        replace_file(&path, instance.as_bytes(), 0o644).map_err(|source| GitError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Removes the folder of a repository's group if it is empty.
    pub(super) fn remove_empty_group(&self, repo: &Path) {
        if let Some(group) = repo.parent().filter(|parent| *parent != self.paths.repos()) {
            let _ = fs::remove_dir(group);
        }
    }

    /// Deletes a repository: renames it into the trash, where it cannot be restored from, and then deletes it there.
    pub fn remove(&self, repo: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(repo);
        if !self.exists(repo)? {
            return Err(GitError::NoRepository(repo.clone()));
        }
        let entry = self.create_trash_entry(TrashState::Deleting)?;
        fs::rename(&path, self.trash_folder(entry).join("repo.git")).map_err(|source| {
            GitError::Io {
                action: "remove",
                path: path.clone(),
                source,
            }
        })?;
        self.remove_empty_group(&path);
        self.delete_trash_folder(entry)
    }

    /// Removes a repository that has neither refs nor objects in Git LFS, unless there is a push to it. Returns whether it was removed.
    pub fn remove_if_empty(&self, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(repo);
        let failed = |source| GitError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let is_empty = || {
            let lock = fs::File::open(&path)?;
            if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                return Ok(None);
            }
            let is_used = path.join("packed-refs").try_exists()?
                || has_files(&path.join("refs"))?
                || has_files_if_there(&path.join("lfs"))?;
            Ok((!is_used).then_some(lock))
        };
        // A push that begins now waits for the lock, and then finds that the repository is gone.
        match is_empty().map_err(failed)? {
            Some(_lock) => self.remove(repo).map(|()| true),
            None => Ok(false),
        }
    }
}

/// Syncs everything below a folder to the disk. Git syncs pushed objects, but not the files of a new repository:
/// without this, a power cut can leave an empty `HEAD`, and git does not accept that as a repository.
pub(super) fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

/// Whether there is a file in a folder or in a folder below it.
fn has_files(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || has_files(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// [`has_files`] of a folder that need not exist.
fn has_files_if_there(folder: &Path) -> io::Result<bool> {
    Ok(stat(folder)?.is_some() && has_files(folder)?)
}

/// Moves a new repository to its path. Retries if the folder of the group is removed at the same time,
/// with its last repository.
fn move_into_place(fresh: &Path, target: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..3 {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        last = fs::rename(fresh, target);
        if let (Ok(()), Some(parent)) = (&last, target.parent()) {
            sync_folder(parent)?;
        }
        if !matches!(&last, Err(error) if error.kind() == ErrorKind::NotFound) {
            break;
        }
    }
    last
}

/// Whether the error means that there is nothing, rather than that something cannot be read.
pub(super) fn is_missing(error: &io::Error) -> bool {
    // A reserved name is a link to itself.
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(ELOOP)
}

/// What is at a path, or `None` if there is nothing.
pub(super) fn stat(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a folder is a repository.
fn is_repository(folder: &Path) -> Result<bool, GitError> {
    let head = folder.join("HEAD");
    match stat(&head) {
        Ok(found) => Ok(found.is_some_and(|found| found.is_file())),
        Err(source) => Err(GitError::Io {
            action: "read",
            path: head,
            source,
        }),
    }
}

/// The existing name that a user who typed `wanted` most likely meant.
#[must_use]
pub fn closest_name<'a>(wanted: &RepoName, names: &'a [RepoName]) -> Option<&'a RepoName> {
    let base = |name: &RepoName| {
        name.as_str()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_lowercase()
    };
    // The right name in another group is the likeliest mistake.
    if let Some(same) = names.iter().find(|name| base(name) == base(wanted)) {
        return Some(same);
    }
    let score = |name: &RepoName| strsim::jaro_winkler(wanted.as_str(), name.as_str());
    names
        .iter()
        .map(|name| (score(name), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
