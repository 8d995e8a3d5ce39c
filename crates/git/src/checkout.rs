//! A user's own checkout, for pipelines on their machine.
//!
//! Unlike the appliance's repositories, a checkout is read with the user's git configuration: it
//! says which files are ignored, and whether the folder is trusted. Variables that point git to another
//! repository (as set within a hook) are ignored: the folder alone counts.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::command::checked;
use super::error::{GitError, excerpt};
use super::git::Git;
use quire_types::names::ObjectId;

/// A folder in a git checkout.
#[derive(Debug, Clone)]
pub struct Checkout {
    folder: PathBuf,
    repository: PathBuf,
}

impl Checkout {
    /// The checkout that `folder` is in, or `None` if it is in no checkout.
    pub async fn find(folder: &Path) -> Result<Option<Self>, GitError> {
        if !folder
            .ancestors()
            .any(|folder| folder.join(".git").exists())
        {
            return Ok(None);
        }
        let mut checkout = Self {
            folder: folder.to_owned(),
            repository: PathBuf::new(),
        };
        require_version(&checkout.run("version", &[]).await?)?;
        let answer = checkout
            .run("rev-parse", &["--path-format=absolute", "--git-common-dir"])
            .await?;
        checkout.repository = path_of(&answer);
        Ok(Some(checkout))
    }

    /// The folder of the repository, with its objects.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// The top folder of the checkout.
    pub async fn top(&self) -> Result<PathBuf, GitError> {
        Ok(path_of(&self.run("rev-parse", &["--show-toplevel"]).await?))
    }

    /// The files in the folder that `git add --all` would commit, as paths below it, sorted: tracked files, and
    /// untracked ones that are not ignored. Some may have been deleted on disk.
    pub async fn files(&self) -> Result<Vec<PathBuf>, GitError> {
        let answer = self
            .run(
                "ls-files",
                &["-z", "--cached", "--others", "--exclude-standard"],
            )
            .await?;
        Ok(file_names(&[answer]))
    }

