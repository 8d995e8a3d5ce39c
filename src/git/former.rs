//! Names that repositories had before, on disk: a link at the old place, relative, to the new one.
//!
//! ```text
//!            repos/app.git   repos/shop.git
//! before     the folder      (nothing)
//! reserved   the folder      link to shop.git      leads to itself: nobody can make this repository
//! exchanged  link to shop.git   the folder         one system call: at no time is `app` missing
//! ```
//! Git, hooks and whoever holds the old path go on through the link. The exchange needs a file system
//! that can do it (`renameat2`, `RENAME_EXCHANGE`): all that keep their own files on Linux can.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use uuid::Uuid;

use super::repo::look;
use super::{Git, GitError};
use crate::names::RepoName;

/// What lies at a repository's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Free,
    /// A link: a former name, or one that is reserved.
    Link,
    /// A repository, or something else that no rename touches.
    Taken,
}

impl Git {
    /// The name that a repository bears now, by whatever name it is called; the same where that is none of its former ones.
    #[must_use]
    pub fn current(&self, repo: &RepoName) -> RepoName {
        self.led_to(repo).unwrap_or_else(|| repo.clone())
    }

    /// Where a former name leads; none for any other name.
    fn led_to(&self, repo: &RepoName) -> Option<RepoName> {
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

    /// What lies at a repository's place.
    #[must_use]
    pub fn place_of(&self, repo: &RepoName) -> Place {
        place_at(&self.paths.repo(repo))
    }

    /// Whether the file system takes two names for one, such as those that differ in case only.
    #[must_use]
    pub fn are_one(&self, one: &RepoName, other: &RepoName) -> bool {
        let identity = |repo: &RepoName| {
            fs::symlink_metadata(self.paths.repo(repo))
                .map(|found| (found.dev(), found.ino()))
                .ok()
        };
        one != other && identity(one).is_some() && identity(one) == identity(other)
    }

    /// Reserves a name for a repository that is to be renamed. False where it is taken.
    ///
    /// # Errors
    /// The file system refuses, or cannot exchange two names.
    pub fn reserve(&self, from: &RepoName, to: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(to);
        let failed = |source| GitError::Io {
            attempt: "reserve",
            path: path.clone(),
            source,
        };
        self.try_exchange()?;
        match self.place_of(to) {
            Place::Taken => return Ok(false),
            // What it led to it leads to until the exchange.
            Place::Link => return Ok(true),
            Place::Free => {}
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match symlink(self.link_text(from, to), &path) {
            Ok(()) => sync_parent(&path).map(|()| true).map_err(failed),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(self.place_of(to) == Place::Link)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Moves a repository to the place that is reserved for it, and leaves a link. Done twice it is done once.
    /// False where there is nothing to move, or the place is taken.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn change_places(&self, from: &RepoName, to: &RepoName) -> Result<bool, GitError> {
        let (old, new) = (self.paths.repo(from), self.paths.repo(to));
        let moved = move_leaving_link(&old, &new, &self.link_text(from, to)).and_then(|moved| {
            sync_parent(&new)?;
            sync_parent(&old)?;
            Ok(moved)
        });
        moved.map_err(|source| GitError::Io {
            attempt: "rename",
            path: old,
            source,
        })
    }

    /// Has a former name lead to its repository. True where it does then; false where the name is somebody else's.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn lead(&self, name: &RepoName, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(name);
        match self.place_of(name) {
            Place::Taken => return Ok(false),
            Place::Link if self.led_to(name).as_ref() == Some(repo) => return Ok(true),
            Place::Link | Place::Free => {}
        }
        let placed =
            place_link(&path, &self.link_text(name, repo)).and_then(|()| sync_parent(&path));
        placed.map(|()| true).map_err(|source| GitError::Io {
            attempt: "link",
            path,
            source,
        })
    }

    /// Frees a name that led to a repository, or was reserved; a group that is empty then goes. Anything else stays.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn free_name(&self, name: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(name);
        if self.place_of(name) == Place::Link {
            fs::remove_file(&path).map_err(|source| GitError::Io {
                attempt: "remove the link",
                path: path.clone(),
                source,
            })?;
        }
        self.drop_empty_group(&path);
        Ok(())
    }

    /// Frees a name whose link leads nowhere, where the link is one of quire's. A person's own link leads out of the folder:
    /// to a disk, perhaps, that is not mounted now. One that cannot be followed for another reason is not dead.
    ///
    /// # Errors
    /// The file system refuses, or cannot tell.
    pub fn free_dead(&self, name: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(name);
        let own = fs::read_link(&path).is_ok_and(|text| text.is_relative());
        let there = look(&path).map_err(|source| GitError::Io {
            attempt: "look at",
            path,
            source,
        })?;
        if own && there.is_none() {
            self.free_name(name)
        } else {
            Ok(())
        }
    }

    /// Makes an empty repository of a name that led to another one.
    ///
    /// # Errors
    /// The file system or git refuses.
    pub fn take_back(&self, name: &RepoName) -> Result<(), GitError> {
        let (fresh, path) = (self.fresh(|_| Ok(()))?, self.paths.repo(name));
        let taken = exchange(&fresh, &path)
            .and_then(|()| fs::remove_file(&fresh))
            .and_then(|()| sync_parent(&path));
        taken.map_err(|source| {
            let _ = fs::remove_dir_all(&fresh);
            GitError::Io {
                attempt: "make the repository",
                path,
                source,
            }
        })
    }

    /// All links at the places of repositories.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn links(&self) -> Result<Vec<RepoName>, GitError> {
        let mut links = self.names()?;
        links.retain(|name| self.place_of(name) == Place::Link);
        Ok(links)
    }

