//! The folders of a repository's runs, in which they keep logs, artifacts and workspaces: moved one by one, for
//! beside them may lie those of a group of the same name.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::git::{move_leaving_link, relative};
use crate::names::{RepoName, RunId};

/// What lies in a repository's folder of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    run: RunId,
    path: PathBuf,
    is_link: bool,
}

/// The runs of a repository that have a folder or a link below `root`, and whatever else is a link there.
fn entries(
    root: &Path,
    repo: &RepoName,
    is_repo: &dyn Fn(&RepoName) -> bool,
) -> io::Result<(Vec<Entry>, Vec<PathBuf>)> {
    let found = match fs::read_dir(root.join(repo.as_str())) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(error),
    };
    let (mut runs, mut drafts) = (Vec::new(), Vec::new());
    for entry in found {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let is_link = kind.is_symlink();
        match entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RunId>().ok())
        {
            // A repository of the group may bear a name like an id.
            Some(run)
                if is_link
                    || (kind.is_dir()
                        && !format!("{repo}/{run}")
                            .parse()
                            .is_ok_and(|name| is_repo(&name))) =>
            {
                runs.push(Entry { run, path, is_link });
            }
            None if is_link => drafts.push(path),
            _ => {}
        }
    }
    Ok((runs, drafts))
}

/// The folders of a repository's runs below `root`; not those of a group of the same name.
pub(super) fn of_runs(
    root: &Path,
    repo: &RepoName,
    is_repo: &dyn Fn(&RepoName) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let (runs, _) = entries(root, repo, is_repo)?;
    Ok(runs
        .into_iter()
        .filter(|entry| !entry.is_link)
        .map(|entry| entry.path)
        .collect())
}

/// Moves the folders of all runs of a repository, and leaves links. The active runs get one where they have none
/// yet: they may make it at any time, by the name they began with. Done twice it is done once.
pub(super) fn move_all(
    root: &Path,
    from: &RepoName,
    to: &RepoName,
    active: &[RunId],
    is_repo: &dyn Fn(&RepoName) -> bool,
) -> io::Result<()> {
    let (old, new) = (root.join(from.as_str()), root.join(to.as_str()));
    for run in active {
        // A link leads to a folder, so that is fine as well.
        fs::create_dir_all(old.join(run.to_string()))?;
    }
    let (runs, _) = entries(root, from, is_repo)?;
    if runs.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(&new)?;
    for Entry { run, path, .. } in runs {
        let text = relative(&format!("{from}/{run}"), &format!("{to}/{run}"));
        move_leaving_link(&path, &new.join(run.to_string()), &text)?;
        crate::fault::point("rename-folder-moved");
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
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Removes the links that moved runs left below a name, but those of runs that are still active; then the folder,
/// where nothing is left in it. Gives whether no link is left.
pub(super) fn clear_links(
    root: &Path,
    name: &RepoName,
    active: &HashSet<RunId>,
) -> io::Result<bool> {
    let (runs, drafts) = entries(root, name, &|_| false)?;
    let mut all = true;
    for Entry { run, path, .. } in runs.into_iter().filter(|entry| entry.is_link) {
        if active.contains(&run) {
            all = false;
            continue;
        }
        // One that was made for the run, and that it never used.
        if let Ok(folder) = path.canonicalize() {
            let _ = fs::remove_dir(folder);
        }
        remove_link(&path)?;
    }
    drafts.iter().try_for_each(|path| remove_link(path))?;
    drop_empty(root, name);
    Ok(all)
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the folder of a repository's runs, and that of its group, where nothing is left in them.
pub(super) fn drop_empty(root: &Path, repo: &RepoName) {
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
    fn runs_move_one_by_one_and_those_of_a_group_of_the_same_name_stay() {
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
        // While the run is active its link stays; then nothing of the old name does but the group's.
        assert!(!clear_links(root, &name("work"), &HashSet::from([active])).unwrap());
        assert!(
            root.join(format!("work/{active}/run.log")).exists()
                && !root.join(format!("work/{ended}")).exists()
        );
        assert!(clear_links(root, &name("work"), &HashSet::new()).unwrap());
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
            assert!(clear_links(root, &name(repo), &HashSet::new()).unwrap());
            assert!(!root.join(repo).exists(), "{repo}");
        }
        assert!(file("g/b").exists());
    }

    #[test]
    fn a_folder_nobody_used_goes_with_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (root, run) = (folder.path(), RunId::new());
        move_all(root, &name("a"), &name("b"), &[run], &|_| false).unwrap();
        assert!(clear_links(root, &name("a"), &HashSet::new()).unwrap());
        drop_empty(root, &name("b"));
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }
}
