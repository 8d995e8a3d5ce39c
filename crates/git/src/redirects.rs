//! Redirects from the former names of repositories, on disk: a relative symbolic link at the old path to the new one.
//!
//! ```text
//!            repos/app.git   repos/shop.git
//! before     the folder      (nothing)
//! reserved   the folder      link to shop.git      refers to itself: this repository cannot be created
//! exchanged  link to shop.git   the folder         one system call: at no time is `app` missing
//! ```
//! Git, hooks and processes that have the old path open it through the link. The exchange needs a file system
//! that supports it (`renameat2`, `RENAME_EXCHANGE`), as all native file systems of Linux do.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use uuid::Uuid;

use super::error::GitError;
use super::git::Git;
use super::object_format::ObjectFormat;
use super::repo::stat;
use quire_types::fsutil::sync_parent;
use quire_types::names::RepoName;

/// What is at the path of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// Nothing.
    Vacant,
    /// A link: a redirect, or a name that is reserved.
    Redirect,
    /// A repository, or something else that no rename touches.
    Occupied,
}

impl Git {
    /// Follows redirects: returns the present name of a repository, given any of its names. A name that is no redirect is
    /// returned as it is.
    #[must_use]
    pub fn resolve(&self, repo: &RepoName) -> RepoName {
        self.redirect_target(repo).unwrap_or_else(|| repo.clone())
    }

