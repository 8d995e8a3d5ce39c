//! Repositories that are being imported, in `.import`: one folder and one lock for each name.
//!
//! ```text
//! lock ─► draft of this address? ──no──► a new, empty draft ─► fetches ─► the draft becomes the repository, by one rename
//!                  └─ yes: what was fetched before stays ──────────┘
//! ```
//! A draft that is left by an import that was interrupted is continued by the next one of the same name and address, and removed
//! after a week. Its lock is held as long as a process works on it.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::GitError;
use super::git::Git;
use super::object_format::ObjectFormat;
use super::repo::{INSTANCE, sync_all};
use quire_types::clock::Millis;
use quire_types::fsutil::folder_size;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::names::{RefName, RepoName};

/// In each draft: what is imported.
const ORIGIN: &str = "quire-import";
/// How long another process is waited for that looks whether a name is being imported, or a git whose server was killed.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_INTERVAL: Duration = Duration::from_millis(100);
/// How long an import can be continued.
const MAX_DRAFT_AGE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A repository that is being imported. It is locked until this is dropped.
#[derive(Debug)]
pub struct ImportDraft {
    path: PathBuf,
    lock: File,
    url: GitRemoteUrl,
    /// Whether an earlier import has begun it.
    pub is_continued: bool,
}

impl ImportDraft {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it comes from.
    #[must_use]
    pub fn url(&self) -> &GitRemoteUrl {
        &self.url
    }

    #[must_use]
    pub fn lock(&self) -> &File {
        &self.lock
    }
}

impl Git {
    /// Begins an import, or continues it. Returns `None` while another one of this name is under way.
    pub fn begin_import(
        &self,
        repo: &RepoName,
        url: &GitRemoteUrl,
        format: ObjectFormat,
    ) -> Result<Option<ImportDraft>, GitError> {
        if repo.collides_with_run_id() {
            return Err(GitError::LooksLikeRunId(repo.clone()));
        }
        let (path, lock) = (
            self.import_path(repo, "git"),
            self.import_path(repo, "lock"),
        );
        let failed = |source| GitError::Io {
            action: "begin an import in",
            path: path.clone(),
            source,
        };
        fs::create_dir_all(self.imports()).map_err(failed)?;
        let lock = File::create(lock).map_err(failed)?;
        if !try_lock(&lock).map_err(failed)? {
            return Ok(None);
        }
        let origin = format!("{} {url}\n", format.as_str());
        let is_continued = fs::read_to_string(path.join(ORIGIN)).is_ok_and(|found| found == origin);
        if !is_continued {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            let fresh = self.init_bare(format, |fresh| {
                // Its refs are taken as they are when they are first seen, without runs.
                let _ = fs::remove_file(fresh.join(INSTANCE));
                fs::write(fresh.join(ORIGIN), &origin)
            })?;
            fs::rename(&fresh, &path).map_err(failed)?;
        }
        Ok(Some(ImportDraft {
            path,
            lock,
            url: url.clone(),
            is_continued,
        }))
    }

