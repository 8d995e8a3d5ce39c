//! The files of a tree, depth first, in git's order, from a place on.

use gix::ObjectId as Id;

use super::super::budget::Budget;
use super::super::error::ReadError;
use super::super::reader::Reader;
use super::super::tree::{EntryMode, RawEntry};
use super::super::tree_path::TreePath;
use super::code_cursor::CodeCursor;
use super::path_globs::PathGlobs;

/// A file or a symbolic link.
pub(super) struct WalkedFile {
    pub(super) path: TreePath,
    pub(super) id: Id,
    pub(super) is_symlink: bool,
    /// Whether the globs name it.
    pub(super) is_named: bool,
}

/// What the next step of a walk came to.
pub(super) enum FileWalkStep {
    File(WalkedFile),
    End,
    OutOfTime,
}

struct WalkFolder {
    entries: std::vec::IntoIter<RawEntry>,
    path: TreePath,
    /// Whether the globs name the folder, and so everything in it.
    is_named: bool,
}

/// A walk over the files of a tree. Folders that the globs leave out are not read.
pub(super) struct FileWalk<'a> {
    reader: &'a Reader,
    globs: &'a PathGlobs,
    after: CodeCursor,
    open: Vec<WalkFolder>,
}

impl<'a> FileWalk<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        root: Id,
        globs: &'a PathGlobs,
        after: CodeCursor,
    ) -> Result<Self, ReadError> {
        let mut walk = Self {
            reader,
            globs,
            after,
            open: Vec::new(),
        };
        walk.open(root, TreePath::default(), globs.include_all())?;
        Ok(walk)
    }

    fn open(&mut self, id: Id, path: TreePath, is_named: bool) -> Result<(), ReadError> {
        self.open.push(WalkFolder {
            entries: self.reader.raw_entries(id)?.into_iter(),
            path,
            is_named,
        });
        Ok(())
    }

    pub(super) fn next(&mut self, budget: &Budget) -> Result<FileWalkStep, ReadError> {
        while let Some(folder) = self.open.last_mut() {
            if budget.is_over() {
                return Ok(FileWalkStep::OutOfTime);
            }
            let Some(entry) = folder.entries.next() else {
                self.open.pop();
                continue;
            };
            let path = folder.path.join(&entry.name);
            let is_folder = entry.mode == EntryMode::Folder;
            let is_done = match entry.mode {
                EntryMode::Folder => self.after.is_after_folder(&path),
                // What a submodule holds is in another repository.
                EntryMode::Submodule => true,
                _ => self.after.is_after_file(&path),
            };
            if is_done {
                continue;
            }
            let is_excluded = self.globs.exclude(&path, is_folder);
            let is_named = folder.is_named || self.globs.include(&path, is_folder);
            if !is_folder {
                return Ok(FileWalkStep::File(WalkedFile {
                    path,
                    id: entry.id,
                    is_symlink: entry.mode == EntryMode::Symlink,
                    is_named: is_named && !is_excluded,
                }));
            }
            if !is_excluded {
                self.open(entry.id, path, is_named)?;
            }
        }
        Ok(FileWalkStep::End)
    }
}