    /// Tries the exchange where nothing is at stake.
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
                GitError::NoExchange(folder.clone())
            }
            _ => GitError::Io {
                attempt: "write in",
                path: folder.clone(),
                source,
            },
        })
    }

    /// What a link at the place of one repository says to lead to that of another.
    fn link_text(&self, at: &RepoName, to: &RepoName) -> PathBuf {
        relative(at.as_str(), &format!("{to}.git"))
    }
}

/// The relative way from the place of one name to another's, both below the same folder.
#[must_use]
pub fn relative(at: &str, to: &str) -> PathBuf {
    let up = "../".repeat(at.matches('/').count());
    PathBuf::from(format!("{up}{to}"))
}

fn place_at(path: &Path) -> Place {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Place::Link,
        Err(error) if error.kind() == ErrorKind::NotFound => Place::Free,
        _ => Place::Taken,
    }
}

/// Moves a folder, and leaves a link of this text in its old place: by one exchange, so that at no time there is
/// nothing. Done twice it is done once. False where there is no folder to move, or another one in its way.
/// It is on the disk for good when both parents have been synced.
///
/// # Errors
/// The file system refuses.
pub fn move_leaving_link(from: &Path, to: &Path, text: &Path) -> io::Result<bool> {
    match (place_at(from), place_at(to)) {
        (Place::Taken, Place::Taken)
        | (Place::Free, Place::Free | Place::Link)
        | (Place::Link, Place::Free | Place::Link) => {
            return Ok(false);
        }
        (Place::Taken, Place::Free) => {
            symlink(text, to)?;
            exchange(from, to)?;
        }
        (Place::Taken, Place::Link) => exchange(from, to)?,
        // Done before, or all but the link.
        (Place::Free | Place::Link, Place::Taken) => {}
    }
    // One that lay there before says something else.
    if fs::read_link(from).ok().as_deref() != Some(text) {
        place_link(from, text)?;
    }
    Ok(true)
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat2(
        AT_FDCWD,
        one,
        AT_FDCWD,
        other,
        RenameFlags::RENAME_EXCHANGE,
    )?)
}

