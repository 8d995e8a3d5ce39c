//! Which objects commits refer to.

use std::ops::ControlFlow;
use std::path::Path;

use super::new_files::{KnownCommits, NewFiles};
use super::pointer::LfsPointer;
use super::tree_files::PointerFile;
use crate::error::GitError;
use crate::git::Git;
use quire_types::names::ObjectId;

impl Git {
    /// Calls `each` for each pointer in these commits and those before them, but for what is in the `known` ones as well, which need not exist.
    /// It may end this early, and it ends when `is_wanted` returns false. Blocks: a long history takes minutes.
    ///
    /// # Errors
    /// Git cannot list or read all files.
    pub fn referred_lfs_objects(
        &self,
        repo: &Path,
        (tips, known): (&[ObjectId], &[ObjectId]),
        is_wanted: impl Fn() -> bool,
        mut each: impl FnMut(PointerFile) -> ControlFlow<()>,
    ) -> Result<(), GitError> {
        let mut files = NewFiles::start(self, repo, tips, KnownCommits::These(known))?;
        while let Some(file) = files.next()? {
            if !is_wanted() {
                return Ok(());
            }
            let Some(pointer) = LfsPointer::parse(&file.content) else {
                continue;
            };
            let path = file.path;
            if each(PointerFile { path, pointer }).is_break() {
                return Ok(());
            }
        }
        files.finish()
    }
}
