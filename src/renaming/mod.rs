//! Renaming a repository, and keeping the names that it had before.
//!
//! ```text
//! reserved ──► intended ──► repository moved ──► folders of runs moved ──► recorded ──► (links cleared)
//! link at      row in       one exchange: a      one exchange each:        one          as the runs end
//! the new      former_names link stays at the    a link stays             transaction  that began by the
//! place                     old place                                                   old name
//! ```
//! The command does it all, at once. From the intent on it will be done, whoever is killed: the server goes on
//! where it stopped, at its start before anything else, and at its next look. Each step may be done twice.
//!
//! Nothing is stopped and nobody waits. At each moment the old name leads to the same repository and the same
//! runs, on disk by links, in the database by the table `former_names` (what is asked or recorded by a name goes
//! through it), so pushes that go on, active runs, followers and events in the spool need no case of their own.

mod folders;

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::fault;
use crate::git::{Git, GitError};
use crate::names::{RepoName, RunId};
use crate::paths::Paths;
use crate::queue::{Queue, Sleeper};
use crate::store::{FormerName, Store, StoreError};

/// How long somebody else may be at names before that is said.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether a rename was begun and not done.
const LOOK: Duration = Duration::from_secs(2);
/// How often all former names are looked at.
const LOOK_AT_ALL: Duration = Duration::from_secs(60);

/// Why a repository cannot be renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// There is none of this name.
    #[error("there is no repository `{0}`")]
    Unknown(RepoName),
    /// It was renamed before.
    #[error("`{name}` is now `{repo}`")]
    Former {
        /// The name it had.
        name: RepoName,
        /// The name it has.
        repo: RepoName,
    },
    /// Nothing would change.
    #[error("the repository is called `{0}` already")]
    Same(RepoName),
    /// There is one of the new name.
    #[error("there is a repository `{0}` already")]
    Taken(RepoName),
    /// The file system does not tell the two names apart.
    #[error("the file system of the volume takes `{0}` and `{1}` for one name")]
    OneName(RepoName, RepoName),
    /// An earlier repository of the new name has left something.
    #[error("runs of an earlier repository `{0}` are still there")]
    Leftovers(RepoName),
    /// Somebody else is at names.
    #[error("another rename or removal is going on")]
    Busy,
    /// Begun, and cannot be finished now.
    #[error("the rename is begun, and goes on by itself as soon as it can: it cannot now")]
    Unfinished(#[source] Box<RenameError>),
    /// Git's side of it failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Folders of runs could not be moved or looked through.
    #[error("{attempt} {}", .path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Names of repositories, old and new.
#[derive(Debug, Clone)]
pub struct Renaming {
    paths: Paths,
    store: Store,
    git: Git,
}

/// Nobody else gives or takes names while this is held.
#[derive(Debug)]
pub struct Names<'a> {
    of: &'a Renaming,
    _lock: File,
}

impl Renaming {
    /// Names of the repositories below these paths.
    #[must_use]
    pub fn new(paths: &Paths, store: Store) -> Self {
        Self {
            paths: paths.clone(),
            store,
            git: Git::new(paths),
        }
    }

    /// Waits until nobody else is at names, and holds them.
    ///
    /// # Errors
    /// Somebody else is at them for long.
    pub fn hold(&self) -> Result<Names<'_>, RenameError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(names) = self.try_hold()? {
                return Ok(names);
            }
            if Instant::now() >= deadline {
                return Err(RenameError::Busy);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The kernel gives the lock back when its holder is killed.
    fn try_hold(&self) -> Result<Option<Names<'_>>, RenameError> {
        let path = self.paths.repos().join(".names.lock");
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        match opened
            .map_err(TryLockError::Error)
            .and_then(|file| file.try_lock().map(|()| file))
        {
            Ok(lock) => Ok(Some(Names {
                of: self,
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(RenameError::Io {
                attempt: "cannot lock",
                path,
                source,
            }),
        }
    }

    /// Finishes what was begun, unless somebody is at it; gives whether anything was there to be done.
    ///
    /// # Errors
    /// It cannot be finished now; it is safe to try again.
    pub fn settle(&self) -> Result<bool, RenameError> {
        self.try_hold()?.map_or(Ok(false), |names| names.settle())
    }

    /// Finishes what others began and did not, again and again, until told to stop.
    pub async fn keep(self, queue: Queue, stop: CancellationToken) {
        let mut looked = Instant::now();
        while stop
            .run_until_cancelled(queue.woken(Sleeper::Renaming, LOOK))
            .await
            .is_some()
        {
            let at_all = looked.elapsed() >= LOOK_AT_ALL;
            let renaming = self.clone();
            let settled = tokio::task::spawn_blocking(move || {
                if at_all || renaming.store.has_open_renames()? {
                    renaming.settle()
                } else {
                    Ok(false)
                }
            });
            match settled.await {
                Ok(Ok(true)) => queue.wake(),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a rename cannot be finished yet"
                ),
            }
            if at_all {
                looked = Instant::now();
            }
        }
    }
}

/// Where folders of runs lie.
fn roots(paths: &Paths) -> [PathBuf; 2] {
    [paths.runs(), paths.artifacts()]
}

/// The folders of a repository's runs, with their logs and artifacts; not those of a group of the same name.
///
/// # Errors
/// They cannot be listed.
pub fn run_folders(paths: &Paths, repo: &RepoName) -> Result<Vec<PathBuf>, RenameError> {
    let is_repo = |name: &RepoName| paths.repo(name).exists();
    let mut found = Vec::new();
    for root in roots(paths) {
        let listed = folders::of_runs(&root, repo, &is_repo);
        found.extend(listed.map_err(|source| RenameError::Io {
            attempt: "cannot look through",
            path: root,
            source,
        })?);
    }
    Ok(found)
}

/// Removes the folders of all runs of a repository that is gone.
///
/// # Errors
/// One cannot be removed.
pub fn remove_run_folders(paths: &Paths, repo: &RepoName) -> Result<(), RenameError> {
    for path in run_folders(paths, repo)? {
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(RenameError::Io {
                    attempt: "the repository is gone, and this of its runs is not: cannot remove",
                    path,
                    source,
                });
            }
            _ => {}
        }
    }
    roots(paths)
        .iter()
        .for_each(|root| folders::drop_empty(root, repo));
    Ok(())
}

