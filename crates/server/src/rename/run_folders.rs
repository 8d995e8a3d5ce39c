//! The folders of a repository's runs, with their logs, artifacts and workspaces. They are moved one by one, because
//! the folders of a group with the repository's name may be beside them.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use quire_git::{move_leaving_link, relative_link};
use quire_types::fsutil::{remove_folder, sync_folder};
use quire_types::names::{RepoName, RunId};
use quire_types::paths::Paths;

use super::error::RenameError;

struct RunFolderEntry {
    run: RunId,
    path: PathBuf,
    is_link: bool,
}

/// What a repository's folder below `runs/` or `artifacts/` contains.
#[derive(Default)]
struct Listing {
    runs: Vec<RunFolderEntry>,
    /// Links that an interrupted move has left.
    unfinished_links: Vec<PathBuf>,
}

/// The folders that contain those of the runs.
pub(super) fn roots(paths: &Paths) -> [PathBuf; 2] {
    [paths.runs_dir(), paths.artifacts()]
}

/// Returns the folders of a repository's runs, without those of a group with the same name.
pub fn run_folders(paths: &Paths, repo: &RepoName) -> Result<Vec<PathBuf>, RenameError> {
    let is_repo = |name: &RepoName| paths.repo(name).exists();
    let mut found = Vec::new();
    for root in roots(paths) {
        let listing = list(&root, repo, &is_repo).map_err(|source| RenameError::Io {
            attempt: "cannot list the folders of runs in",
            path: root,
            source,
        })?;
        let folders = listing.runs.into_iter().filter(|entry| !entry.is_link);
        found.extend(folders.map(|entry| entry.path));
    }
    Ok(found)
}

/// Removes the folders of all runs of a repository that was removed.
pub fn remove_run_folders(paths: &Paths, repo: &RepoName) -> Result<(), RenameError> {
    for path in run_folders(paths, repo)? {
        remove_folder(&path).map_err(|source| RenameError::Io {
            attempt: "the repository was removed, but some of its runs were not: cannot remove",
            path,
            source,
        })?;
    }
    remove_empty_run_folders(paths, repo);
    Ok(())
}

/// Removes the folders of a repository's runs that are empty, and that of its group.
pub fn remove_empty_run_folders(paths: &Paths, repo: &RepoName) {
    for root in roots(paths) {
        remove_empty(&root, repo);
    }
}

fn list(root: &Path, repo: &RepoName, is_repo: &dyn Fn(&RepoName) -> bool) -> io::Result<Listing> {
    let entries = match fs::read_dir(root.join(repo.as_str())) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Listing::default()),
        Err(error) => return Err(error),
    };
    let mut listing = Listing::default();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let file_type = entry.file_type()?;
        let is_link = file_type.is_symlink();
        let run = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RunId>().ok());
        match run {
            Some(run) => {
                // The name of a repository in the group may look like the id of a run.
                let is_repo_of_group = || {
                    format!("{repo}/{run}")
                        .parse()
                        .is_ok_and(|name| is_repo(&name))
                };
                if is_link || (file_type.is_dir() && !is_repo_of_group()) {
                    listing.runs.push(RunFolderEntry { run, path, is_link });
                }
            }
            None if is_link => listing.unfinished_links.push(path),
            None => {}
        }
    }
    Ok(listing)
}

/// Moves the folders of all runs of a repository, and leaves links in their places. It is safe to repeat.
pub(super) fn move_all(
    root: &Path,
    from: &RepoName,
    to: &RepoName,
    active: &[RunId],
    is_repo: &dyn Fn(&RepoName) -> bool,
) -> io::Result<()> {
    let old = root.join(from.as_str());
    let new = root.join(to.as_str());
    for run in active {
        // An active run may create its folder at any time, under the name with which it started. If there is a link
        // to a folder, this succeeds too.
        fs::create_dir_all(old.join(run.to_string()))?;
    }
    let runs = list(root, from, is_repo)?.runs;
    if runs.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(&new)?;
    for RunFolderEntry { run, path, .. } in runs {
        let text = relative_link(&format!("{from}/{run}"), &format!("{to}/{run}"));
        move_leaving_link(&path, &new.join(run.to_string()), &text)?;
        quire_types::failpoint::hit("rename-folder-moved");
    }
    for folder in [
        Some(new.as_path()),
        new.parent(),
        Some(old.as_path()),
        old.parent(),
    ]
    .into_iter()
    .flatten()
    {
        sync_folder(folder)?;
    }
    Ok(())
}

