//! Paths of files in a workspace, as a pipeline writes them.

use std::path::PathBuf;

use crate::command::normalize_relative;
use crate::error::{ExecutorError, FileError, FileProblem};

/// The largest file that can be read at once, in bytes.
pub const MAX_READ: u64 = 4 << 20;

/// Returns the path relative to the workspace, without dots.
pub(crate) fn parse(path: &str) -> Result<PathBuf, ExecutorError> {
    normalize_relative(path).map_err(|problem| file_error(path, FileProblem::Path(problem)))
}

/// The error for a file that is larger than [`MAX_READ`].
pub(crate) fn too_large(path: &str) -> ExecutorError {
    file_error(path, FileProblem::TooLarge { limit: MAX_READ })
}

pub(crate) fn file_error(path: &str, problem: FileProblem) -> ExecutorError {
    ExecutorError::File(FileError {
        path: path.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_of_the_workspace_are_errors() {
        let paths = ["../x", "/etc/passwd", "a\0b"];
        let texts = paths.map(|path| parse(path).unwrap_err().to_string());
        insta::assert_snapshot!(texts.join("\n"), @r#"
        `../x` lies outside of the workspace
        `/etc/passwd` is absolute; write it relative to the workspace
        `a�b` contains a NUL byte
        "#);
        assert_eq!(parse("a/../b/./c").unwrap(), PathBuf::from("b/c"));
    }
}