impl Names<'_> {
    /// Renames a repository, at once, whoever is at it.
    ///
    /// # Errors
    /// It may not be done, and nothing has changed; or it is begun and goes on by itself.
    pub fn rename(&self, from: &RepoName, to: &RepoName) -> Result<(), RenameError> {
        let Renaming { store, git, .. } = self.of;
        // What somebody who was killed had begun comes first.
        self.settle()?;
        if from == to {
            return Err(RenameError::Same(to.clone()));
        }
        let current = git.current(from);
        if current != *from {
            return Err(RenameError::Former {
                name: from.clone(),
                repo: current,
            });
        }
        if !git.exists(from)? {
            return Err(RenameError::Unknown(from.clone()));
        }
        if git.are_one(from, to) {
            return Err(RenameError::OneName(from.clone(), to.clone()));
        }
        if !run_folders(&self.of.paths, to)?.is_empty() {
            return Err(RenameError::Leftovers(to.clone()));
        }
        if !git.reserve(from, to)? {
            return Err(RenameError::Taken(to.clone()));
        }
        fault::point("rename-reserved");
        if !store.begin_rename(from, to)? {
            git.free_dead(to)?;
            return Err(RenameError::Leftovers(to.clone()));
        }
        fault::point("rename-intended");
        match self.carry_out(from, to) {
            Ok(true) => Ok(()),
            Ok(false) => Err(RenameError::Taken(to.clone())),
            Err(error) => Err(RenameError::Unfinished(Box::new(error))),
        }
    }

    /// Makes an empty repository of a name that led to another one. Gives which; none where it led to none, and
    /// nothing is made.
    ///
    /// # Errors
    /// The file system, git or the database refuses.
    pub fn take_back(&self, name: &RepoName) -> Result<Option<RepoName>, RenameError> {
        let Renaming { store, git, .. } = self.of;
        self.settle()?;
        let led_to = git.current(name);
        if led_to == *name {
            return Ok(None);
        }
        // First the row: what is recorded of the new repository must not go to the other one.
        store.forget_former_name(name)?;
        git.take_back(name)?;
        Ok(Some(led_to))
    }

    /// Carries out a rename that is noted, from wherever it has come to. False where it cannot be: the repository
    /// is gone, or the name is taken by another one after all; then it is withdrawn.
    fn carry_out(&self, from: &RepoName, to: &RepoName) -> Result<bool, RenameError> {
        let Renaming { store, git, .. } = self.of;
        if !git.change_places(from, to)? {
            store.withdraw_rename(from)?;
            git.free_dead(to)?;
            return Ok(false);
        }
        fault::point("rename-repository-moved");
        let active = store.active_runs_of(from)?;
        let is_repo = |name: &RepoName| self.of.paths.repo(name).exists();
        for root in roots(&self.of.paths) {
            let moved = folders::move_all(&root, from, to, &active, &is_repo);
            moved.map_err(|source| RenameError::Io {
                attempt: "cannot move the folders of runs in",
                path: root,
                source,
            })?;
        }
        fault::point("rename-folders-moved");
        store.finish_rename(from, to)?;
        fault::point("rename-recorded");
        self.clear_links(from)?;
        fault::point("rename-links-cleared");
        Ok(true)
    }

    /// Finishes what was begun, and makes disk and table agree. Gives whether there was a rename to finish, or a
    /// link to clear.
    ///
    /// # Errors
    /// Something cannot be finished now; it is safe to try again.
    pub fn settle(&self) -> Result<bool, RenameError> {
        let mut worked = false;
        for FormerName { name, repo, moving } in self.of.store.former_names()? {
            if moving {
                worked = true;
                let done = self.carry_out(&name, &repo)?;
                tracing::warn!(%name, %repo, done, "went on with a rename that was not finished");
            } else {
                self.keep_leading(&name, &repo)?;
            }
        }
        for link in self.of.git.links()? {
            self.of.git.free_dead(&link)?;
        }
        for name in self.of.store.left_links()? {
            worked |= self.clear_links(&name)?;
        }
        Ok(worked)
    }

    /// A former name leads to its repository, as long as that is there and nobody has taken the name.
    fn keep_leading(&self, name: &RepoName, repo: &RepoName) -> Result<(), RenameError> {
        let Renaming { store, git, .. } = self.of;
        let there = git.exists(repo)?;
        if !there || !git.lead(name, repo)? {
            store.forget_former_name(name)?;
        }
        if !there {
            git.free_name(name)?;
        }
        Ok(())
    }

    /// Clears the links of moved runs that have ended; gives whether none is left.
    fn clear_links(&self, name: &RepoName) -> Result<bool, RenameError> {
        let active: HashSet<RunId> = self
            .of
            .store
            .active_runs()?
            .into_iter()
            .map(|run| run.id)
            .collect();
        let mut all = true;
        for root in roots(&self.of.paths) {
            let cleared = folders::clear_links(&root, name, &active);
            all &= cleared.map_err(|source| RenameError::Io {
                attempt: "cannot clear links in",
                path: root,
                source,
            })?;
        }
        if all {
            self.of.store.forget_left_links(name)?;
        }
        Ok(all)
    }
}
