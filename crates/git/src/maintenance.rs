//! Git's own maintenance of a repository: packs it, removes what has been unreachable for two weeks, and writes its commit-graph. And
//! removal of what killed processes left: lock files, temporary files, repositories half created or removed.
//!
//! ```text
//! push ──shared lock on the repository's folder──► receive-pack and all it starts
//! gc   ──lock on its folder of objects───────────► git gc; checks all the time whether there is a push,
//!                                                  and then stops it: TERM first, so that git cleans up
//! ```
//! A push never waits: it takes its lock or continues without. The locks are the kernel's, so a
//! killed process leaves none; the lock files that a killed git leaves are removed by [`Git::remove_stale_locks`].

use std::borrow::Cow;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::error::{GitError, stderr_head, stderr_tail};
use super::file_ages::files_with_age;
use super::git::Git;
use super::lfs::LfsStore;
use super::trash_entry::TrashEntry;
use quire_runtime::process::{self, Limits, ProcError};
use quire_types::clock::Millis;
use quire_types::names::RepoName;

/// How often maintenance checks whether there is a push.
const PUSH_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Time between TERM and KILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit for one repository.
const MAX_DURATION: Duration = Duration::from_secs(2 * 60 * 60);
/// A lock file that is younger may be in use, in milliseconds.
const MIN_LOCK_AGE_MS: u64 = 60 * 1000;
/// A temporary file that is younger may be in use, in milliseconds.
const MIN_TEMPORARY_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// A folder in `.new` that is younger may be in use.
const MIN_LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// How maintenance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    Done,
    /// It was stopped, for a push or because the caller asked. It has to be started again later.
    Stopped,
}

/// Marks a repository as being pushed to, until this process and all that it starts have exited.
#[derive(Debug)]
pub struct PushLock(File);

impl Git {
    /// Marks a repository as being pushed to. Returns `None` if that fails; the push may continue without the lock.
    #[must_use]
    pub fn lock_for_push(&self, repo: &RepoName) -> Option<PushLock> {
        let lock = self.lock_in_server(repo)?;
        // Without CLOEXEC it stays open in the git that replaces this process.
        let kept = fcntl(&lock.0, FcntlArg::F_SETFD(FdFlag::empty()));
        kept.ok().map(|_| lock)
    }

