//! Marks of pushes that have begun: one file for each, in the runtime folder. The hook removes the mark of a push whose
//! event it has written; what is left belongs to a push that changed nothing, failed, or lost its hook.
//!
//! ```text
//! quire exec ──lock, then mark──► git receive-pack ──► hook: event in the spool, mark removed
//!                                        └─ ends in another way: the lock is free, the mark is still there
//! ```
//! So a mark whose repository has no push ([`Git::has_push`]) says that its refs have to be compared.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::GitError;
use super::git::Git;
use quire_types::names::RepoName;
use quire_types::paths::Paths;

/// The environment variable that names the mark of a push to its hook.
pub const PUSH_MARK_VARIABLE: &str = "QUIRE_PUSH_MARK";

/// A push that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushMark {
    pub path: PathBuf,
    pub repo: RepoName,
    /// Whether the repository was created for this push.
    pub created: bool,
}

impl Git {
    /// Marks a push. Take the lock first ([`Git::lock_for_push`]): a mark without it counts as that of a push that has
    /// ended.
    pub fn mark_push(&self, repo: &RepoName, created: bool) -> Result<PushMark, GitError> {
        let folder = self.paths.push_marks();
        let name = Uuid::now_v7().to_string();
        let mark = PushMark {
            path: folder.join(&name),
            repo: repo.clone(),
            created,
        };
        let partial = folder.join(format!(".{name}"));
        let word = if created { "created" } else { "existing" };
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&partial, format!("{word} {repo}\n")))
            .and_then(|()| fs::rename(&partial, &mark.path));
        written.map(|()| mark).map_err(|source| GitError::Io {
            action: "write",
            path: partial,
            source,
        })
    }

    /// All marks, oldest first.
    pub fn push_marks(&self) -> Result<Vec<PushMark>, GitError> {
        let folder = self.paths.push_marks();
        let failed = |source| GitError::Io {
            action: "list",
            path: folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut marks = Vec::new();
        for entry in entries {
            marks.extend(PushMark::read(&entry.map_err(failed)?.path()));
        }
        marks.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(marks)
    }
}

impl PushMark {
    /// The mark of the push that this process is the hook of.
    #[must_use]
    pub fn of_hook(paths: &Paths) -> Option<Self> {
        let path = PathBuf::from(std::env::var_os(PUSH_MARK_VARIABLE)?);
        if path.parent() != Some(&std::path::absolute(paths.push_marks()).ok()?) {
            return None;
        }
        Self::read(&path)
    }

    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (word, repo) = text.trim_end().split_once(' ')?;
        Some(Self {
            path: path.to_owned(),
            repo: repo.parse().ok()?,
            created: word == "created",
        })
    }

    /// Removes the mark. One that was removed before is no error.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
