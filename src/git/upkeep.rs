//! Git's own maintenance of a repository: packs, removes what nothing names any more for two weeks.
//!
//! ```text
//! push ──shared lock on the repository's folder──► receive-pack and all it starts
//! gc   ──lock on its folder of objects───────────► git gc; looks ever again whether somebody pushes,
//!                                                  and then ends it: TERM first, which leaves nothing half
//! ```
//! A push never waits: it takes its lock or goes on without. The locks are the kernel's, so a
//! killed process leaves none; the lock files that a killed git leaves are removed by [`Git::unlock`].

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{Git, GitError};
use crate::clock::Millis;
use crate::names::RepoName;
use crate::proc::{self, Limits, ProcError};

/// How often is looked whether somebody pushes while git works.
const LOOK: Duration = Duration::from_millis(50);
/// How long git may take to leave once it is told.
const GRACE: Duration = Duration::from_secs(5);
/// How long git may take for one repository.
const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);
/// Lock files younger than this may be held by somebody, in milliseconds.
const STALE: u64 = 60 * 1000;
/// Unfinished files that a killed git left go when they are this old, in milliseconds.
const ABANDONED: u64 = 24 * 60 * 60 * 1000;

/// How an attempt at maintenance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// All is packed.
    Done,
    /// Somebody pushes, or it was told to stop: another time.
    GaveWay,
}

/// Says that somebody pushes, until this process has ended and all it became and started.
#[derive(Debug)]
pub struct PushMark(#[expect(dead_code, reason = "its lock is what counts")] File);

impl Git {
    /// Marks a repository as being pushed to. None where that cannot be said: the push goes on all the same.
    #[must_use]
    pub fn announce_push(&self, repo: &RepoName) -> Option<PushMark> {
        let folder = File::open(self.paths.repo(repo)).ok()?;
        for _ in 0..5 {
            match folder.try_lock_shared() {
                // It stays open in what this process becomes.
                Ok(()) => {
                    return fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty()))
                        .ok()
                        .map(|_| PushMark(folder));
                }
                // Somebody looks whether there is a push, which takes no time.
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }

    /// Whether somebody pushes to the repository just now.
    ///
    /// # Errors
    /// Its folder cannot be asked.
    pub fn is_pushed_to(&self, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(repo);
        let locked = File::open(&path).and_then(|folder| would_block(folder.try_lock()));
        locked.map_err(|source| GitError::Io {
            attempt: "look whether somebody pushes to",
            path,
            source,
        })
    }

    /// Packs a repository and removes what has been unreachable for two weeks, unless somebody pushes to it.
    /// Ends as soon as somebody does, or `stop` resolves.
    ///
    /// # Errors
    /// Git fails.
    pub async fn maintain(
        &self,
        repo: &RepoName,
        stop: impl Future<Output = ()>,
    ) -> Result<Upkeep, GitError> {
        let path = self.paths.repo(repo);
        // Handed to git as its input, which it does not read: so the lock lasts as long as that git, also
        // where this process is killed.
        let objects = path.join("objects");
        let lock =
            File::open(&objects).and_then(|folder| Ok((would_block(folder.try_lock())?, folder)));
        let (busy, lock) = lock.map_err(|source| GitError::Io {
            attempt: "lock",
            path: objects,
            source,
        })?;
        if busy || self.is_pushed_to(repo)? {
            return Ok(Upkeep::GaveWay);
        }
        let mut command = tokio::process::Command::from(self.background_command());
        command.arg("--git-dir").arg(&path).args([
            "-c",
            "gc.reflogExpireUnreachable=90.days",
            "gc",
            "--force",
            "--quiet",
        ]);
        command.arg("--prune=2.weeks.ago");
        let pushed = async {
            while !self.is_pushed_to(repo).unwrap_or(true) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let until = async {
            tokio::select! {
                () = pushed => {}
                () = stop => {}
            }
        };
        let limits = Limits {
            deadline: PATIENCE,
            ..Limits::default()
        };
        match proc::capture_until(&mut command, Stdio::from(lock), limits, until, GRACE).await {
            Ok(Some(ended)) if ended.status.success() => Ok(Upkeep::Done),
            Ok(Some(ended)) => Err(GitError::Failed {
                verb: "gc",
                status: ended.status,
                stderr: super::error::last_words(&ended.stderr),
            }),
            Ok(None) => Ok(Upkeep::GaveWay),
            Err(ProcError::TimedOut { .. }) => Err(GitError::TooLong {
                verb: "gc",
                minutes: PATIENCE.as_secs() / 60,
            }),
            Err(error) => Err(GitError::Talk {
                verb: "gc",
                source: io::Error::other(error),
            }),
        }
    }

    /// Removes lock files and unfinished files that a killed git left in a repository, unless somebody works
    /// in it. Without this a reference could not be deleted any more. Gives how many there were.
    ///
    /// # Errors
    /// The repository cannot be looked through.
    pub fn unlock(&self, repo: &RepoName, now: Millis) -> Result<usize, GitError> {
        let path = self.paths.repo(repo);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Io {
                attempt: "look for stale locks in",
                path,
                source,
            }
        };
        let found = stale(&path, now).map_err(failed(&path))?;
        if found.is_empty() {
            return Ok(0);
        }
        // They are older than any push that begins now; one that goes on may hold them.
        let maintained =
            File::open(path.join("objects")).and_then(|folder| would_block(folder.try_lock()));
        if maintained.map_err(failed(&path))? || self.is_pushed_to(repo)? {
            return Ok(0);
        }
        let gone = |path: &&PathBuf| {
            if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
            .is_ok()
        };
        Ok(found.iter().filter(gone).count())
    }
}

fn would_block(locked: Result<(), TryLockError>) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Lock files and unfinished files that are too old to be anybody's.
fn stale(repo: &Path, now: Millis) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [
        repo.to_owned(),
        repo.join("objects/info"),
        repo.join("objects/info/commit-graphs"),
        repo.join("objects"),
    ] {
        files(
            &folder,
            false,
            &mut |path, age| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                // `packed-refs.new` is what a new `packed-refs` is written to while that is locked.
                let lock = name.ends_with(".lock") || name == "gc.pid" || name == "packed-refs.new";
                if (lock && age > STALE) || (name.starts_with("tmp_objdir-") && age > ABANDONED) {
                    found.push(path);
                }
            },
            now,
        )?;
    }
    files(
        &repo.join("refs"),
        true,
        &mut |path, age| {
            if path
                .extension()
                .is_some_and(|extension| extension == "lock")
                && age > STALE
            {
                found.push(path);
            }
        },
        now,
    )?;
    files(
        &repo.join("objects/pack"),
        false,
        &mut |path, age| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let unfinished = name.starts_with("tmp_") || name.starts_with(".tmp-");
            if (name.ends_with(".lock") && age > STALE) || (unfinished && age > ABANDONED) {
                found.push(path);
            }
        },
        now,
    )?;
    Ok(found)
}

/// Calls `look` with each entry of a folder and its age in milliseconds. What is not there, or not any more, is no error.
fn files(
    folder: &Path,
    deep: bool,
    look: &mut dyn FnMut(PathBuf, u64),
    now: Millis,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if deep && found.is_dir() {
            files(&path, deep, look, now)?;
        } else {
            look(path, now.since(Millis(found.mtime() * 1000)));
        }
    }
    Ok(())
}