    /// The same for a process that lives on. The processes that it starts do not hold the lock.
    #[must_use]
    pub fn lock_in_server(&self, repo: &RepoName) -> Option<PushLock> {
        let folder = File::open(self.paths.repo(repo)).ok()?;
        for _ in 0..5 {
            match folder.try_lock_shared() {
                Ok(()) => return Some(PushLock(folder)),
                // Maintenance checks for a push at this moment, which takes no time.
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }

    /// Whether there is a push to the repository at this moment.
    pub fn has_push(&self, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(repo);
        let locked = File::open(&path).and_then(|folder| would_block(folder.try_lock()));
        locked.map_err(|source| GitError::Io {
            action: "check for a push to",
            path,
            source,
        })
    }

    /// Packs a repository, removes what has been unreachable for two weeks, and writes its commit-graph, unless there is a push to
    /// it. Stops as soon as there is a push, or `stop` resolves.
    pub async fn maintain(
        &self,
        repo: &RepoName,
        stop: impl Future<Output = ()>,
    ) -> Result<MaintenanceOutcome, GitError> {
        let mut stop = std::pin::pin!(stop);
        let gc = [
            "-c",
            "gc.reflogExpireUnreachable=90.days",
            "gc",
            "--force",
            "--quiet",
            "--prune=2.weeks.ago",
        ];
        match self
            .run_between_pushes(repo, "gc", &gc, stop.as_mut())
            .await?
        {
            MaintenanceOutcome::Done => self.write_commit_graph(repo, stop).await,
            MaintenanceOutcome::Stopped => Ok(MaintenanceOutcome::Stopped),
        }
    }

    /// Writes the commit-graph of a repository with filters of changed paths, unless there is a push to it. Stops as soon as there
    /// is a push, or `stop` resolves; the old file stays then.
    pub async fn write_commit_graph(
        &self,
        repo: &RepoName,
        stop: impl Future<Output = ()>,
    ) -> Result<MaintenanceOutcome, GitError> {
        let write = [
            "-c",
            "commitGraph.changedPathsVersion=2",
            "commit-graph",
            "write",
            "--reachable",
            "--changed-paths",
            "--no-progress",
        ];
        self.run_between_pushes(repo, "commit-graph write", &write, stop)
            .await
    }

    /// Runs git on a repository, unless there is a push to it. Stops it as soon as there is a push, or `stop` resolves.
    async fn run_between_pushes(
        &self,
        repo: &RepoName,
        verb: &'static str,
        arguments: &[&str],
        stop: impl Future<Output = ()>,
    ) -> Result<MaintenanceOutcome, GitError> {
        let path = self.paths.repo(repo);
        // Passed to git as its standard input, which it does not read: so the lock lasts as long as that git, also
        // if this process is killed.
        let objects = path.join("objects");
        let lock =
            File::open(&objects).and_then(|folder| Ok((would_block(folder.try_lock())?, folder)));
        let (busy, lock) = lock.map_err(|source| GitError::Io {
            action: "lock",
            path: objects,
            source,
        })?;
        if busy || self.has_push(repo)? {
            return Ok(MaintenanceOutcome::Stopped);
        }
        let mut command = tokio::process::Command::from(self.background_command());
        command.arg("--git-dir").arg(&path).args(arguments);
        let pushed = async {
            while !self.has_push(repo).unwrap_or(true) {
                tokio::time::sleep(PUSH_CHECK_INTERVAL).await;
            }
        };
        let until = async {
            tokio::select! {
                () = pushed => {}
                () = stop => {}
            }
        };
        let limits = Limits {
            deadline: MAX_DURATION,
            ..Limits::default()
        };
        match process::capture_until(&mut command, Stdio::from(lock), limits, until, TERM_TIMEOUT)
            .await
        {
            Ok(Some(ended)) if ended.status.success() => Ok(MaintenanceOutcome::Done),
            Ok(Some(ended)) => Err(GitError::Failed {
                verb,
                status: ended.status,
                stderr: stderr_tail(&ended.stderr),
            }),
            Ok(None) => Ok(MaintenanceOutcome::Stopped),
            Err(ProcError::TimedOut { .. }) => Err(GitError::MaintenanceTimedOut {
                verb,
                minutes: MAX_DURATION.as_secs() / 60,
            }),
            Err(error) => Err(GitError::Pipe {
                verb,
                source: io::Error::other(error),
            }),
        }
    }

    /// Keeps `git gc` of this appliance away from a repository as long as the file is open. Returns `None` if it is at work
    /// there.
    pub fn lock_against_maintenance(&self, repo: &RepoName) -> Result<Option<File>, GitError> {
        let objects = self.paths.repo(repo).join("objects");
        let locked = File::open(&objects).and_then(|folder| {
            let busy = would_block(folder.try_lock_shared())?;
            Ok((!busy).then_some(folder))
        });
        locked.map_err(|source| GitError::Io {
            action: "lock",
            path: objects,
            source,
        })
    }

    /// Checks the objects and refs of a repository with `git fsck`. Returns its first words if it finds damage.
    pub async fn check(&self, repo: &RepoName) -> Result<Option<String>, GitError> {
        self.check_folder(&self.paths.repo(repo)).await
    }

    /// The same for a repository in the trash.
    pub async fn check_in_trash(&self, entry: TrashEntry) -> Result<Option<String>, GitError> {
        self.check_folder(&self.trash_repository(entry)).await
    }

    async fn check_folder(&self, folder: &Path) -> Result<Option<String>, GitError> {
        let mut command = tokio::process::Command::from(self.background_command());
        command.arg("--git-dir").arg(folder);
        command.args(["fsck", "--no-dangling", "--no-progress"]);
        let limits = Limits {
            deadline: MAX_DURATION,
            ..Limits::default()
        };
        let ended = process::capture(&mut command, limits).await;
        let ended = ended.map_err(|error| GitError::Pipe {
            verb: "fsck",
            source: io::Error::other(error),
        })?;
        let words = |text: &[u8]| stderr_head(text);
        Ok(
            (!ended.status.success()).then(|| match words(&ended.stderr) {
                empty if empty.is_empty() => words(&ended.stdout),
                words => words,
            }),
        )
    }

    /// Removes lock files and temporary files that a killed git left in a repository, unless the repository is in use.
    /// Without this, a ref that has a lock file could not be changed any more. Returns how many were removed.
    pub fn remove_stale_locks(&self, repo: &RepoName, now: Millis) -> Result<usize, GitError> {
        let path = self.paths.repo(repo);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Io {
                action: "find stale locks in",
                path,
                source,
            }
        };
        let found = stale_files(&path, now).map_err(failed(&path))?;
        if found.is_empty() {
            return Ok(0);
        }
        // They are older than any push that begins now, but a push that has begun before may hold them.
        let maintained =
            File::open(path.join("objects")).and_then(|folder| would_block(folder.try_lock()));
        if maintained.map_err(failed(&path))? || self.has_push(repo)? {
            return Ok(0);
        }
        let removed = |path: &&PathBuf| {
            if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
            .is_ok()
        };
        Ok(found.iter().filter(removed).count())
    }

    /// Removes repositories that were half created when a process was killed, and what an older quire was deleting then. What
    /// cannot be removed now is retried the next time.
    pub fn remove_leftovers(&self) {
        for folder in [self.paths.repos().join(".new"), self.paths.trash()] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let age = entry
                    .metadata()
                    .and_then(|metadata| metadata.modified())
                    .ok()
                    .and_then(|modified| modified.elapsed().ok());
                let is_old = age.is_some_and(|age| age > MIN_LEFTOVER_AGE);
                if is_old && !TrashEntry::is_folder(&entry.path()) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }
}

fn would_block(locked: Result<(), TryLockError>) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Lock files and temporary files that are too old to be in use.
fn stale_files(repo: &Path, now: Millis) -> io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for folder in [
        repo.to_owned(),
        repo.join("objects/info"),
        repo.join("objects/info/commit-graphs"),
        repo.join("objects"),
    ] {
        // `packed-refs.new` is what git writes a new `packed-refs` to while that is locked.
        stale.extend(
            files_with_age(&folder, now)?
                .into_iter()
                .filter(|(path, age)| {
                    let name = file_name(path);
                    let lock =
                        name.ends_with(".lock") || name == "gc.pid" || name == "packed-refs.new";
                    (lock && *age > MIN_LOCK_AGE_MS)
                        || (name.starts_with("tmp_objdir-") && *age > MIN_TEMPORARY_AGE_MS)
                }),
        );
    }
    stale.extend(
        files_with_age(&repo.join("objects/pack"), now)?
            .into_iter()
            .filter(|(path, age)| {
                let name = file_name(path);
                let temporary = name.starts_with("tmp_") || name.starts_with(".tmp-");
                (name.ends_with(".lock") && *age > MIN_LOCK_AGE_MS)
                    || (temporary && *age > MIN_TEMPORARY_AGE_MS)
            }),
    );
    let uploads = LfsStore::of(repo).abandoned_uploads(now)?;
    stale.extend(uploads.into_iter().map(|path| (path, 0)));
    let mut folders = vec![repo.join("refs")];
    while let Some(folder) = folders.pop() {
        for (path, age) in files_with_age(&folder, now)? {
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if file_name(&path).ends_with(".lock") && age > MIN_LOCK_AGE_MS {
                stale.push((path, age));
            }
        }
    }
    Ok(stale.into_iter().map(|(path, _)| path).collect())
}

fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
