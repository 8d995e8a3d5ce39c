//! Folders: what is at a path, and the entries of a folder in portions.

use gix::ObjectId as Id;
use gix::object::Kind;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryKind;
use quire_types::names::ObjectId;

use super::budget::{Budget, Portion};
use super::error::ReadError;
use super::reader::{Reader, gix_id, public_id};
use super::tree_path::TreePath;

/// The largest tree object that is read.
pub(super) const MAX_TREE_BYTES: u64 = 64 << 20;
/// The longest target of a symbolic link that is shown.
const MAX_TARGET_BYTES: u64 = 4096;

/// What kind of thing a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryMode {
    Folder,
    File,
    Executable,
    Symlink,
    Submodule,
}

impl EntryMode {
    pub(super) fn of(mode: gix::objs::tree::EntryMode) -> Self {
        match mode.kind() {
            EntryKind::Tree => Self::Folder,
            EntryKind::Blob => Self::File,
            EntryKind::BlobExecutable => Self::Executable,
            EntryKind::Link => Self::Symlink,
            EntryKind::Commit => Self::Submodule,
        }
    }

    /// As git writes it.
    #[must_use]
    pub fn as_octal(self) -> &'static str {
        match self {
            Self::Folder => "040000",
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Submodule => "160000",
        }
    }

    /// Whether the object is a blob.
    #[must_use]
    pub fn is_blob(self) -> bool {
        matches!(self, Self::File | Self::Executable | Self::Symlink)
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeItem {
    /// Its name; for an entry that was looked up by its path, the last part of it.
    pub name: Vec<u8>,
    /// What it is.
    pub mode: EntryMode,
    /// The object: a tree, a blob, or the commit of a submodule.
    pub id: ObjectId,
    /// The size of a blob, if there was time to read it.
    pub size: Option<u64>,
    /// What a symbolic link points to.
    pub target: Option<Vec<u8>>,
}

/// An entry as the tree object has it.
pub(super) struct RawEntry {
    pub(super) mode: EntryMode,
    pub(super) name: Vec<u8>,
    pub(super) id: Id,
}

/// Part of a folder; the rest begins after the name of [`Portion::next`].
pub type FolderPage = Portion<TreeItem, Vec<u8>>;

impl Reader {
    /// What is at a path of a commit.
    pub fn entry(&self, commit: &ObjectId, path: &TreePath) -> Result<TreeItem, ReadError> {
        let root = self.root_tree(gix_id(commit)?)?;
        let (mode, id) = self.lookup(root, path)?.ok_or(ReadError::NoPath)?;
        let mut item = TreeItem {
            name: path.name().to_owned(),
            mode,
            id: public_id(id)?,
            size: None,
            target: None,
        };
        self.describe(&mut item, id);
        Ok(item)
    }

    /// The entries of a folder, folders first, in git's order, after the entry `after`.
    pub fn folder(
        &self,
        tree: &ObjectId,
        after: Option<&[u8]>,
        budget: &Budget,
    ) -> Result<FolderPage, ReadError> {
        let mut found = self.raw_entries(gix_id(tree)?)?;
        // Stable, so git's order stays within each kind.
        found.sort_by_key(|entry| entry.mode != EntryMode::Folder);
        let start = match after {
            Some(name) => {
                let at = found.iter().position(|entry| entry.name == name);
                at.ok_or(ReadError::NoPath)? + 1
            }
            None => 0,
        };
        let mut page = Portion::empty();
        let end = found.len().min(start.saturating_add(budget.lines));
        for entry in &found[start..end] {
            let mut item = TreeItem {
                name: entry.name.clone(),
                mode: entry.mode,
                id: public_id(entry.id)?,
                size: None,
                target: None,
            };
            page.out_of_time |= budget.is_over();
            if !page.out_of_time {
                self.describe(&mut item, entry.id);
            }
            page.items.push(item);
        }
        page.next = (end < found.len())
            .then(|| page.items.last().map(|item| item.name.clone()))
            .flatten();
        Ok(page)
    }

    /// All entries of a tree object, in git's order.
    pub(super) fn raw_entries(&self, id: Id) -> Result<Vec<RawEntry>, ReadError> {
        let data = self.object(id, Kind::Tree, MAX_TREE_BYTES)?;
        TreeRefIter::from_bytes(&data, id.kind())
            .map(|entry| {
                let entry = entry.map_err(ReadError::damaged("read a tree"))?;
                Ok(RawEntry {
                    mode: EntryMode::of(entry.mode),
                    name: entry.filename.to_vec(),
                    id: entry.oid.to_owned(),
                })
            })
            .collect()
    }

    /// Adds the size of a blob and the target of a link. A blob that is missing has neither.
    fn describe(&self, item: &mut TreeItem, id: Id) {
        if !item.mode.is_blob() {
            return;
        }
        item.size = self.repo.find_header(id).ok().map(|header| header.size());
        if item.mode == EntryMode::Symlink {
            item.target = self.object(id, Kind::Blob, MAX_TARGET_BYTES).ok();
        }
    }

    pub(super) fn root_tree(&self, commit: Id) -> Result<Id, ReadError> {
        let commit = self
            .repo
            .find_commit(commit)
            .map_err(ReadError::damaged("read a commit"))?;
        let tree = commit
            .tree_id()
            .map_err(ReadError::damaged("read the tree of a commit"))?;
        Ok(tree.detach())
    }

    /// Kind and object at a path below a tree.
    pub(super) fn lookup(
        &self,
        root: Id,
        path: &TreePath,
    ) -> Result<Option<(EntryMode, Id)>, ReadError> {
        let mut found = (EntryMode::Folder, root);
        for part in path.parts() {
            if found.0 != EntryMode::Folder {
                return Ok(None);
            }
            let data = self.object(found.1, Kind::Tree, MAX_TREE_BYTES)?;
            let mut entry = None;
            for candidate in TreeRefIter::from_bytes(&data, root.kind()) {
                let candidate = candidate.map_err(ReadError::damaged("read a tree"))?;
                if candidate.filename == part {
                    entry = Some((EntryMode::of(candidate.mode), candidate.oid.to_owned()));
                    break;
                }
            }
            match entry {
                Some(entry) => found = entry,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }
}
