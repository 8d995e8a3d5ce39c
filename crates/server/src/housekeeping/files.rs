//! The files that retention works on: the folders of runs and their sizes, and what crashes leave in the volume.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use quire_git::TrashEntry;
use quire_types::clock::Millis;
use quire_types::fsutil::{folder_size, remove_folder};
use quire_types::names::{RepoName, RunId};
use quire_types::paths::Paths;

/// How many copies of the database made before a migration are kept.
const MAX_BACKUPS: usize = 5;
/// Unfinished files are removed after this time: no process is still writing them.
const LEFTOVER_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// A run's folder below `runs/` or `artifacts/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunFolder {
    pub(super) run: RunId,
    pub(super) path: PathBuf,
}

/// Returns all run folders below `root`. The name of a repository has one part or two; a folder on the second level
/// whose name is a run id is a repository if `repos` contains it, and a run otherwise.
pub(super) fn run_folders(root: &Path, repos: &HashSet<RepoName>) -> io::Result<Vec<RunFolder>> {
    let mut found = Vec::new();
    for first in folders(root)? {
        for second in folders(&first)? {
            let is_repo = || {
                second
                    .strip_prefix(root)
                    .ok()
                    .and_then(Path::to_str)
                    .is_some_and(|name| repos.iter().any(|r| r.as_str() == name))
            };
            match id_of(&second) {
                Some(run) if !is_repo() => found.push(RunFolder { run, path: second }),
                _ => found.extend(folders(&second)?.into_iter().filter_map(|path| {
                    Some(RunFolder {
                        run: id_of(&path)?,
                        path,
                    })
                })),
            }
        }
    }
    Ok(found)
}

fn id_of(path: &Path) -> Option<RunId> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Returns the folders in a folder, except hidden ones, which hold the runs of removed repositories; none if it does not exist.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type()?.is_dir() && !is_hidden {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a run's folder with its contents and returns their size. The repository's folder stays, because another
/// run may start in it.
pub(super) fn remove(folder: &Path) -> io::Result<u64> {
    let bytes = folder_size(folder);
    remove_folder(folder)?;
    Ok(bytes)
}

/// Returns the paths that can be removed: what crashes left, and the oldest copies of the database.
pub(super) fn leftovers(paths: &Paths, now: Millis) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [paths.repos().join(".new"), paths.trash()] {
        found.extend(
            entries(&folder)?
                .into_iter()
                .filter(|path| is_old(path, now) && !TrashEntry::is_folder(path)),
        );
    }
    let hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    found.extend(
        entries(&paths.spool())?
            .into_iter()
            .filter(|path| hidden(path) && is_old(path, now)),
    );
    let (mut copies, others): (Vec<_>, Vec<_>) = entries(&paths.backups())?
        .into_iter()
        .partition(|path| path.extension().is_some_and(|extension| extension == "db"));
    found.extend(
        others
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "partial") && is_old(path, now)),
    );
    // Names sort by version, then time.
    copies.sort();
    copies.truncate(copies.len().saturating_sub(MAX_BACKUPS));
    found.extend(copies);
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a file was last changed more than [`LEFTOVER_AGE_MS`] ago.
fn is_old(path: &Path, now: Millis) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path)
        .is_ok_and(|found| now.since(Millis(found.mtime() * 1000)) > LEFTOVER_AGE_MS)
}

/// Removes a file or a folder and returns its size.
pub(super) fn remove_any(path: &Path) -> io::Result<u64> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        let bytes = folder_size(path);
        fs::remove_dir_all(path).map(|()| bytes)
    } else {
        fs::remove_file(path).map(|()| found.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_folders_of_all_kinds_of_names() {
        let root = tempfile::tempdir().unwrap();
        let (plain, grouped, odd) = (RunId::new(), RunId::new(), RunId::new());
        let repo_like_an_id = format!("group/{}", RunId::new());
        for path in [
            format!("app/{plain}/jobs"),
            format!("work/app/{grouped}"),
            format!("{repo_like_an_id}/{odd}"),
            "app/other".to_owned(),
        ] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        fs::write(
            root.path().join("app").join(RunId::new().to_string()),
            "a file",
        )
        .unwrap();
        let repos = HashSet::from([repo_like_an_id.parse().unwrap()]);
        let mut found: Vec<RunId> = run_folders(root.path(), &repos)
            .unwrap()
            .into_iter()
            .map(|folder| folder.run)
            .collect();
        found.sort();
        assert_eq!(found, [plain, grouped, odd]);
        assert_eq!(run_folders(&root.path().join("none"), &repos).unwrap(), []);
    }

    #[test]
    fn sizes_and_removal() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("app").join(RunId::new().to_string());
        fs::create_dir_all(run.join("jobs/test")).unwrap();
        fs::write(run.join("run.log"), [0; 10]).unwrap();
        fs::write(run.join("jobs/test/1.log"), [0; 100]).unwrap();
        assert_eq!(folder_size(&run), 110);
        assert_eq!(remove(&run).unwrap(), 110);
        assert!(!run.exists());
        assert_eq!(remove(&run).unwrap(), 0, "safe to repeat");
    }

    #[test]
    fn what_crashes_left_is_removed_when_it_is_old() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path(), root.path().join("run"));
        let files = [
            paths.repos().join(".new/x/HEAD"),
            paths.spool().join(".draft"),
            paths.spool().join("event.json"),
            paths.backups().join("quire-v0001.partial"),
        ];
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        (1..8).for_each(|n| {
            fs::write(paths.backups().join(format!("quire-v000{n}-2026.db")), "x").unwrap()
        });
        let copies = [1, 2].map(|n| paths.backups().join(format!("quire-v000{n}-2026.db")));
        let now = quire_types::clock::Clock::system().now();
        assert_eq!(leftovers(&paths, now).unwrap(), copies);
        let mut later = leftovers(&paths, now.plus(25 * 3600 * 1000)).unwrap();
        later.sort();
        let mut all = [
            vec![
                paths.repos().join(".new/x"),
                files[1].clone(),
                files[3].clone(),
            ],
            copies.to_vec(),
        ]
        .concat();
        all.sort();
        assert_eq!(later, all);
        later
            .iter()
            .for_each(|path| assert!(remove_any(path).unwrap() > 0));
    }
}
