//! Changes as text that `git apply` and `git am` accept.
//!
//! The text is what `git diff --full-index --binary` and `git format-patch` write, without a summary of the counts. Attributes are
//! ignored, except that git's own rule says what is binary; binary files, and texts that are too large to be compared by lines,
//! are written whole, as `GIT binary patch`. It is written while the trees are compared. What it may hold is checked before the
//! first byte is written, so a patch is complete or is not begun.

mod binary;
mod content;
mod file_patch;
mod hunks;
mod mail;
mod quoted_name;

use std::io::Write;
use std::time::Duration;

use gix::ObjectId as Id;
use quire_types::names::ObjectId;

use super::blob::MAX_BLOB_BYTES;
use super::budget::Budget;
use super::error::ReadError;
use super::reader::{Reader, gix_id, public_id};
use super::tree::EntryMode;
use content::PatchPart;
use file_patch::FilePatchWriter;
use mail::MailWriter;

pub use content::{PatchContent, PatchError, PatchFormat};

/// The most commits of a series.
pub const MAX_PATCH_COMMITS: usize = 500;
/// How long the files of one commit are compared.
const COMPARE_TIME: Duration = Duration::from_secs(30);

impl Reader {
    /// What a commit changed against a parent, by its number from 0.
    pub fn patch_of_commit(
        &self,
        commit: &ObjectId,
        parent: usize,
        format: PatchFormat,
        budget: &Budget,
    ) -> Result<PatchContent, ReadError> {
        let (old, new) = self.trees_of_change(commit, parent)?;
        let commit = match format {
            PatchFormat::Diff => None,
            PatchFormat::Mail => Some(gix_id(commit)?),
        };
        let parts = vec![PatchPart { commit, old, new }];
        self.checked(PatchContent { parts }, budget)
    }

    /// What changed from one commit to another.
    pub fn diff_as_patch(
        &self,
        old: &ObjectId,
        new: &ObjectId,
        budget: &Budget,
    ) -> Result<PatchContent, ReadError> {
        let parts = vec![PatchPart {
            commit: None,
            old: Some(self.root_tree(gix_id(old)?)?),
            new: self.root_tree(gix_id(new)?)?,
        }];
        self.checked(PatchContent { parts }, budget)
    }

    /// The commits that only the second one has, as a series of mails. Merges are left out, as `git format-patch` does.
    pub fn patch_series(
        &self,
        first: &ObjectId,
        second: &ObjectId,
        budget: &Budget,
    ) -> Result<PatchContent, ReadError> {
        let commits = self.series(first, second, MAX_PATCH_COMMITS, budget)?;
        let mut parts = Vec::new();
        for commit in commits {
            let (old, new) = self.trees_of_change(&public_id(commit)?, 0)?;
            parts.push(PatchPart {
                commit: Some(commit),
                old,
                new,
            });
        }
        self.checked(PatchContent { parts }, budget)
    }

    /// Fails if something is too large for a patch.
    fn checked(&self, content: PatchContent, budget: &Budget) -> Result<PatchContent, ReadError> {
        for part in &content.parts {
            budget.check()?;
            let (changes, is_cut) = self.plain_changes(part.old, part.new, budget)?;
            budget.check()?;
            if is_cut {
                let bytes = u64::MAX;
                return Err(ReadError::TooLarge { bytes });
            }
            let versions = changes.iter().flat_map(|change| [change.old, change.new]);
            for version in versions.flatten() {
                if version.mode == EntryMode::Submodule {
                    continue;
                }
                let bytes = self.blob_size(version.id)?;
                if bytes > MAX_BLOB_BYTES {
                    return Err(ReadError::TooLarge { bytes });
                }
            }
        }
        Ok(content)
    }

    /// Writes a patch to `out`. Ends with the first error of `out`.
    pub fn write_patch(
        &self,
        content: &PatchContent,
        mut out: impl Write,
    ) -> Result<(), PatchError> {
        let total = content.parts.len();
        for (at, part) in content.parts.iter().enumerate() {
            match part.commit {
                None => self.write_changes(part.old, part.new, &mut out)?,
                Some(commit) => {
                    let mail = MailWriter::read(self, commit)?;
                    mail.write_head(at + 1, total, &mut out)?;
                    self.write_changes(part.old, part.new, &mut out)?;
                    mail.write_end(&mut out)?;
                }
            }
        }
        Ok(out.flush()?)
    }

    fn write_changes(
        &self,
        old: Option<Id>,
        new: Id,
        out: &mut impl Write,
    ) -> Result<(), PatchError> {
        let budget = Budget::new(COMPARE_TIME, usize::MAX, MAX_BLOB_BYTES);
        let (mut changes, is_cut) = self.changes(old, new, &budget)?;
        if is_cut {
            return Err(ReadError::OutOfTime.into());
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        for change in &changes {
            FilePatchWriter { reader: self, out }.write(change)?;
        }
        Ok(())
    }
}
