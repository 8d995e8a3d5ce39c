//! Where commands see a cache.

use std::path::{Component, Path, PathBuf};

use crate::api::CacheMount;
use crate::command::normalize_relative;
use crate::error::{CachePathProblem, InvalidCommand, PathProblem};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheLocation {
    /// In the workspace, relative to it.
    Workspace(PathBuf),
    /// Outside of the workspace, as an absolute path.
    Elsewhere(PathBuf),
}

/// Returns the location of a cache, given the path at which commands see the workspace.
pub(crate) fn locate(
    cache: &CacheMount,
    workspace: &Path,
) -> Result<CacheLocation, InvalidCommand> {
    let error = |problem| InvalidCommand::CachePath {
        name: cache.name.clone(),
        path: cache.path.clone(),
        problem,
    };
    let path = Path::new(&cache.path);
    if !path.is_absolute() {
        let relative = normalize_relative(&cache.path)
            .map_err(|problem| error(CachePathProblem::Path(problem)))?;
        return if relative.as_os_str().is_empty() {
            Err(error(CachePathProblem::ReplacesWorkspace))
        } else {
            Ok(CacheLocation::Workspace(relative))
        };
    }
    if cache.path.contains('\0') {
        return Err(error(CachePathProblem::Path(PathProblem::NulByte)));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(error(CachePathProblem::ParentInAbsolutePath));
    }
    match path.strip_prefix(workspace) {
        Ok(relative) if relative.as_os_str().is_empty() => {
            Err(error(CachePathProblem::ReplacesWorkspace))
        }
        Ok(relative) => Ok(CacheLocation::Workspace(relative.to_owned())),
        Err(_) if path.parent().is_none() => Err(error(CachePathProblem::ReplacesRoot)),
        Err(_) => Ok(CacheLocation::Elsewhere(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_never_replaces_the_workspace() {
        let of = |path: &str| {
            let cache = CacheMount {
                name: "c".into(),
                path: path.into(),
            };
            locate(&cache, Path::new("/work"))
        };
        let workspace = |path: &str| Ok(CacheLocation::Workspace(path.into()));
        assert_eq!(of("./target/x"), workspace("target/x"));
        assert_eq!(of("/work/target"), workspace("target"));
        assert_eq!(
            of("/root/.cargo"),
            Ok(CacheLocation::Elsewhere("/root/.cargo".into()))
        );
        for path in [
            "", ".", "a/..", "../x", "/", "/work", "/work/", "/a/../b", "x\0",
        ] {
            assert!(of(path).is_err(), "{path:?}");
        }
    }
}
