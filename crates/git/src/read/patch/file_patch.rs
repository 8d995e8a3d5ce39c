//! The part of a patch that is about one file.

use std::io::Write;

use gix::ObjectId as Id;
use gix::object::Kind;

use super::super::blob::{MAX_BLOB_BYTES, is_binary};
use super::super::commit_diff::MAX_COMPARED_BYTES;
use super::super::error::ReadError;
use super::super::file_diff::{ComputedDiff, Whitespace};
use super::super::reader::Reader;
use super::super::renames::Fingerprint;
use super::super::tree::EntryMode;
use super::super::tree_changes::{Change, Version};
use super::binary::write_literal;
use super::content::PatchError;
use super::hunks::write_hunks;
use super::quoted_name::quoted;

pub(super) struct FilePatchWriter<'a, W: Write> {
    pub(super) reader: &'a Reader,
    pub(super) out: &'a mut W,
}

/// What git tells apart besides the content: files, links and submodules.
fn is_same_kind(old: EntryMode, new: EntryMode) -> bool {
    old == new || [old, new].iter().all(|mode| is_file(*mode))
}

fn is_file(mode: EntryMode) -> bool {
    matches!(mode, EntryMode::File | EntryMode::Executable)
}

impl<W: Write> FilePatchWriter<'_, W> {
    pub(super) fn write(&mut self, change: &Change) -> Result<(), PatchError> {
        match (change.old, change.new) {
            // What became something else was deleted, and another was added.
            (Some(old), Some(new)) if !is_same_kind(old.mode, new.mode) => {
                let part = |old, new| Change {
                    old,
                    new,
                    ..change.clone()
                };
                self.write_one(&part(Some(old), None))?;
                self.write_one(&part(None, Some(new)))
            }
            _ => self.write_one(change),
        }
    }

    fn write_one(&mut self, change: &Change) -> Result<(), PatchError> {
        let old_path = change.old_path.as_ref().unwrap_or(&change.path);
        let names = [quoted(b"a/", old_path), quoted(b"b/", &change.path)];
        self.line(&[b"diff --git ", &names[0], b" ", &names[1]])?;
        self.modes(change)?;
        let (old, new) = (self.content(change.old)?, self.content(change.new)?);
        if change.old_path.is_some() {
            self.rename(change, old_path, (&old, &new))?;
        }
        if change.old.map(|old| old.id) == change.new.map(|new| new.id) {
            return Ok(());
        }
        self.index(change)?;
        let is_large = old.len().max(new.len()) as u64 > MAX_COMPARED_BYTES;
        if is_large || is_binary(&old) || is_binary(&new) {
            self.out.write_all(b"GIT binary patch\n")?;
            write_literal(&new, self.out)?;
            write_literal(&old, self.out)?;
            return Ok(());
        }
        let computed = ComputedDiff::new(&old, &new, Whitespace::Compared);
        if computed.counts().added + computed.counts().removed > 0 {
            for (sign, version, name) in [
                (b"--- ", change.old, &names[0]),
                (b"+++ ", change.new, &names[1]),
            ] {
                self.name_line(sign, version.map(|_| name.as_slice()))?;
            }
            write_hunks(&computed, self.out)?;
        }
        Ok(())
    }

    fn line(&mut self, parts: &[&[u8]]) -> Result<(), PatchError> {
        self.out.write_all(&parts.concat())?;
        Ok(self.out.write_all(b"\n")?)
    }

    fn name_line(&mut self, sign: &[u8], name: Option<&[u8]>) -> Result<(), PatchError> {
        let Some(name) = name else {
            return self.line(&[sign, b"/dev/null"]);
        };
        // Some programs take what follows a space for a time.
        let end: &[u8] = if name.contains(&b' ') { b"\t" } else { b"" };
        self.line(&[sign, name, end])
    }

    fn modes(&mut self, change: &Change) -> Result<(), PatchError> {
        let octal = |version: Version| version.mode.as_octal().as_bytes();
        match (change.old, change.new) {
            (None, Some(new)) => self.line(&[b"new file mode ", octal(new)]),
            (Some(old), None) => self.line(&[b"deleted file mode ", octal(old)]),
            (Some(old), Some(new)) if old.mode != new.mode => {
                self.line(&[b"old mode ", octal(old)])?;
                self.line(&[b"new mode ", octal(new)])
            }
            _ => Ok(()),
        }
    }

    fn rename(
        &mut self,
        change: &Change,
        old_path: &[u8],
        (old, new): (&[u8], &[u8]),
    ) -> Result<(), PatchError> {
        let percent = match old == new {
            true => 100,
            false => Fingerprint::new(old).similarity(&Fingerprint::new(new)) / 10,
        };
        self.line(&[format!("similarity index {percent}%").as_bytes()])?;
        self.line(&[b"rename from ", &quoted(b"", old_path)])?;
        self.line(&[b"rename to ", &quoted(b"", &change.path)])
    }

    fn index(&mut self, change: &Change) -> Result<(), PatchError> {
        let null = Id::null(self.reader.repo.object_hash());
        let id = |version: Option<Version>| version.map_or(null, |version| version.id);
        let mode = match (change.old, change.new) {
            (Some(old), Some(new)) if old.mode == new.mode => format!(" {}", new.mode.as_octal()),
            _ => String::new(),
        };
        let (old, new) = (id(change.old), id(change.new));
        self.line(&[format!("index {old}..{new}{mode}").as_bytes()])
    }

    /// The content of a version, also of one that is too large to be compared by lines.
    fn content(&self, version: Option<Version>) -> Result<Vec<u8>, ReadError> {
        match version {
            Some(version) if version.mode.is_blob() => {
                self.reader.object(version.id, Kind::Blob, MAX_BLOB_BYTES)
            }
            other => self.reader.version(other),
        }
    }
}
