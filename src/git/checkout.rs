//! A person's own checkout, for pipelines on their machine.
//!
//! Other than for the appliance's repositories, the person's git configuration counts here: it
//! says which files are ignored, and whether this folder is theirs. Variables that lead git
//! elsewhere (set within a hook, say) do not: the folder alone decides.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::command::finished;
use super::{Git, GitError};
use crate::names::ObjectId;

/// A folder in a git checkout.
#[derive(Debug, Clone)]
pub struct Checkout {
    folder: PathBuf,
    repository: PathBuf,
}

impl Checkout {
    /// The checkout that `folder` is in; none where it is in no checkout at all.
    ///
    /// # Errors
    /// There is a checkout, and git cannot or will not work with it.
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
        let answer = checkout
            .ask("rev-parse", &["--path-format=absolute", "--git-common-dir"])
            .await?;
        checkout.repository = path_of(&answer);
        Ok(Some(checkout))
    }

    /// The repository: where the objects are.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// The uppermost folder of the checkout.
    ///
    /// # Errors
    /// Git cannot say.
    pub async fn top(&self) -> Result<PathBuf, GitError> {
        Ok(path_of(&self.ask("rev-parse", &["--show-toplevel"]).await?))
    }

    /// The files in the folder that a commit of everything would hold, as paths below it, in
    /// order: tracked ones, and untracked ones that are not ignored. Some may be gone from disk.
    ///
    /// # Errors
    /// Git cannot say.
    pub async fn files(&self) -> Result<Vec<PathBuf>, GitError> {
        let answer = self
            .ask(
                "ls-files",
                &["-z", "--cached", "--others", "--exclude-standard"],
            )
            .await?;
        // A folder is a repository of its own that is not a submodule: no commit would hold its files.
        let names = answer
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty() && !name.ends_with(b"/"));
        let mut files: Vec<PathBuf> = names
            .map(|name| PathBuf::from(OsStr::from_bytes(name)))
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The commit that a person calls `revision`; none where there is no such commit.
    ///
    /// # Errors
    /// Git cannot be asked.
    pub async fn commit(&self, revision: &str) -> Result<Option<ObjectId>, GitError> {
        let wanted = format!("{revision}^{{commit}}");
        match self
            .ask(
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

    /// The branch that is checked out, whether it has commits or not; none where it is a bare commit.
    ///
    /// # Errors
    /// Git cannot be asked.
    pub async fn branch(&self) -> Result<Option<String>, GitError> {
        match self
            .ask("symbolic-ref", &["--quiet", "--short", "HEAD"])
            .await
        {
            Ok(name) => Ok(Some(String::from_utf8_lossy(&name).trim_end().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The files of the folder, of those that [`Checkout::files`] gives or gave, that are not as in this commit.
    ///
    /// # Errors
    /// Git cannot say.
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
        let changed = self.ask("diff", &arguments).await?;
        let untracked = self
            .ask("ls-files", &["-z", "--others", "--exclude-standard"])
            .await?;
        let names = changed
            .split(|b| *b == 0)
            .chain(untracked.split(|b| *b == 0));
        let names = names.filter(|name| !name.is_empty() && !name.ends_with(b"/"));
        let mut files: Vec<PathBuf> = names
            .map(|name| PathBuf::from(OsStr::from_bytes(name)))
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    async fn ask(&self, verb: &'static str, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
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
        finished(verb, output)
    }
}

fn path_of(answer: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(
        answer.strip_suffix(b"\n").unwrap_or(answer),
    ))
}

#[cfg(test)]
mod tests {
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
    async fn what_a_commit_of_everything_would_hold() {
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
