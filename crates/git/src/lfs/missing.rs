//! Which objects a push refers to that are not here. Called by the hook, before the refs change.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::new_files::{KnownCommits, NewFiles};
use super::pointer::LfsPointer;
use super::store::LfsStore;
use crate::error::GitError;
use crate::git::Git;
use quire_types::names::{ObjectId, RepoName};

/// How many new files are looked at; a first push of a large history has more.
const MAX_FILES: usize = 20_000;
/// How long new files are looked for.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// How many new refs are looked at.
const MAX_REFS: usize = 200;
/// How many paths are named.
const MAX_PATHS: usize = 3;

/// Objects that a push refers to, and that are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingObjects {
    pub count: usize,
    /// The paths of the first of them.
    pub paths: Vec<String>,
    /// Whether all new files were looked at.
    pub is_complete: bool,
}

impl Git {
    /// Looks for pointers in the commits that a push brings, whose objects are not here. Returns `None` if nothing is missing.
    ///
    /// # Errors
    /// Git cannot read the new commits.
    pub fn missing_lfs_objects(
        &self,
        repo: &RepoName,
        tips: &[ObjectId],
    ) -> Result<Option<MissingObjects>, GitError> {
        let folder = self.paths.repo(repo);
        let tips = &tips[..tips.len().min(MAX_REFS)];
        let store = LfsStore::of(&folder);
        if tips.is_empty() || !(store.folder().is_dir() || self.use_lfs(&folder, tips)) {
            return Ok(None);
        }
        let mut missing = MissingObjects {
            count: 0,
            paths: Vec::new(),
            is_complete: true,
        };
        let mut files = NewFiles::start(self, &folder, tips, KnownCommits::OfAllRefs)?;
        let started = Instant::now();
        let mut seen = 0;
        while let Some(file) = files.next()? {
            seen += 1;
            if seen > MAX_FILES || started.elapsed() > MAX_DURATION {
                missing.is_complete = false;
                break;
            }
            let Some(pointer) = LfsPointer::parse(&file.content) else {
                continue;
            };
            // One that cannot be looked at is not missing.
            let found = store.size(&pointer.oid);
            if matches!(found, Ok(found) if found != Some(pointer.size)) {
                missing.count += 1;
                if missing.paths.len() < MAX_PATHS {
                    missing.paths.push(file.path);
                }
            }
        }
        Ok((missing.count > 0).then_some(missing))
    }

    /// Whether the `.gitattributes` at the top of one of these commits puts files into Git LFS. Of many commits only some are looked at.
    #[must_use]
    pub fn use_lfs(&self, repo: &Path, tips: &[ObjectId]) -> bool {
        let tips = &tips[..tips.len().min(MAX_REFS)];
        if tips.is_empty() {
            return false;
        }
        let mut command = self.in_quarantine(repo);
        command
            .args(["grep", "--quiet", "--fixed-strings", "-e", "filter=lfs"])
            .args(tips.iter().map(ObjectId::as_str))
            .args(["--", ".gitattributes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It fails for a tag of something other than a commit, which has no files.
        command.status().is_ok_and(|status| status.success())
    }
}