/// Puts a link in a place that is free or holds one, by a rename.
fn place_link(path: &Path, text: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    // Always the same one, so that what a crash leaves is used again.
    let draft = parent.join(format!(
        ".{}.link",
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    match symlink(text, &draft) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&draft)?;
            symlink(text, &draft)?;
        }
        made => made?,
    }
    fs::rename(draft, path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

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
    fn links_are_relative_and_lead_across_groups() {
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
                "nobody makes it meanwhile"
            );
            for _ in 0..2 {
                assert!(f.git.change_places(&name(at), &name(to)).unwrap());
                assert_eq!(
                    fs::read_link(f.paths.repo(&name(at))).unwrap(),
                    Path::new(text)
                );
                assert_eq!(
                    (f.git.current(&name(at)), f.git.list().unwrap()),
                    (name(to), vec![name(to)])
                );
                assert!(!f.git.exists(&name(at)).unwrap() && f.git.exists(&name(to)).unwrap());
            }
        }
    }

    #[test]
    fn there_and_back_and_on() {
        let f = fixture(&["a"]);
        for (from, to) in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")] {
            assert!(f.git.reserve(&name(from), &name(to)).unwrap());
            assert!(f.git.change_places(&name(from), &name(to)).unwrap());
            assert_eq!(f.git.list().unwrap(), [name(to)]);
            assert_eq!(f.git.current(&name(from)), name(to));
        }
        assert_eq!(f.git.current(&name("a")), name("b"), "along two links");
        f.git.remove(&name("b")).unwrap();
        assert_eq!(f.git.links().unwrap().len(), 2);
        for link in f.git.links().unwrap() {
            f.git.free_name(&link).unwrap();
        }
        assert!(f.git.create(&name("a")).unwrap());
    }

    #[test]
    fn what_is_taken_or_gone_is_not_moved() {
        let f = fixture(&["a", "b"]);
        assert!(!f.git.reserve(&name("a"), &name("b")).unwrap());
        assert!(!f.git.change_places(&name("a"), &name("b")).unwrap());
        assert!(!f.git.change_places(&name("none"), &name("c")).unwrap());
        assert!(!f.git.lead(&name("b"), &name("a")).unwrap());
        assert!(f.git.lead(&name("g/former"), &name("a")).unwrap());
        assert_eq!(f.git.list().unwrap(), [name("a"), name("b")]);
        f.git.free_name(&name("a")).unwrap();
        assert!(f.git.exists(&name("a")).unwrap(), "only links are freed");
        f.git.take_back(&name("g/former")).unwrap();
        assert_eq!(
            f.git.list().unwrap(),
            [name("a"), name("b"), name("g/former")]
        );
        assert_eq!(
            fs::read_dir(f.paths.repos().join(".new")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_link_that_leads_out_is_no_former_name() {
        let f = fixture(&["a"]);
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(f.paths.repo(&name("a")), elsewhere.path().join("a.git")).unwrap();
        symlink(elsewhere.path().join("a.git"), f.paths.repo(&name("a"))).unwrap();
        assert_eq!(
            (f.git.current(&name("a")), f.git.list().unwrap()),
            (name("a"), vec![name("a")])
        );
        // Not mounted, perhaps: it stays. One of quire's own that leads nowhere goes.
        fs::remove_dir_all(elsewhere.path().join("a.git")).unwrap();
        symlink("gone.git", f.paths.repo(&name("former"))).unwrap();
        for link in f.git.links().unwrap() {
            f.git.free_dead(&link).unwrap();
        }
        assert_eq!(f.git.links().unwrap(), [name("a")]);
    }

    #[test]
    fn two_names_of_one_folder_are_one() {
        let f = fixture(&["a", "b"]);
        assert!(!f.git.are_one(&name("a"), &name("b")) && !f.git.are_one(&name("a"), &name("A")));
        // As a file system does that takes upper for lower case: the same entry by two names. A hard link of a file stands for it.
        for repo in ["b", "a"] {
            fs::remove_dir_all(f.paths.repo(&name(repo))).unwrap();
        }
        fs::write(f.paths.repo(&name("a")), "").unwrap();
        fs::hard_link(f.paths.repo(&name("a")), f.paths.repo(&name("A"))).unwrap();
        assert!(f.git.are_one(&name("a"), &name("A")));
    }
}
