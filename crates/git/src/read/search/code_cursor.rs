//! Where a search of files goes on.

use super::super::tree_path::TreePath;

/// A place in the files of a tree: after a file, or after a line of one. Files have the order of their paths as bytes, which is git's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeCursor {
    pub(super) path: TreePath,
    /// How many lines of the file are done; `None` if the file is.
    pub(super) line: Option<usize>,
}

impl CodeCursor {
    pub(super) fn after_file(path: &TreePath) -> Self {
        Self {
            path: path.clone(),
            line: None,
        }
    }

    pub(super) fn after_line(path: &TreePath, line: usize) -> Self {
        Self {
            path: path.clone(),
            line: Some(line),
        }
    }

    /// Parses what [`Self::to_bytes`] writes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let colon = memchr::memchr(b':', bytes)?;
        let line = match std::str::from_utf8(&bytes[..colon]).ok()? {
            "" => None,
            digits => Some(digits.parse().ok()?),
        };
        Some(Self {
            path: TreePath::parse(&bytes[colon + 1..])?,
            line,
        })
    }

    /// As it stands in an address: `LINE:PATH`, or `:PATH` after a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let line = self.line.map_or_else(String::new, |line| line.to_string());
        [line.as_bytes(), b":", self.path.as_bytes()].concat()
    }

    /// Whether a file comes before this place.
    pub(super) fn is_after_file(&self, path: &TreePath) -> bool {
        match self.line {
            None => path.as_bytes() <= self.path.as_bytes(),
            Some(_) => path.as_bytes() < self.path.as_bytes(),
        }
    }

    /// Whether everything in a folder comes before this place.
    pub(super) fn is_after_folder(&self, path: &TreePath) -> bool {
        let (here, folder) = (self.path.as_bytes(), path.as_bytes());
        let is_inside = here
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with(b"/"));
        !is_inside && folder.iter().chain(b"/").lt(here)
    }

    /// How many lines of a file are done.
    pub(super) fn lines_done(&self, path: &TreePath) -> usize {
        match self.line {
            Some(line) if self.path == *path => line,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for text in [":", ":a", "0:a/b", "12:3:a", ":\u{e9}\n:"] {
            let cursor = CodeCursor::parse(text.as_bytes()).unwrap();
            assert_eq!(cursor.to_bytes(), text.as_bytes());
        }
        for bad in ["", "a", "-1:a", "1:/a", "x:a", "99999999999999999999999:a"] {
            assert_eq!(CodeCursor::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn files_and_folders_are_before_or_after() {
        let cursor = CodeCursor::after_file(&path("a/b/c"));
        for (before, after) in [("a/b/c", "a/b/d"), ("a/b/a", "a/b/c/d"), ("a/b-c", "a/b0")] {
            assert!(cursor.is_after_file(&path(before)), "{before}");
            assert!(!cursor.is_after_file(&path(after)), "{after}");
        }
        for (before, after) in [("a/a", "a"), ("a/b/b", "a/b"), ("a-b", "a/b/c"), ("A", "b")] {
            assert!(cursor.is_after_folder(&path(before)), "{before}");
            assert!(!cursor.is_after_folder(&path(after)), "{after}");
        }
        let inside = CodeCursor::after_line(&path("a"), 3);
        assert!(!inside.is_after_file(&path("a")) && inside.is_after_file(&path("A")));
        assert_eq!(
            (inside.lines_done(&path("a")), inside.lines_done(&path("b"))),
            (3, 0)
        );
    }
}