    /// The repository that a name redirects to, or `None` if the name is no redirect.
    fn redirect_target(&self, repo: &RepoName) -> Option<RepoName> {
        let path = self.paths.repo(repo);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return None;
        }
        let (path, root) = (
            path.canonicalize().ok()?,
            self.paths.repos().canonicalize().ok()?,
        );
        let name = path
            .strip_prefix(root)
            .ok()?
            .to_str()?
            .strip_suffix(".git")?;
        name.parse().ok().filter(|name| name != repo)
    }

    /// What is at the path of a repository.
    #[must_use]
    pub fn path_state(&self, repo: &RepoName) -> PathState {
        path_state(&self.paths.repo(repo))
    }

    /// Whether two names are the same to the file system, such as names that differ in case only.
    #[must_use]
    pub fn same_on_disk(&self, one: &RepoName, other: &RepoName) -> bool {
        let identity = |repo: &RepoName| {
            fs::symlink_metadata(self.paths.repo(repo))
                .map(|found| (found.dev(), found.ino()))
                .ok()
        };
        one != other && identity(one).is_some() && identity(one) == identity(other)
    }

    /// Reserves the new name of a repository that is to be renamed. Returns false if the name is in use.
    pub fn reserve(&self, from: &RepoName, to: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(to);
        let failed = |source| GitError::Io {
            action: "reserve",
            path: path.clone(),
            source,
        };
        self.try_exchange()?;
        match self.path_state(to) {
            PathState::Occupied => return Ok(false),
            // It redirects to what it redirected to before, until the exchange.
            PathState::Redirect => return Ok(true),
            PathState::Vacant => {}
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match symlink(self.link_target(from, to), &path) {
            Ok(()) => sync_parent(&path).map(|()| true).map_err(failed),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(self.path_state(to) == PathState::Redirect)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Moves a repository to the name that is reserved for it, and leaves a redirect. Does nothing if that is done
    /// already. Returns false if there is no repository to move, or the new name is in use.
    pub fn move_to_reserved(&self, from: &RepoName, to: &RepoName) -> Result<bool, GitError> {
        let (old, new) = (self.paths.repo(from), self.paths.repo(to));
        let moved = move_leaving_link(&old, &new, &self.link_target(from, to)).and_then(|moved| {
            sync_parent(&new)?;
            sync_parent(&old)?;
            Ok(moved)
        });
        moved.map_err(|source| GitError::Io {
            action: "rename",
            path: old,
            source,
        })
    }

    /// Makes a name redirect to a repository. Returns false if another repository has the name.
    pub fn ensure_redirect(&self, name: &RepoName, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(name);
        match self.path_state(name) {
            PathState::Occupied => return Ok(false),
            PathState::Redirect if self.redirect_target(name).as_ref() == Some(repo) => {
                return Ok(true);
            }
            PathState::Redirect | PathState::Vacant => {}
        }
        let placed =
            replace_link(&path, &self.link_target(name, repo)).and_then(|()| sync_parent(&path));
        placed.map(|()| true).map_err(|source| GitError::Io {
            action: "link",
            path,
            source,
        })
    }

    /// Removes a redirect or a reservation, and the folder of its group if that is empty then. A repository of
    /// this name is not touched.
    pub fn remove_redirect(&self, name: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(name);
        if self.path_state(name) == PathState::Redirect {
            fs::remove_file(&path).map_err(|source| GitError::Io {
                action: "remove the link",
                path: path.clone(),
                source,
            })?;
        }
        self.remove_empty_group(&path);
        Ok(())
    }

    /// Removes a dangling redirect, if quire made it. A user's own link points out of the folder:
    /// perhaps to a disk that is not mounted now. A link that cannot be followed for another reason does not count as
    /// dangling.
    pub fn remove_dangling_redirect(&self, name: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(name);
        let own = fs::read_link(&path).is_ok_and(|text| text.is_relative());
        let target = stat(&path).map_err(|source| GitError::Io {
            action: "read",
            path,
            source,
        })?;
        if own && target.is_none() {
            self.remove_redirect(name)
        } else {
            Ok(())
        }
    }

    /// Creates an empty repository in place of a redirect.
    pub fn create_over_redirect(
        &self,
        name: &RepoName,
        format: ObjectFormat,
    ) -> Result<(), GitError> {
        let fresh = self.init_bare(format, |_| Ok(()))?;
        let path = self.paths.repo(name);
        let created = exchange(&fresh, &path)
            .and_then(|()| fs::remove_file(&fresh))
            .and_then(|()| sync_parent(&path));
        created.map_err(|source| {
            let _ = fs::remove_dir_all(&fresh);
            GitError::Io {
                action: "create the repository",
                path,
                source,
            }
        })
    }

    /// All redirects, reservations, and links of the user's own, except in groups that cannot be listed.
    pub fn redirects(&self) -> Result<Vec<RepoName>, GitError> {
        let (mut redirects, _unreadable) = self.entry_names()?;
        redirects.retain(|name| self.path_state(name) == PathState::Redirect);
        Ok(redirects)
    }

    /// Tries an exchange of two temporary entries.
    fn try_exchange(&self) -> Result<(), GitError> {
        let folder = self.paths.repos().join(".new");
        let [one, other] = [(); 2].map(|()| folder.join(Uuid::now_v7().to_string()));
        let tried = fs::create_dir_all(&one)
            .and_then(|()| symlink(".", &other))
            .and_then(|()| exchange(&one, &other));
        for path in [one, other] {
            let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        }
        tried.map_err(|source| match source.raw_os_error() {
            Some(nix::libc::EINVAL | nix::libc::ENOSYS | nix::libc::EOPNOTSUPP) => {
                GitError::ExchangeUnsupported(folder.clone())
            }
            _ => GitError::Io {
                action: "write in",
                path: folder.clone(),
                source,
            },
        })
    }

    /// The target of a link at the path of one repository to the path of another.
    fn link_target(&self, at: &RepoName, to: &RepoName) -> PathBuf {
        relative_link(at.as_str(), &format!("{to}.git"))
    }
}

/// The relative path from the parent of one name to another name, both below the same folder.
#[must_use]
pub fn relative_link(at: &str, to: &str) -> PathBuf {
    let up = "../".repeat(at.matches('/').count());
    PathBuf::from(format!("{up}{to}"))
}

fn path_state(path: &Path) -> PathState {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => PathState::Redirect,
        Err(error) if error.kind() == ErrorKind::NotFound => PathState::Vacant,
        _ => PathState::Occupied,
    }
}

/// Moves a folder, and leaves a link with this target at its old path: by one exchange, so that at no time the
/// old path is missing. Does nothing if that is done already. Returns false if there is no folder to move, or
/// another one at the new path. The caller has to sync both parents.
pub fn move_leaving_link(from: &Path, to: &Path, target: &Path) -> io::Result<bool> {
    match (path_state(from), path_state(to)) {
        (PathState::Occupied, PathState::Occupied)
        | (PathState::Vacant, PathState::Vacant | PathState::Redirect)
        | (PathState::Redirect, PathState::Vacant | PathState::Redirect) => {
            return Ok(false);
        }
        (PathState::Occupied, PathState::Vacant) => {
            symlink(target, to)?;
            exchange(from, to)?;
        }
        (PathState::Occupied, PathState::Redirect) => exchange(from, to)?,
        // Done before, except perhaps for the link.
        (PathState::Vacant | PathState::Redirect, PathState::Occupied) => {}
    }
    // A link that was there before has another target.
    if fs::read_link(from).ok().as_deref() != Some(target) {
        replace_link(from, target)?;
    }
    Ok(true)
}

/// Exchanges what is at two paths, in one system call.
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat2(
        AT_FDCWD,
        one,
        AT_FDCWD,
        other,
        RenameFlags::RENAME_EXCHANGE,
    )?)
}

