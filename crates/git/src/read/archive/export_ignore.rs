//! Which entries of a tree the attribute `export-ignore` leaves out of archives.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gix::attrs::search::{MetadataCollection, Outcome};
use gix::attrs::{Search, StateRef};
use gix::bstr::BStr;
use gix::glob::pattern::Case;

const ATTRIBUTE: &str = "export-ignore";

/// The `.gitattributes` of the folders from the root to the one that is being read.
#[derive(Default)]
pub(super) struct ExportIgnore {
    search: Search,
    names: MetadataCollection,
    outcome: Outcome,
}

impl ExportIgnore {
    /// Adds the `.gitattributes` of a folder that is entered. Returns whether it counts; then [`Self::leave`] removes it.
    pub(super) fn enter(&mut self, folder: &[u8], text: &[u8]) -> bool {
        // Most files have attributes for other purposes. A macro may set this one under another name, and is in such a file as well.
        let names_it = memchr::memmem::find(text, ATTRIBUTE.as_bytes()).is_some();
        if !names_it && self.search.num_pattern_lists() == 0 {
            return false;
        }
        let file = Path::new(OsStr::from_bytes(folder)).join(".gitattributes");
        // As in git, only the file of the root may define macros.
        let may_define = folder.is_empty();
        let root = Some(Path::new(""));
        let added = self
            .search
            .add_patterns_buffer(text, file, root, &mut self.names, may_define);
        self.outcome
            .initialize_with_selection(&self.names, [ATTRIBUTE]);
        added.is_ok()
    }

    /// Removes what was added last.
    pub(super) fn leave(&mut self) {
        self.search.pop_pattern_list();
    }

    /// Whether an entry is left out, and everything in it.
    pub(super) fn holds(&mut self, path: &[u8], is_folder: bool) -> bool {
        if self.search.num_pattern_lists() == 0 {
            return false;
        }
        self.outcome.reset();
        self.search.pattern_matching_relative_path(
            BStr::new(path),
            Case::Sensitive,
            Some(is_folder),
            &mut self.outcome,
        );
        self.outcome
            .iter_selected()
            .any(|found| found.assignment.state == StateRef::Set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_decides() {
        let mut ignored = ExportIgnore::default();
        assert!(!ignored.enter(b"", b"* text=auto\n"));
        assert!(ignored.enter(
            b"",
            b"[attr]hidden export-ignore\n/docs export-ignore\n*.log export-ignore\nsecret hidden\n"
        ));
        assert!(ignored.holds(b"docs", true) && ignored.holds(b"a/b.log", false));
        assert!(ignored.holds(b"secret", false) && !ignored.holds(b"a/docs", true));
        assert!(ignored.enter(b"a", b"b.log -export-ignore\n/only export-ignore\n"));
        assert!(!ignored.holds(b"a/b.log", false) && ignored.holds(b"a/only", false));
        assert!(ignored.holds(b"a/c.log", false) && !ignored.holds(b"only", false));
        ignored.leave();
        assert!(ignored.holds(b"a/b.log", false) && !ignored.holds(b"a/only", false));
    }
}
