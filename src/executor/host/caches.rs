//! Caches as folders below the data volume, seen in a workspace through links.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::super::caches::{CacheInfo, Seen, seen};
use super::super::{CacheMount, ExecutorError};
use super::other;
use crate::names::RepoName;

/// Where commands see the workspace in a container: a path that begins so means the workspace here as well.
const AS_IN_A_CONTAINER: &str = "/work";

/// The caches of a run: where each is seen from the workspace and where it lies; and what is to be said of the others.
pub(super) struct Placed {
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    pub(super) notes: Vec<String>,
}

/// Puts the caches of a repository into a workspace in which the tree is laid out already.
pub(super) fn place(
    all: &Path,
    repo: &RepoName,
    caches: &[CacheMount],
    workspace: &Path,
) -> Result<Placed, ExecutorError> {
    let mut placed = Placed {
        links: Vec::new(),
        notes: Vec::new(),
    };
    for cache in caches {
        match seen(cache, Path::new(AS_IN_A_CONTAINER))? {
            Seen::Workspace(below) => placed.links.push((below, folder(all, repo, &cache.name))),
            Seen::Elsewhere(path) => placed.notes.push(format!(
                "quire: the cache `{}` is the folder {} of this machine, which stays as it is from run to run",
                cache.name,
                path.display()
            )),
        }
    }
    // The outer one of two before the inner, which then lies in it.
    placed
        .links
        .sort_by_key(|(below, _)| below.components().count());
    for (below, lies) in &placed.links {
        link(workspace, below, lies)
            .map_err(|error| other("put the cache into the workspace", &error))?;
    }
    Ok(placed)
}

/// Of the tree, what lies where a cache is seen goes into the cache, as it does in a container.
fn link(workspace: &Path, below: &Path, lies: &Path) -> io::Result<()> {
    fs::create_dir_all(lies)?;
    let lies = fs::canonicalize(lies)?;
    let place = workspace.join(below);
    let parent = place.parent().unwrap_or(workspace);
    fs::create_dir_all(parent)?;
    // The tree is foreign: a link in it may lead out. Within another cache it leads into that one's folder.
    let real = fs::canonicalize(parent)?;
    let caches = lies.parent().unwrap_or(&lies);
    if !real.starts_with(workspace) && !real.starts_with(caches) {
        return Err(io::Error::other(format!(
            "`{}` leads out of the workspace",
            below.display()
        )));
    }
    match place.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            merge(&place, &lies)?;
            fs::remove_dir(&place)?;
        }
        Ok(metadata) if metadata.is_symlink() && fs::read_link(&place)? == lies => return Ok(()),
        Ok(_) => {
            return Err(io::Error::other(format!(
                "the commit has something else than a folder at `{}`",
                below.display()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    symlink(&lies, &place)
}

/// Moves what is in a folder into another one, over what is there. The folders of the tree are its own depth deep.
fn merge(from: &Path, into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (old, new) = (entry.path(), into.join(entry.file_name()));
        let there = new.symlink_metadata().ok();
        if entry.file_type()?.is_dir() {
            if !there.is_some_and(|there| there.is_dir()) {
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

/// Every cache below this folder.
pub(super) fn list(all: &Path) -> io::Result<Vec<CacheInfo>> {
    let mut caches = Vec::new();
    for repo in names(all)? {
        let Ok(parsed) = unescaped(&repo).parse::<RepoName>() else {
            continue;
        };
        caches.extend(names(&all.join(&repo))?.iter().map(|name| CacheInfo {
            repo: parsed.clone(),
            name: unescaped(name),
        }));
    }
    caches.sort();
    Ok(caches)
}

/// Where caches lie that are being removed. No repository is called so.
const ASIDE: &str = ".aside";

/// Takes a cache from its place in one move; gives where it lies then, or nothing where there is none.
pub(super) fn set_aside(all: &Path, repo: &RepoName, name: &str) -> io::Result<Option<PathBuf>> {
    let aside = all.join(ASIDE);
    fs::create_dir_all(&aside)?;
    let (lies, going) = (
        folder(all, repo, name),
        aside.join(uuid::Uuid::now_v7().to_string()),
    );
    // One that a run has closed cannot be moved.
    let _ = fs::set_permissions(&lies, fs::Permissions::from_mode(0o700));
    match fs::rename(lies, &going) {
        Ok(()) => Ok(Some(going)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What lies there of removals that were cut off. One that goes on may be among it.
pub(super) fn aside(all: &Path) -> Vec<PathBuf> {
    fs::read_dir(all.join(ASIDE))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// Bytes of all files of a cache. What vanishes meanwhile counts as nothing.
pub(super) fn size(folder: &Path) -> u64 {
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(of)
        .sum()
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => Ok(entries?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()),
    }
}

/// Where a cache lies: another folder for each one of each repository.
pub(super) fn folder(all: &Path, repo: &RepoName, name: &str) -> PathBuf {
    all.join(escaped(repo.as_str())).join(escaped(name))
}

/// As one file name. A name that begins with a dot could be that of another folder.
fn escaped(name: &str) -> String {
    let name = name.replace('%', "%25").replace('/', "%2F");
    name.strip_prefix('.')
        .map_or_else(|| name.clone(), |rest| format!("%2E{rest}"))
}

fn unescaped(name: &str) -> String {
    name.replace("%2E", ".")
        .replace("%2F", "/")
        .replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_folder_of_its_own() {
        let at = |repo: &str, name: &str| folder(Path::new("/c"), &repo.parse().unwrap(), name);
        assert_eq!(
            at("group/app", "target"),
            Path::new("/c/group%2Fapp/target")
        );
        assert_eq!(at("app", "../x"), Path::new("/c/app/%2E.%2Fx"));
        assert_eq!(at("app", "."), Path::new("/c/app/%2E"));
        for name in ["a", "../x", ".", "..", "a%2Fb", "%2E"] {
            assert_eq!(unescaped(&escaped(name)), name);
        }
    }

    #[test]
    fn what_the_tree_has_goes_into_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let (all, workspace) = (
            folder.path().join("caches"),
            folder.path().join("workspace"),
        );
        fs::create_dir_all(workspace.join("target/in")).unwrap();
        fs::write(workspace.join("target/in/new"), "tree").unwrap();
        let repo: RepoName = "app".parse().unwrap();
        let cache = [CacheMount {
            name: "t".into(),
            path: "target".into(),
        }];
        fs::create_dir_all(all.join("app/t/in")).unwrap();
        fs::write(all.join("app/t/in/old"), "kept").unwrap();
        fs::write(all.join("app/t/in/new"), "before").unwrap();
        place(&all, &repo, &cache, &workspace).unwrap();
        assert_eq!(
            fs::read_to_string(workspace.join("target/in/old")).unwrap(),
            "kept"
        );
        assert_eq!(
            fs::read_to_string(workspace.join("target/in/new")).unwrap(),
            "tree"
        );
        assert_eq!(
            list(&all).unwrap(),
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
                place(
                    &all,
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
