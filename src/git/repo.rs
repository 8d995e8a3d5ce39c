//! Bare repositories on disk: made, listed, removed.
//!
//! A repository appears and vanishes by one rename, so nobody meets half of one. Folders whose
//! name starts with `.` are not repositories (no [`RepoName`] does): `.new` holds those being
//! made, `.trash` those being removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::libc::ELOOP;
use uuid::Uuid;

use super::{Git, GitError};
use crate::names::{RefName, RepoName};

/// In each repository that quire made or took over: the id of the instance whose database knows its refs.
const INSTANCE: &str = "quire-instance";

impl Git {
    /// Whether a repository of this name exists. A former name leads to one ([`Git::current`]), and is none.
    ///
    /// # Errors
    /// It cannot be told: a disk or a share that fails does not mean that the repository is gone.
    pub fn exists(&self, repo: &RepoName) -> Result<bool, GitError> {
        Ok(self.is_reached_by(repo)? && self.current(repo) == *repo)
    }

    /// Whether a repository is reached by this name, be it its own or a former one.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn is_reached_by(&self, repo: &RepoName) -> Result<bool, GitError> {
        is_repository(&self.paths.repo(repo))
    }

    /// Makes an empty bare repository; `false` where it existed already (also when somebody
    /// else made it meanwhile).
    pub fn create(&self, repo: &RepoName) -> Result<bool, GitError> {
        if self.exists(repo)? {
            return Ok(false);
        }
        if repo.has_run_id() {
            return Err(GitError::NameOfRun(repo.clone()));
        }
        let fresh = self.fresh(|_| Ok(()))?;
        let target = self.paths.repo(repo);
        let moved = place(&fresh, &target);
        if moved.is_err() {
            let _ = fs::remove_dir_all(&fresh);
        }
        match moved {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) && self.exists(repo)? =>
            {
                Ok(false)
            }
            // A link lies there: of a rename that goes on, or that leads to nothing and goes within moments.
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                Err(GitError::Reserved(repo.clone()))
            }
            Err(source) => Err(GitError::Io {
                attempt: "make the repository",
                path: target,
                source,
            }),
        }
    }

    /// A new repository in the folder of those being made, with what `finish` adds, all of it on the disk.
    pub(super) fn fresh(
        &self,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, GitError> {
        let folder = self.paths.repos().join(".new");
        fs::create_dir_all(&folder).map_err(|source| GitError::Io {
            attempt: "make",
            path: folder.clone(),
            source,
        })?;
        let fresh = folder.join(Uuid::now_v7().to_string());
        let mut command = self.command();
        // Named here as well as in the configuration: a repository made without it would be asked about its default branch.
        command
            .args([
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--initial-branch=main",
                "--",
            ])
            .arg(&fresh);
        let finished = || {
            self.sign(&fresh)
                .and_then(|()| finish(&fresh))
                .and_then(|()| sync_all(&fresh))
        };
        let finished = || {
            finished().map_err(|source| GitError::Io {
                attempt: "write",
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

    /// Makes sure that the repository of [`Git::plain`] exists.
    pub(super) fn ensure_plain(&self) -> Result<PathBuf, GitError> {
        let plain = self.plain();
        if is_repository(&plain)? {
            return Ok(plain);
        }
        let fresh = self.fresh(|fresh| {
            fs::create_dir_all(fresh.join("info"))?;
            fs::write(
                fresh.join("info/attributes"),
                "* -export-ignore -export-subst\n",
            )
        })?;
        if let Err(source) = fs::rename(&fresh, &plain) {
            let _ = fs::remove_dir_all(&fresh);
            if !is_repository(&plain)? {
                return Err(GitError::Io {
                    attempt: "make",
                    path: plain,
                    source,
                });
            }
        }
        Ok(plain)
    }

    /// Writes into a repository that is being made whose it is: quire's, of the database that there is now.
    fn sign(&self, fresh: &Path) -> io::Result<()> {
        match fs::read(self.paths.instance()) {
            Ok(instance) => fs::write(fresh.join(INSTANCE), instance),
            // The server has never run; what is pushed before it does is in the spool.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether this very instance of quire made the repository, or took it over. One that was not there before,
    /// and that quire did not make, was put in place by a person, or is older than the database.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn is_of(&self, repo: &RepoName, instance: &str) -> Result<bool, GitError> {
        let path = self.paths.repo(repo).join(INSTANCE);
        match fs::read(&path) {
            Ok(found) => Ok(found == instance.as_bytes()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(GitError::Io {
                attempt: "read",
                path,
                source,
            }),
        }
    }

    /// Notes that this instance has taken the repository over.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn take_over(&self, repo: &RepoName, instance: &str) -> Result<(), GitError> {
        let path = self.paths.repo(repo).join(INSTANCE);
        let partial = path.with_extension("partial");
        let written = fs::write(&partial, instance).and_then(|()| fs::rename(&partial, &path));
        written.map_err(|source| GitError::Io {
            attempt: "write",
            path,
            source,
        })
    }

    /// All repositories, sorted. One that is renamed meanwhile is met by its old or its new name: the entry of the
    /// old one is always there, and where it is a link already, so is what it leads to.
    ///
    /// # Errors
    /// They cannot be looked at. None that is there is left out.
    pub fn list(&self) -> Result<Vec<RepoName>, GitError> {
        let mut names: Vec<RepoName> = self
            .names()?
            .iter()
            .map(|name| self.current(name))
            .collect();
        names.sort();
        names.dedup();
        let mut there = Vec::with_capacity(names.len());
        for name in names {
            if self.exists(&name)? {
                there.push(name);
            }
        }
        Ok(there)
    }

    /// Whatever bears the name of a repository at the place of one.
    pub(super) fn names(&self) -> Result<Vec<RepoName>, GitError> {
        let root = self.paths.repos();
        let mut names = Vec::new();
        for entry in entries(&root)? {
            if entry.ends_with(".git") {
                names.extend(entry.parse::<RepoName>());
            } else if !entry.starts_with('.') {
                let within = entries(&root.join(&entry));
                // A file, or a group whose last repository went meanwhile.
                if matches!(&within, Err(GitError::Io { source, .. }) if is_none(source)) {
                    continue;
                }
                names.extend(
                    within?
                        .iter()
                        .filter(|name| name.ends_with(".git"))
                        .filter_map(|name| format!("{entry}/{name}").parse().ok()),
                );
            }
        }
        Ok(names)
    }

    /// Removes the folder of a group that has nothing in it any more.
    pub(super) fn drop_empty_group(&self, repo: &Path) {
        if let Some(group) = repo.parent().filter(|parent| *parent != self.paths.repos()) {
            let _ = fs::remove_dir(group);
        }
    }

    /// Removes a repository: out of sight by one rename, then from the disk.
    pub fn remove(&self, repo: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(repo);
        if !self.exists(repo)? {
            return Err(GitError::NoRepository(repo.clone()));
        }
        let trash = self.paths.repos().join(".trash");
        let target = trash.join(format!(
            "{}-{}",
            repo.as_str().replace('/', "--"),
            Uuid::now_v7()
        ));
        fs::create_dir_all(&trash)
            .and_then(|()| fs::rename(&path, &target))
            .map_err(|source| GitError::Io {
                attempt: "remove",
                path: path.clone(),
                source,
            })?;
        self.drop_empty_group(&path);
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
        let text = fs::read_to_string(&path).map_err(|source| GitError::Io {
            attempt: "read",
            path,
            source,
        })?;
        Ok(text
            .trim_end()
            .strip_prefix("ref: ")
            .and_then(|name| name.parse().ok()))
    }

    /// The same by its short name, as git says it.
    pub fn default_branch(&self, repo: &RepoName) -> Result<Option<String>, GitError> {
        if !self.exists(repo)? {
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

/// Names of what is in a folder.
fn entries(path: &Path) -> Result<Vec<String>, GitError> {
    let fail = |source| GitError::Io {
        attempt: "list",
        path: path.to_owned(),
        source,
    };
    let entries = fs::read_dir(path).map_err(fail)?;
    entries
        .map(|entry| {
            entry
                .map_err(fail)
                .map(|entry| entry.file_name().into_string().ok())
        })
        .filter_map(Result::transpose)
        .collect()
}

/// Whether there is nothing, rather than something that cannot be looked at.
fn is_none(error: &io::Error) -> bool {
    // A name that is reserved for a repository leads to itself.
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(ELOOP)
}

/// What is at a path; none where nothing is.
pub(super) fn look(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_none(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a folder is a repository.
fn is_repository(folder: &Path) -> Result<bool, GitError> {
    let head = folder.join("HEAD");
    match look(&head) {
        Ok(found) => Ok(found.is_some_and(|found| found.is_file())),
        Err(source) => Err(GitError::Io {
            attempt: "look at",
            path: head,
            source,
        }),
    }
}

/// Of the names there are, the one a person who typed `wanted` most likely meant.
#[must_use]
pub fn nearest<'a>(wanted: &RepoName, names: &'a [RepoName]) -> Option<&'a RepoName> {
    let base = |name: &RepoName| {
        name.as_str()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_lowercase()
    };
    // The right name in another group is the likeliest slip.
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
