//! What both executors say of files in a workspace, in the same words.

use std::path::PathBuf;

use super::ExecutorError;
use super::command::below;

/// The most that is read of a file at once, in bytes.
pub const MAX_READ: u64 = 4 << 20;

/// Why a file cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not exist.
    Missing,
    /// A symbolic link on its way leads out of the workspace.
    Leaves,
    /// A folder where a file is wanted.
    Folder,
    /// Neither file nor folder: a pipe, a socket, a device.
    Special,
    /// A part of its way is no folder.
    Way,
    /// Larger than [`MAX_READ`].
    TooLarge,
    /// Not for whom the commands run as.
    Forbidden,
}

impl Refusal {
    /// The sentence on this path.
    pub(super) fn of(self, path: &str) -> ExecutorError {
        let path = path.replace('\0', "\u{fffd}");
        ExecutorError::File(match self {
            Self::Missing => format!("the workspace has no `{path}`"),
            Self::Leaves => format!("`{path}` leads out of the workspace"),
            Self::Folder => format!("`{path}` is a folder"),
            Self::Special => format!("`{path}` is neither a file nor a folder"),
            Self::Way => format!("a part of the way to `{path}` is no folder"),
            Self::TooLarge => format!(
                "`{path}` is larger than {} MiB, the most that can be read at once",
                MAX_READ >> 20
            ),
            Self::Forbidden => format!("there is no permission for `{path}`"),
        })
    }
}

/// A path as a pipeline wrote it, as seen from the workspace.
pub(super) fn path_of(path: &str) -> Result<PathBuf, ExecutorError> {
    below(path)
        .map_err(|why| ExecutorError::File(format!("`{}` {why}", path.replace('\0', "\u{fffd}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_are_named() {
        let words = |path: &str| path_of(path).unwrap_err().to_string();
        assert_eq!(words("../x"), "`../x` lies outside of the workspace");
        assert_eq!(
            words("/etc/passwd"),
            "`/etc/passwd` is absolute; name it as seen from the workspace"
        );
        assert_eq!(words("a\0b"), "`a\u{fffd}b` contains a NUL byte");
        assert_eq!(path_of("a/../b/./c").unwrap(), PathBuf::from("b/c"));
    }
}
