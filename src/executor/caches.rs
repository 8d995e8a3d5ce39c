//! What both executors say of caches.

use std::path::{Path, PathBuf};

use super::command::below;
use super::{CacheMount, ExecutorError};
use crate::names::RepoName;

/// A cache that there is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheInfo {
    /// The repository whose runs share it.
    pub repo: RepoName,
    /// Its name.
    pub name: String,
}

/// Where a cache is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// In the workspace, as a path from there.
    Workspace(PathBuf),
    /// Elsewhere, as an absolute path.
    Elsewhere(PathBuf),
}

/// Reads a cache's path, given where commands see the workspace.
pub(super) fn seen(cache: &CacheMount, workspace: &Path) -> Result<Seen, ExecutorError> {
    let refuse = |why: &str| {
        Err(ExecutorError::Command(format!(
            "the cache `{}` cannot lie at `{}`: {why}",
            cache.name, cache.path
        )))
    };
    let path = Path::new(&cache.path);
    if !path.is_absolute() {
        return match below(&cache.path) {
            Ok(path) if path.as_os_str().is_empty() => {
                refuse("it would take the place of the whole workspace")
            }
            Ok(path) => Ok(Seen::Workspace(path)),
            Err(why) => refuse(&format!("the path {why}")),
        };
    }
    if cache.path.contains('\0')
        || path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    {
        return refuse("an absolute path is written without `..`");
    }
    match path.strip_prefix(workspace) {
        Ok(path) if path.as_os_str().is_empty() => {
            refuse("it would take the place of the whole workspace")
        }
        Ok(path) => Ok(Seen::Workspace(path.to_owned())),
        Err(_) if path.parent().is_none() => refuse("it would take the place of everything"),
        Err(_) => Ok(Seen::Elsewhere(path.to_owned())),
    }
}

/// The words for a cache that a run has.
pub(super) fn busy(repo: &RepoName, name: &str) -> ExecutorError {
    ExecutorError::Busy(format!(
        "the cache `{name}` of `{repo}` is in use by a run; try again when it has ended"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_takes_the_place_of_no_workspace() {
        let of = |path: &str| {
            seen(
                &CacheMount {
                    name: "c".into(),
                    path: path.into(),
                },
                Path::new("/work"),
            )
        };
        assert_eq!(
            of("./target/x").unwrap(),
            Seen::Workspace("target/x".into())
        );
        assert_eq!(
            of("/work/target").unwrap(),
            Seen::Workspace("target".into())
        );
        assert_eq!(
            of("/root/.cargo").unwrap(),
            Seen::Elsewhere("/root/.cargo".into())
        );
        for path in [
            "", ".", "a/..", "../x", "/", "/work", "/work/", "/a/../b", "x\0",
        ] {
            assert!(
                matches!(of(path), Err(ExecutorError::Command(_))),
                "{path:?}"
            );
        }
    }
}