/// Removes the links that moved runs left below a name, except those of active runs; then the folder, if it is empty.
/// Returns whether no link is left.
pub(super) fn remove_links(
    root: &Path,
    name: &RepoName,
    active: &HashSet<RunId>,
) -> io::Result<bool> {
    let listing = list(root, name, &|_| false)?;
    let mut none_left = true;
    for RunFolderEntry { run, path, .. } in listing.runs.into_iter().filter(|entry| entry.is_link) {
        if active.contains(&run) {
            none_left = false;
            continue;
        }
        // Succeeds only if the folder is empty: it was created for the run, which never used it.
        if let Ok(folder) = path.canonicalize() {
            let _ = fs::remove_dir(folder);
        }
        remove_link(&path)?;
    }
    for path in &listing.unfinished_links {
        remove_link(path)?;
    }
    remove_empty(root, name);
    Ok(none_left)
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the folder of a repository's runs and that of its group, if they are empty.
pub(super) fn remove_empty(root: &Path, repo: &RepoName) {
    let mut folder = root.join(repo.as_str());
    while folder != root && fs::remove_dir(&folder).is_ok() {
        folder.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepoName {
        text.parse().unwrap()
    }

    #[test]
    fn runs_are_moved_except_those_of_a_group_of_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let (ended, active, other) = (RunId::new(), RunId::new(), RunId::new());
        fs::create_dir_all(root.join(format!("work/{ended}/jobs"))).unwrap();
        fs::create_dir_all(root.join(format!("work/app/{other}"))).unwrap();
        let none = |_: &RepoName| false;
        for _ in 0..2 {
            move_all(root, &name("work"), &name("play/x"), &[active], &none).unwrap();
        }
        for run in [ended, active] {
            assert!(
                root.join(format!("play/x/{run}"))
                    .symlink_metadata()
                    .unwrap()
                    .is_dir()
            );
            assert!(
                root.join(format!("work/{run}"))
                    .symlink_metadata()
                    .unwrap()
                    .is_symlink()
            );
        }
        fs::write(
            root.join(format!("work/{active}/run.log")),
            "by the old name",
        )
        .unwrap();
        assert!(root.join(format!("play/x/{active}/run.log")).exists());
        assert!(
            root.join(format!("work/{ended}/jobs")).is_dir()
                && root.join(format!("work/app/{other}")).is_dir()
        );
        // The link stays while the run is active; then only the group's folders stay below the old name.
        assert!(!remove_links(root, &name("work"), &HashSet::from([active])).unwrap());
        assert!(
            root.join(format!("work/{active}/run.log")).exists()
                && !root.join(format!("work/{ended}")).exists()
        );
        assert!(remove_links(root, &name("work"), &HashSet::new()).unwrap());
        assert_eq!(fs::read_dir(root.join("work")).unwrap().count(), 1);
        assert!(root.join(format!("play/x/{active}/run.log")).exists());
    }

    #[test]
    fn there_and_back_while_a_run_is_active() {
        let folder = tempfile::tempdir().unwrap();
        let (root, run) = (folder.path(), RunId::new());
        let none = |_: &RepoName| false;
        let file = |repo: &str| root.join(format!("{repo}/{run}/run.log"));
        fs::create_dir_all(file("a").parent().unwrap()).unwrap();
        fs::write(file("a"), "x").unwrap();
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "g/b")] {
            move_all(root, &name(from), &name(to), &[run], &none).unwrap();
            assert!(
                root.join(format!("{to}/{run}"))
                    .symlink_metadata()
                    .unwrap()
                    .is_dir(),
                "{from} {to}"
            );
            for repo in ["a", from, to] {
                assert!(file(repo).exists(), "{from} {to}: {repo}");
            }
        }
        for repo in ["a", "b", "c"] {
            assert!(remove_links(root, &name(repo), &HashSet::new()).unwrap());
            assert!(!root.join(repo).exists(), "{repo}");
        }
        assert!(file("g/b").exists());
    }

    #[test]
    fn an_unused_folder_is_removed_with_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (root, run) = (folder.path(), RunId::new());
        move_all(root, &name("a"), &name("b"), &[run], &|_| false).unwrap();
        assert!(remove_links(root, &name("a"), &HashSet::new()).unwrap());
        remove_empty(root, &name("b"));
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }
}
