//! Caches in a workspace: symbolic links to their folders.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use quire_types::names::RepoName;

use super::cache_dirs::cache_dir;
use crate::api::CacheMount;
use crate::cache_location::{CacheLocation, locate};
use crate::error::{ExecutorError, InvalidCommand};

/// Where commands see the workspace in a container: a path that begins with it means the workspace
/// here as well.
const CONTAINER_WORKSPACE: &str = "/work";

/// The caches of a run.
#[derive(Default)]
pub(super) struct MountedCaches {
    pub(super) links: Vec<CacheLink>,
    /// Lines for the log about the caches that need no link.
    pub(super) notes: Vec<String>,
}

/// A cache in the workspace.
pub(super) struct CacheLink {
    /// The link, relative to the workspace.
    pub(super) location: PathBuf,
    /// The folder that it points to.
    pub(super) target: PathBuf,
}

/// Links the caches of a repository into a workspace that the tree has been unpacked into.
pub(super) fn mount(
    caches: &Path,
    repo: &RepoName,
    mounts: &[CacheMount],
    workspace: &Path,
) -> Result<MountedCaches, ExecutorError> {
    let mut mounted = MountedCaches::default();
    for cache in mounts {
        match locate(cache, Path::new(CONTAINER_WORKSPACE))? {
            CacheLocation::Workspace(location) => mounted.links.push(CacheLink {
                location,
                target: cache_dir(caches, repo, &cache.name),
            }),
            CacheLocation::Elsewhere(path) => mounted.notes.push(format!(
                "quire: the cache `{}` is the folder {} of this machine, which stays as it is from run to run",
                cache.name,
                path.display()
            )),
        }
    }
    // The outer one of two before the inner, which is then in it.
    mounted
        .links
        .sort_by_key(|link| link.location.components().count());
    for CacheLink { location, target } in &mounted.links {
        if let Some(occupied) = occupied(workspace, location, caches) {
            return Err(InvalidCommand::CacheOverFile(occupied.display().to_string()).into());
        }
        link(workspace, location, target).map_err(|error| {
            ExecutorError::caused_by("put the cache into the workspace", &error)
        })?;
    }
    Ok(mounted)
}

/// Returns the part of a cache's location where the tree has something else than a folder. Links to
/// caches are not of the tree.
fn occupied(workspace: &Path, location: &Path, caches: &Path) -> Option<PathBuf> {
    let caches = fs::canonicalize(caches).unwrap_or_else(|_| caches.to_owned());
    let mut part = PathBuf::new();
    for name in location {
        part.push(name);
        let place = workspace.join(&part);
        let metadata = place.symlink_metadata().ok()?;
        let is_cache = || fs::read_link(&place).is_ok_and(|target| target.starts_with(&caches));
        if metadata.is_dir() || (metadata.is_symlink() && is_cache()) {
            continue;
        }
        return Some(part);
    }
    None
}

/// Creates the link to a cache. What the tree has at its place is moved into the cache, as it is
/// unpacked into the cache in a container.
fn link(workspace: &Path, location: &Path, cache: &Path) -> io::Result<()> {
    fs::create_dir_all(cache)?;
    let cache = fs::canonicalize(cache)?;
    let place = workspace.join(location);
    fs::create_dir_all(place.parent().unwrap_or(workspace))?;
    match place.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            merge(&place, &cache)?;
            fs::remove_dir(&place)?;
        }
        Ok(metadata) if metadata.is_symlink() && fs::read_link(&place)? == cache => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    symlink(&cache, &place)
}

/// Moves the content of a folder into another one and replaces what exists there. Recurses as
/// deep as the folders of the tree.
fn merge(from: &Path, into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let old = entry.path();
        let new = into.join(entry.file_name());
        let existing = new.symlink_metadata().ok();
        if entry.file_type()?.is_dir() {
            if !existing.is_some_and(|existing| existing.is_dir()) {
                fs::create_dir(&new)?;
            }
            merge(&old, &new)?;
            fs::remove_dir(&old)?;
            continue;
        }
        if let Err(error) = fs::rename(&old, &new) {
            if error.kind() != io::ErrorKind::CrossesDevices {
                return Err(error);
            }
            let _ = fs::remove_file(&new);
            if entry.file_type()?.is_symlink() {
                symlink(fs::read_link(&old)?, &new)?;
            } else {
                fs::copy(&old, &new)?;
            }
            fs::remove_file(&old)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::cache_dirs::list;
    use super::*;
    use crate::api::CacheInfo;

    #[test]
    fn what_the_tree_has_is_moved_into_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let caches = folder.path().join("caches");
        let workspace = folder.path().join("workspace");
        fs::create_dir_all(workspace.join("target/in")).unwrap();
        fs::write(workspace.join("target/in/new"), "tree").unwrap();
        let repo: RepoName = "app".parse().unwrap();
        let cache = [CacheMount {
            name: "t".into(),
            path: "target".into(),
        }];
        fs::create_dir_all(caches.join("app/t/in")).unwrap();
        fs::write(caches.join("app/t/in/old"), "kept").unwrap();
        fs::write(caches.join("app/t/in/new"), "before").unwrap();
        mount(&caches, &repo, &cache, &workspace).unwrap();
        assert_eq!(
            fs::read_to_string(workspace.join("target/in/old")).unwrap(),
            "kept"
        );
        assert_eq!(
            fs::read_to_string(workspace.join("target/in/new")).unwrap(),
            "tree"
        );
        assert_eq!(
            list(&caches).unwrap(),
            [CacheInfo {
                repo: repo.clone(),
                name: "t".into()
            }]
        );
        // A link of the tree's on the way, and a file in its place.
        symlink("/tmp", workspace.join("way")).unwrap();
        fs::write(workspace.join("file"), "").unwrap();
        for path in ["way/x", "file"] {
            assert!(
                mount(
                    &caches,
                    &repo,
                    &[CacheMount {
                        name: "u".into(),
                        path: path.into()
                    }],
                    &workspace
                )
                .is_err(),
                "{path}"
            );
        }
    }
}
