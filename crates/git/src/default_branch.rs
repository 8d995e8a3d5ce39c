//! The default branch of a repository: what its `HEAD` names, which a clone checks out.

use std::fs;
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use quire_types::names::{RefName, RepoName};

impl Git {
    /// The branch that `HEAD` names, whether it has commits or not; `None` if `HEAD` is detached. Read without a git
    /// process.
    pub fn head_branch(&self, repo: &RepoName) -> Result<Option<RefName>, GitError> {
        Self::head_branch_in(&self.paths.repo(repo))
    }

    /// Like [`Git::head_branch`], for a repository in a folder.
    pub(crate) fn head_branch_in(repo: &Path) -> Result<Option<RefName>, GitError> {
        let path = repo.join("HEAD");
        let text = fs::read_to_string(&path).map_err(|source| GitError::Io {
            action: "read",
            path,
            source,
        })?;
        Ok(text
            .trim_end()
            .strip_prefix("ref: ")
            .and_then(|name| name.parse().ok()))
    }

    /// The short name of the default branch; `None` if `HEAD` is detached or names a branch that does not exist.
    pub fn default_branch(&self, repo: &RepoName) -> Result<Option<String>, GitError> {
        if !self.exists(repo)? {
            return Err(GitError::NoRepository(repo.clone()));
        }
        let Some(branch) = self.head_branch(repo)? else {
            return Ok(None);
        };
        let exists = self.has_ref(repo, &branch)?;
        Ok(exists.then(|| branch.short().to_owned()))
    }

    /// Makes `HEAD` name a branch, which must exist.
    pub fn set_default_branch(&self, repo: &RepoName, branch: &RefName) -> Result<(), GitError> {
        if !self.has_ref(repo, branch)? {
            return Err(GitError::NoBranch {
                repo: repo.clone(),
                branch: branch.short().to_owned(),
            });
        }
        let mut command = self.command_in(&self.paths.repo(repo));
        command.args(["symbolic-ref", "HEAD", branch.as_str()]);
        Self::run(&mut command, "symbolic-ref").map(drop)
    }

    /// Makes `HEAD` name one of these branches if the branch that it names does not exist: `main`, else `master`, else
    /// the first. Returns the new default branch.
    pub fn follow_first_branch<'a>(
        &self,
        repo: &RepoName,
        branches: &[&'a RefName],
    ) -> Result<Option<&'a RefName>, GitError> {
        let Some(first) = preferred_branch(branches) else {
            return Ok(None);
        };
        match self.head_branch(repo)? {
            Some(head) if !self.has_ref(repo, &head)? => {}
            _ => return Ok(None),
        }
        self.set_default_branch(repo, first)?;
        Ok(Some(first))
    }

    /// Whether a ref exists. Most refs that are asked for here have a file.
    fn has_ref(&self, repo: &RepoName, name: &RefName) -> Result<bool, GitError> {
        let folder = self.paths.repo(repo);
        if folder.join(name.as_str()).is_file() {
            return Ok(true);
        }
        let mut command = self.command_in(&folder);
        command.args(["show-ref", "--verify", "--quiet", name.as_str()]);
        match Self::run(&mut command, "show-ref") {
            Ok(_) => Ok(true),
            Err(GitError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Which of several branches is most likely the default branch: `main`, else `master`, else the first.
pub(super) fn preferred_branch<'a>(branches: &[&'a RefName]) -> Option<&'a RefName> {
    let preferred = ["refs/heads/main", "refs/heads/master"];
    let preferred = preferred
        .iter()
        .find_map(|name| branches.iter().find(|branch| branch.as_str() == *name));
    preferred.or(branches.first()).copied()
}
