//! The folders of caches: where they are, what exists, how they are removed.
//!
//! ```text
//! <caches>/<repository>/<name>   a cache; both names escaped
//! <caches>/.aside/<uuid>         a cache that is being removed
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quire_types::names::RepoName;

use crate::api::CacheInfo;

/// Where caches are while they are removed. No repository has this name.
const TRASH: &str = ".aside";

/// The folder of a cache: a different one for each cache of each repository.
pub(super) fn cache_dir(caches: &Path, repo: &RepoName, name: &str) -> PathBuf {
    caches.join(escape(repo.as_str())).join(escape(name))
}

/// Lists the caches, sorted.
pub(super) fn list(caches: &Path) -> io::Result<Vec<CacheInfo>> {
    let mut found = Vec::new();
    for repo_dir in entry_names(caches)? {
        let Ok(repo) = unescape(&repo_dir).parse::<RepoName>() else {
            continue;
        };
        let names = entry_names(&caches.join(&repo_dir))?;
        found.extend(names.iter().map(|name| CacheInfo {
            repo: repo.clone(),
            name: unescape(name),
        }));
    }
    found.sort();
    Ok(found)
}

/// Moves a cache into the trash at once, and returns where it is then; `None` if it does not exist.
pub(super) fn move_to_trash(
    caches: &Path,
    repo: &RepoName,
    name: &str,
) -> io::Result<Option<PathBuf>> {
    let trash = caches.join(TRASH);
    fs::create_dir_all(&trash)?;
    let cache = cache_dir(caches, repo, name);
    let trashed = trash.join(uuid::Uuid::now_v7().to_string());
    // A folder to which a run has removed the permissions cannot be moved.
    let _ = fs::set_permissions(&cache, fs::Permissions::from_mode(0o700));
    match fs::rename(cache, &trashed) {
        Ok(()) => Ok(Some(trashed)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What removals left in the trash when they were interrupted. A removal in progress may be among
/// it.
pub(super) fn trashed(caches: &Path) -> Vec<PathBuf> {
    fs::read_dir(caches.join(TRASH))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// The size of all files of a cache in bytes. Files that vanish meanwhile do not count.
pub(super) fn size(dir: &Path) -> u64 {
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(of)
        .sum()
}

fn entry_names(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => Ok(entries?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()),
    }
}

/// Makes one file name of a name. One that begins with a dot could be that of another folder.
fn escape(name: &str) -> String {
    let name = name.replace('%', "%25").replace('/', "%2F");
    name.strip_prefix('.')
        .map_or_else(|| name.clone(), |rest| format!("%2E{rest}"))
}

fn unescape(name: &str) -> String {
    name.replace("%2E", ".")
        .replace("%2F", "/")
        .replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cache_has_a_folder_of_its_own() {
        let at = |repo: &str, name: &str| cache_dir(Path::new("/c"), &repo.parse().unwrap(), name);
        assert_eq!(
            at("group/app", "target"),
            Path::new("/c/group%2Fapp/target")
        );
        assert_eq!(at("app", "../x"), Path::new("/c/app/%2E.%2Fx"));
        assert_eq!(at("app", "."), Path::new("/c/app/%2E"));
        for name in ["a", "../x", ".", "..", "a%2Fb", "%2E"] {
            assert_eq!(unescape(&escape(name)), name);
        }
    }
}