    /// Whether a repository of this name is being imported at this moment.
    #[must_use]
    pub fn is_being_imported(&self, repo: &RepoName) -> bool {
        File::open(self.import_path(repo, "lock"))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Makes a draft the repository of its name, with this default branch. Returns false if there is one already.
    pub fn finish_import(
        &self,
        draft: &ImportDraft,
        repo: &RepoName,
        default_branch: Option<&RefName>,
    ) -> Result<bool, GitError> {
        if let Some(branch) = default_branch {
            let mut command = self.command_in(&draft.path);
            command.args(["symbolic-ref", "HEAD", branch.as_str()]);
            Self::run(&mut command, "symbolic-ref")?;
        }
        let mut command = self.command_in(&draft.path);
        Self::run(command.args(["pack-refs", "--all"]), "pack-refs")?;
        self.record_foreign_tips(&draft.path, &[])?;
        let origin = fs::read(draft.path.join(ORIGIN)).unwrap_or_default();
        let _ = fs::remove_file(draft.path.join(ORIGIN));
        let is_placed = sync_all(&draft.path)
            .map_err(|source| GitError::Io {
                action: "write",
                path: draft.path.clone(),
                source,
            })
            .and_then(|()| self.place(&draft.path, repo));
        if !matches!(is_placed, Ok(true)) {
            // It can be continued, for instance once the other repository is renamed.
            let _ = fs::write(draft.path.join(ORIGIN), origin);
        }
        is_placed
    }

    /// Removes drafts that were not continued for a week. Returns the size of each.
    pub fn remove_abandoned_imports(&self, now: Millis) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(self.imports()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut removed = Vec::new();
        for entry in entries {
            let path = entry?.path();
            // The lock is written when an import begins. It stays, since it could not be removed without a race.
            let lock = path.with_extension("lock");
            let begun_ms = fs::symlink_metadata(&lock).map(|found| found.mtime() * 1000);
            let is_old = begun_ms.is_ok_and(|at| now.since(Millis(at)) > MAX_DRAFT_AGE_MS);
            if path != lock && is_old && File::open(&lock)?.try_lock().is_ok() {
                let bytes = folder_size(&path);
                fs::remove_dir_all(&path)?;
                removed.push(bytes);
            }
        }
        Ok(removed)
    }

    fn imports(&self) -> PathBuf {
        self.paths.repos().join(".import")
    }

    /// The name of a repository has no `+`, and ends neither with `.git` nor with `.lock`.
    fn import_path(&self, repo: &RepoName, extension: &str) -> PathBuf {
        let name = repo.as_str().replace('/', "+");
        self.imports().join(format!("{name}.{extension}"))
    }
}

fn try_lock(lock: &File) -> io::Result<bool> {
    for _ in 0..LOCK_ATTEMPTS {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_INTERVAL),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Clock;
    use quire_types::paths::Paths;

    #[test]
    fn drafts_are_continued_and_removed_after_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path());
        fs::create_dir_all(paths.repos()).unwrap();
        fs::write(paths.git_config(), "").unwrap();
        let git = Git::new(&paths);
        let repo: RepoName = "work/app".parse().unwrap();
        let begin = |url: &str, format| {
            let url: GitRemoteUrl = url.parse().unwrap();
            git.begin_import(&repo, &url, format).unwrap()
        };
        let draft = begin("git@h:app", ObjectFormat::Sha1).unwrap();
        assert!(!draft.is_continued && git.is_being_imported(&repo));
        assert!(begin("git@h:app", ObjectFormat::Sha1).is_none());
        drop(draft);
        assert!(!git.is_being_imported(&repo));
        assert!(begin("git@h:app", ObjectFormat::Sha1).unwrap().is_continued);
        // Another address, and another format, begin anew.
        assert!(
            !begin("git@h:other", ObjectFormat::Sha1)
                .unwrap()
                .is_continued
        );
        assert!(
            !begin("git@h:other", ObjectFormat::Sha256)
                .unwrap()
                .is_continued
        );
        let week = i64::try_from(MAX_DRAFT_AGE_MS).unwrap();
        let now = Clock::system().now();
        assert!(
            git.remove_abandoned_imports(now.plus(week - 60_000))
                .unwrap()
                .is_empty()
        );
        let later = now.plus(week + 60_000);
        let draft = begin("git@h:other", ObjectFormat::Sha256).unwrap();
        assert!(git.remove_abandoned_imports(later).unwrap().is_empty());
        drop(draft);
        assert_eq!(git.remove_abandoned_imports(later).unwrap().len(), 1);
        assert!(git.remove_abandoned_imports(later).unwrap().is_empty());
        // One whose name is taken meanwhile stays.
        let draft = begin("git@h:app", ObjectFormat::Sha1).unwrap();
        assert!(git.create(&repo).unwrap());
        assert!(!git.finish_import(&draft, &repo, None).unwrap());
        git.remove(&repo).unwrap();
        drop(draft);
        let draft = begin("git@h:app", ObjectFormat::Sha1).unwrap();
        assert!(draft.is_continued && git.finish_import(&draft, &repo, None).unwrap());
        assert!(git.exists(&repo).unwrap());
    }
}