/// Creates or replaces a link, by a rename.
fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    // Always the same name, so that what a crash leaves is replaced.
    let draft = parent.join(format!(
        ".{}.link",
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    match symlink(target, &draft) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&draft)?;
            symlink(target, &draft)?;
        }
        made => made?,
    }
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::paths::Paths;

    struct Fixture {
        git: Git,
        paths: Paths,
        _folder: tempfile::TempDir,
    }

    fn fixture(repos: &[&str]) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        let git = Git::new(&paths);
        repos
            .iter()
            .for_each(|repo| assert!(git.create(&name(repo)).unwrap()));
        Fixture {
            git,
            paths,
            _folder: folder,
        }
    }

    fn name(text: &str) -> RepoName {
        text.parse().unwrap()
    }

    #[test]
    fn links_are_relative_also_across_groups() {
        for (at, to, text) in [
            ("a", "b", "b.git"),
            ("g/a", "b", "../b.git"),
            ("a", "g/b", "g/b.git"),
            ("g/a", "h/b", "../h/b.git"),
        ] {
            let f = fixture(&[at]);
            assert!(f.git.reserve(&name(at), &name(to)).unwrap());
            assert!(f.git.exists(&name(at)).unwrap() && !f.git.exists(&name(to)).unwrap());
            assert!(
                matches!(f.git.create(&name(to)), Err(GitError::Reserved(_))),
                "it cannot be created meanwhile"
            );
            for _ in 0..2 {
                assert!(f.git.move_to_reserved(&name(at), &name(to)).unwrap());
                assert_eq!(
                    fs::read_link(f.paths.repo(&name(at))).unwrap(),
                    Path::new(text)
                );
                assert_eq!(
                    (f.git.resolve(&name(at)), f.git.list().unwrap().repos),
                    (name(to), vec![name(to)])
                );
                assert!(!f.git.exists(&name(at)).unwrap() && f.git.exists(&name(to)).unwrap());
            }
        }
    }

    #[test]
    fn a_repository_is_renamed_back_and_again() {
        let f = fixture(&["a"]);
        for (from, to) in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")] {
            assert!(f.git.reserve(&name(from), &name(to)).unwrap());
            assert!(f.git.move_to_reserved(&name(from), &name(to)).unwrap());
            assert_eq!(f.git.list().unwrap().repos, [name(to)]);
            assert_eq!(f.git.resolve(&name(from)), name(to));
        }
        assert_eq!(f.git.resolve(&name("a")), name("b"), "along two links");
        f.git.remove(&name("b")).unwrap();
        assert_eq!(f.git.redirects().unwrap().len(), 2);
        for link in f.git.redirects().unwrap() {
            f.git.remove_redirect(&link).unwrap();
        }
        assert!(f.git.create(&name("a")).unwrap());
    }

    #[test]
    fn neither_missing_nor_over_existing_repositories_is_moved() {
        let f = fixture(&["a", "b"]);
        assert!(!f.git.reserve(&name("a"), &name("b")).unwrap());
        assert!(!f.git.move_to_reserved(&name("a"), &name("b")).unwrap());
        assert!(!f.git.move_to_reserved(&name("none"), &name("c")).unwrap());
        assert!(!f.git.ensure_redirect(&name("b"), &name("a")).unwrap());
        assert!(
            f.git
                .ensure_redirect(&name("g/former"), &name("a"))
                .unwrap()
        );
        assert_eq!(f.git.list().unwrap().repos, [name("a"), name("b")]);
        f.git.remove_redirect(&name("a")).unwrap();
        assert!(
            f.git.exists(&name("a")).unwrap(),
            "only redirects are removed"
        );
        f.git
            .create_over_redirect(&name("g/former"), ObjectFormat::Sha1)
            .unwrap();
        assert_eq!(
            f.git.list().unwrap().repos,
            [name("a"), name("b"), name("g/former")]
        );
        assert_eq!(
            fs::read_dir(f.paths.repos().join(".new")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_link_to_another_folder_is_no_redirect() {
        let f = fixture(&["a"]);
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(f.paths.repo(&name("a")), elsewhere.path().join("a.git")).unwrap();
        symlink(elsewhere.path().join("a.git"), f.paths.repo(&name("a"))).unwrap();
        assert_eq!(
            (f.git.resolve(&name("a")), f.git.list().unwrap().repos),
            (name("a"), vec![name("a")])
        );
        // Its target may be on a disk that is not mounted, so it stays. A dangling one of quire's own is removed.
        fs::remove_dir_all(elsewhere.path().join("a.git")).unwrap();
        symlink("gone.git", f.paths.repo(&name("former"))).unwrap();
        for link in f.git.redirects().unwrap() {
            f.git.remove_dangling_redirect(&link).unwrap();
        }
        assert_eq!(f.git.redirects().unwrap(), [name("a")]);
    }

    #[test]
    fn two_names_of_one_folder_are_the_same_on_disk() {
        let f = fixture(&["a", "b"]);
        assert!(
            !f.git.same_on_disk(&name("a"), &name("b"))
                && !f.git.same_on_disk(&name("a"), &name("A"))
        );
        // As on a file system that ignores case: the same entry by two names. A hard link of a file imitates it.
        for repo in ["b", "a"] {
            fs::remove_dir_all(f.paths.repo(&name(repo))).unwrap();
        }
        fs::write(f.paths.repo(&name("a")), "").unwrap();
        fs::hard_link(f.paths.repo(&name("a")), f.paths.repo(&name("A"))).unwrap();
        assert!(f.git.same_on_disk(&name("a"), &name("A")));
    }
}