    /// The URL of the remote `origin`, if there is one.
    pub async fn origin(&self) -> Result<Option<String>, GitError> {
        match self.run("config", &["--get", "remote.origin.url"]).await {
            Ok(url) => Ok(Some(String::from_utf8_lossy(&url).trim_end().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The files of the folder with those of the submodules that are checked out in it.
    pub async fn files_with_submodules(&self) -> Result<Vec<PathBuf>, GitError> {
        let mut files = self.files().await?;
        let mut open: Vec<PathBuf> = self.submodules_among(&files);
        while let Some(path) = open.pop() {
            let folder = self.folder.join(&path);
            let Some(inner) = Self::find(&folder).await? else {
                continue;
            };
            let below = inner.files().await?;
            let nested = inner.submodules_among(&below);
            open.extend(nested.into_iter().map(|name| path.join(name)));
            files.extend(below.into_iter().map(|name| path.join(name)));
        }
        files.sort();
        Ok(files)
    }

    /// Those of the files that are folders with a repository of their own.
    fn submodules_among(&self, files: &[PathBuf]) -> Vec<PathBuf> {
        let is_submodule = |path: &&PathBuf| {
            let folder = self.folder.join(path);
            folder.is_dir() && folder.join(".git").exists()
        };
        files.iter().filter(is_submodule).cloned().collect()
    }

    /// The commit that `revision` refers to, or `None` if there is no such commit.
    pub async fn commit(&self, revision: &str) -> Result<Option<ObjectId>, GitError> {
        let wanted = format!("{revision}^{{commit}}");
        match self
            .run(
                "rev-parse",
                &["--verify", "--quiet", "--end-of-options", &wanted],
            )
            .await
        {
            Ok(answer) => Ok(String::from_utf8_lossy(&answer).trim().parse().ok()),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The branch that is checked out, whether it has commits or not, or `None` if `HEAD` is detached.
    pub async fn branch(&self) -> Result<Option<String>, GitError> {
        match self
            .run("symbolic-ref", &["--quiet", "--short", "HEAD"])
            .await
        {
            Ok(name) => Ok(Some(String::from_utf8_lossy(&name).trim_end().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The files of the folder that differ from a commit, among those that [`Checkout::files`] lists now and those that
    /// the commit has.
    pub async fn changed_since(&self, commit: &ObjectId) -> Result<Vec<PathBuf>, GitError> {
        let arguments = [
            "-z",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--relative",
            commit.as_str(),
            "--",
        ];
        let changed = self.run("diff", &arguments).await?;
        let untracked = self
            .run("ls-files", &["-z", "--others", "--exclude-standard"])
            .await?;
        Ok(file_names(&[changed, untracked]))
    }

    async fn run(&self, verb: &'static str, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        let mut command = Git::personal_command();
        command
            .arg("-C")
            .arg(&self.folder)
            .arg(verb)
            .args(arguments);
        let mut command = tokio::process::Command::from(command);
        let output = command
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| GitError::Start { verb, source })?;
        checked(verb, output)
    }
}

/// Fails if git is older than what this module needs: `git cat-file --batch-command`.
fn require_version(answer: &[u8]) -> Result<(), GitError> {
    const NEEDED: (u32, u32) = (2, 36);
    let text = String::from_utf8_lossy(answer);
    let found = text.trim().trim_start_matches("git version ");
    let mut numbers = found.split(['.', '-', ' ']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < NEEDED => Err(GitError::OldGit {
            found: excerpt(found),
            needed: format!("{}.{}", NEEDED.0, NEEDED.1),
        }),
        // Whatever it is, it may do.
        _ => Ok(()),
    }
}

fn path_of(answer: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(
        answer.strip_suffix(b"\n").unwrap_or(answer),
    ))
}

/// The names in lists of `-z`, sorted, each once. A name with a slash at its end is another repository that is not a
/// submodule: its files are not committed.
fn file_names(lists: &[Vec<u8>]) -> Vec<PathBuf> {
    let names = lists.iter().flat_map(|list| list.split(|b| *b == 0));
    let names = names.filter(|name| !name.is_empty() && !name.ends_with(b"/"));
    let files: BTreeSet<PathBuf> = names
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        .collect();
    files.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_old_git_is_named() {
        let said = |version: &str| {
            let answer = format!("git version {version}\n");
            super::require_version(answer.as_bytes()).map_err(|error| error.to_string())
        };
        for new in [
            "2.36.0",
            "2.39.5 (Apple Git-154)",
            "2.47.rc1",
            "3.0",
            "of my own",
        ] {
            assert_eq!(said(new), Ok(()), "{new}");
        }
        let error = "git 2.30.2 is too old: quire reads checkouts with git 2.36 or newer";
        assert_eq!(said("2.30.2"), Err(error.to_owned()));
        assert!(said("2.35").is_err() && said("1.8.3.1").is_err());
    }

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let mut command = Git::personal_command();
        command
            .arg("-C")
            .arg(folder)
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments);
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    }

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn names(paths: &[PathBuf]) -> Vec<&str> {
        paths.iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn files_and_changes_of_a_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(Checkout::find(root).await.unwrap().is_none());
        git(root, &["init", "-q", "-b", "trunk"]);
        let checkout = Checkout::find(root).await.unwrap().unwrap();
        assert_eq!(
            (
                checkout.branch().await.unwrap().as_deref(),
                checkout.commit("HEAD").await.unwrap()
            ),
            (Some("trunk"), None)
        );
        for (name, text) in [
            (".gitignore", "*.o\n"),
            ("a", "1"),
            ("sub/b", "1"),
            ("gone", "1"),
            ("x.o", ""),
        ] {
            write(root, name, text);
        }
        git(root, &["add", "."]);
        git(root, &["commit", "-qm", "one"]);
        let first = checkout.commit("HEAD").await.unwrap().unwrap();
        write(root, "a", "2");
        write(root, "sub/new ü", "1");
        write(root, "inner/y", "1");
        git(&root.join("inner"), &["init", "-q"]);
        std::fs::remove_file(root.join("gone")).unwrap();
        assert_eq!(
            names(&checkout.files().await.unwrap()),
            [".gitignore", "a", "gone", "sub/b", "sub/new ü"]
        );
        assert_eq!(
            names(&checkout.changed_since(&first).await.unwrap()),
            ["a", "gone", "sub/new ü"]
        );
        let below = Checkout::find(&root.join("sub")).await.unwrap().unwrap();
        assert_eq!(names(&below.files().await.unwrap()), ["b", "new ü"]);
        assert_eq!(
            names(&below.changed_since(&first).await.unwrap()),
            ["new ü"]
        );
        assert_eq!(below.top().await.unwrap(), root.canonicalize().unwrap());
        assert_eq!(below.repository(), checkout.repository());
        git(root, &["checkout", "-q", "--detach"]);
        assert_eq!(checkout.branch().await.unwrap(), None);
        assert_eq!(checkout.commit("--all").await.unwrap(), None);
    }
}
