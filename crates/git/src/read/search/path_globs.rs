//! Which paths are searched: globs as in `.gitignore`, which name what is searched and, after `!`, what is not.

use gix::bstr::BStr;
use gix::glob::Pattern;
use gix::glob::pattern::Case;
use gix::glob::wildmatch::Mode;

use super::super::tree_path::TreePath;

/// The longest text, in bytes: more than the longest path with each of its bytes escaped.
const MAX_TEXT_BYTES: usize = 10_000;
const MAX_GLOBS: usize = 32;
/// How often one glob may have `**`: each may double the work.
const MAX_DOUBLE_STARS: usize = 8;
/// What has a meaning in a text of globs.
const SPECIAL: &[u8] = br"\*?[ !#";

/// Why a text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathGlobsError {
    /// The text is too long.
    #[error("the globs have more than {max} bytes")]
    TooLong {
        /// How many bytes they may have.
        max: usize,
    },
    /// There are too many.
    #[error("there are more than {max} globs")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// A glob has `**` too often.
    #[error("a glob has ** more than {max} times")]
    TooManyStars {
        /// How often it may have it.
        max: usize,
    },
}

/// Globs separated by spaces. A folder that matches stands for everything in it. Without a glob that names something, everything is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathGlobs {
    included: Vec<Pattern>,
    excluded: Vec<Pattern>,
}

impl PathGlobs {
    /// Parses globs separated by spaces. `\ ` is a space of a name.
    pub fn parse(text: &[u8]) -> Result<Self, PathGlobsError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(PathGlobsError::TooLong {
                max: MAX_TEXT_BYTES,
            });
        }
        let mut globs = Self::default();
        for glob in divided(text) {
            if memchr::memmem::find_iter(glob, b"**").count() > MAX_DOUBLE_STARS {
                return Err(PathGlobsError::TooManyStars {
                    max: MAX_DOUBLE_STARS,
                });
            }
            let Some(pattern) = Pattern::from_bytes(glob) else {
                continue;
            };
            match pattern.is_negative() {
                true => globs.excluded.push(pattern),
                false => globs.included.push(pattern),
            }
        }
        if globs.included.len() + globs.excluded.len() > MAX_GLOBS {
            return Err(PathGlobsError::TooMany { max: MAX_GLOBS });
        }
        Ok(globs)
    }

    /// The text of a glob that matches this file alone.
    #[must_use]
    pub fn exact(path: &TreePath) -> Vec<u8> {
        let mut glob = vec![b'/'];
        for byte in path.as_bytes() {
            if SPECIAL.contains(byte) {
                glob.push(b'\\');
            }
            glob.push(*byte);
        }
        glob
    }

    /// Whether everything is named.
    pub(super) fn include_all(&self) -> bool {
        self.included.is_empty()
    }

    pub(super) fn include(&self, path: &TreePath, is_folder: bool) -> bool {
        any_matches(&self.included, path, is_folder)
    }

    pub(super) fn exclude(&self, path: &TreePath, is_folder: bool) -> bool {
        any_matches(&self.excluded, path, is_folder)
    }
}

/// The parts between spaces that are not escaped.
fn divided(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_escaped = false;
    text.split(move |byte| {
        let divides = *byte == b' ' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        divides
    })
    .filter(|glob| !glob.is_empty())
}

fn any_matches(patterns: &[Pattern], path: &TreePath, is_folder: bool) -> bool {
    if patterns.is_empty() {
        return false;
    }
    let path = path.as_bytes();
    let name_at = memchr::memrchr(b'/', path).map(|at| at + 1);
    patterns.iter().any(|pattern| {
        pattern.matches_repo_relative_path(
            BStr::new(path),
            name_at,
            Some(is_folder),
            Case::Sensitive,
            Mode::NO_MATCH_SLASH_LITERAL,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &[u8]) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    #[test]
    fn globs_match_as_in_gitignore() {
        let globs = PathGlobs::parse(br"*.rs  src/web/ /docs a\ b !*.md !\!x").unwrap();
        for (name, is_folder) in [
            (&b"a/b/c.rs"[..], false),
            (b"src/web", true),
            (b"docs", true),
            (b"docs", false),
            (b"x/a b", false),
        ] {
            assert!(globs.include(&path(name), is_folder), "{name:?}");
        }
        for (name, is_folder) in [
            (&b"src/web"[..], false),
            (b"x/src/web", true),
            (b"x/docs", true),
            (b"rs", false),
            (b"b", false),
        ] {
            assert!(!globs.include(&path(name), is_folder), "{name:?}");
        }
        assert!(globs.exclude(&path(b"a/b.md"), false) && globs.exclude(&path(b"!x"), false));
        assert!(!globs.include_all() && PathGlobs::parse(b" !a ! ").unwrap().include_all());
    }

    #[test]
    fn an_exact_glob_matches_its_file_alone() {
        for name in [
            &b"a"[..],
            b"a b/c",
            b"*?[x]",
            b"!a",
            b"#a",
            br"a\b",
            b"\xff\n",
            b"a/**/b",
            b" ",
        ] {
            let globs = PathGlobs::parse(&PathGlobs::exact(&path(name))).unwrap();
            assert!(globs.include(&path(name), false), "{name:?}");
            assert!(!globs.include(&path(b"x").join(name), false), "{name:?}");
            assert_eq!(globs.included.len(), 1, "{name:?}");
        }
    }

    #[test]
    fn the_work_for_globs_is_bounded() {
        let long = vec![b'a'; 20_000];
        let many = b"a ".repeat(40);
        let stars = b"**/a/".repeat(9);
        for (text, error) in [
            (&long, PathGlobsError::TooLong { max: 10_000 }),
            (&many, PathGlobsError::TooMany { max: 32 }),
            (&stars, PathGlobsError::TooManyStars { max: 8 }),
        ] {
            assert_eq!(PathGlobs::parse(text), Err(error));
        }
        let hard = PathGlobs::parse(&[&b"**/a/".repeat(8)[..], b"b"].concat()).unwrap();
        assert!(!hard.include(&path(&b"a/".repeat(200)), false));
        let stars = PathGlobs::parse(&[&b"*a".repeat(60)[..], b"b"].concat()).unwrap();
        assert!(!stars.include(&path(&b"a".repeat(4000)), false));
    }
}
