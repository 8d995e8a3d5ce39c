//! Bare repositories on disk: made, listed, removed.
//!
//! A repository appears and vanishes by one rename, so nobody meets half of one. Folders whose
//! name starts with `.` are not repositories (no [`RepoName`] does): `.new` holds those being
//! made, `.trash` those being removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Git, GitError};
use crate::names::{RefName, RepoName};

impl Git {
    /// Whether the repository exists.
    #[must_use]
    pub fn exists(&self, repo: &RepoName) -> bool {
        self.paths.repo(repo).join("HEAD").is_file()
    }

    /// Makes an empty bare repository; `false` where it existed already (also when somebody
    /// else made it meanwhile).
    pub fn create(&self, repo: &RepoName) -> Result<bool, GitError> {
        if self.exists(repo) {
            return Ok(false);
        }
        if repo.has_run_id() {
            return Err(GitError::NameOfRun(repo.clone()));
        }
        let fresh = self.fresh()?;
        let target = self.paths.repo(repo);
        let moved = place(&fresh, &target);
        if moved.is_err() {
            let _ = fs::remove_dir_all(&fresh);
        }
        match moved {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) && self.exists(repo) => Ok(false),
            Err(source) => Err(GitError::Io { attempt: "make the repository", path: target, source }),
        }
    }

    /// A new repository in the folder of those being made.
    fn fresh(&self) -> Result<PathBuf, GitError> {
        let folder = self.paths.repos().join(".new");
        fs::create_dir_all(&folder).map_err(|source| GitError::Io { attempt: "make", path: folder.clone(), source })?;
        let fresh = folder.join(Uuid::now_v7().to_string());
        let mut command = self.command();
        // Named here as well as in the configuration: a repository made without it would be asked about its default branch.
        command.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--"]).arg(&fresh);
        let synced = || sync_all(&fresh).map_err(|source| GitError::Io { attempt: "write", path: fresh.clone(), source });
        Self::run(&mut command, "init").and_then(|_| synced()).inspect_err(|_| {
            let _ = fs::remove_dir_all(&fresh);
        })?;
        Ok(fresh)
    }

    /// Makes sure that the repository of [`Git::plain`] exists.
    pub(super) fn ensure_plain(&self) -> Result<PathBuf, GitError> {
        let plain = self.plain();
        if plain.join("HEAD").is_file() {
            return Ok(plain);
        }
        let fresh = self.fresh()?;
        let attributes = fresh.join("info/attributes");
        let written = fs::create_dir_all(fresh.join("info")).and_then(|()| fs::write(&attributes, "* -export-ignore -export-subst\n"));
        let moved = written.and_then(|()| fs::rename(&fresh, &plain));
        if let Err(source) = moved {
            let _ = fs::remove_dir_all(&fresh);
            if !plain.join("HEAD").is_file() {
                return Err(GitError::Io { attempt: "make", path: plain, source });
            }
        }
        Ok(plain)
    }

    /// All repositories, sorted.
    pub fn list(&self) -> Result<Vec<RepoName>, GitError> {
        let root = self.paths.repos();
        let mut names = Vec::new();
        for entry in folders(&root)? {
            if entry.ends_with(".git") {
                names.extend(entry.parse::<RepoName>());
            } else if !entry.starts_with('.') {
                let within = folders(&root.join(&entry))?;
                names.extend(within.iter().filter(|name| name.ends_with(".git")).filter_map(|name| format!("{entry}/{name}").parse().ok()));
            }
        }
        names.retain(|name| self.exists(name));
        names.sort();
        Ok(names)
    }

    /// Removes a repository: out of sight by one rename, then from the disk.
    pub fn remove(&self, repo: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(repo);
        if !self.exists(repo) {
            return Err(GitError::NoRepository(repo.clone()));
        }
        let trash = self.paths.repos().join(".trash");
        let target = trash.join(format!("{}-{}", repo.as_str().replace('/', "--"), Uuid::now_v7()));
        fs::create_dir_all(&trash).and_then(|()| fs::rename(&path, &target)).map_err(|source| GitError::Io {
            attempt: "remove",
            path: path.clone(),
            source,
        })?;
        if let Some(group) = path.parent().filter(|parent| *parent != self.paths.repos()) {
            // Goes only where it is empty.
            let _ = fs::remove_dir(group);
        }
        fs::remove_dir_all(&target).map_err(|source| GitError::Io {
            attempt: "remove what is left of the repository in",
            path: target,
            source,
        })
    }

    /// The branch that `HEAD` names, whether it has commits or not; read without a process. None for
    /// a detached HEAD.
    pub fn head(&self, repo: &RepoName) -> Result<Option<RefName>, GitError> {
        let path = self.paths.repo(repo).join("HEAD");
        let text = fs::read_to_string(&path).map_err(|source| GitError::Io { attempt: "read", path, source })?;
        Ok(text.trim_end().strip_prefix("ref: ").and_then(|name| name.parse().ok()))
    }

    /// The same by its short name, as git says it.
    pub fn default_branch(&self, repo: &RepoName) -> Result<Option<String>, GitError> {
        if !self.exists(repo) {
            return Err(GitError::NoRepository(repo.clone()));
        }
        let mut command = self.command_in(&self.paths.repo(repo));
        command.args(["symbolic-ref", "--quiet", "--short", "HEAD"]);
        match Self::run(&mut command, "symbolic-ref") {
            Ok(name) => Ok(Some(String::from_utf8_lossy(&name).trim_end().to_owned())),
            // A detached HEAD.
            Err(GitError::Failed { status, .. }) if status.code() == Some(1) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Has everything below a folder reach the disk. Git syncs what is pushed, not what it makes a repository of:
/// without this a power cut leaves one with an empty `HEAD`, which is none.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(folder)?.sync_all()
}

/// Moves a fresh repository to its place. The group's folder may go while we do it (its last
/// repository was removed), so that much is tried again.
fn place(fresh: &Path, target: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..3 {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        last = fs::rename(fresh, target);
        if let (Ok(()), Some(parent)) = (&last, target.parent()) {
            fs::File::open(parent)?.sync_all()?;
        }
        if !matches!(&last, Err(error) if error.kind() == ErrorKind::NotFound) {
            break;
        }
    }
    last
}

/// Names of the folders in a folder; none where it does not exist.
fn folders(path: &Path) -> Result<Vec<String>, GitError> {
    let fail = |source| GitError::Io { attempt: "list", path: path.to_owned(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Of the names there are, the one a person who typed `wanted` most likely meant.
#[must_use]
pub fn nearest<'a>(wanted: &RepoName, names: &'a [RepoName]) -> Option<&'a RepoName> {
    let base = |name: &RepoName| name.as_str().rsplit('/').next().unwrap_or_default().to_lowercase();
    // The right name in another group is the likeliest slip.
    if let Some(same) = names.iter().find(|name| base(name) == base(wanted)) {
        return Some(same);
    }
    let score = |name: &RepoName| strsim::jaro_winkler(wanted.as_str(), name.as_str());
    names.iter().map(|name| (score(name), name)).filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
