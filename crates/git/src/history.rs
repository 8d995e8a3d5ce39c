//! Messages, changed files and fork points of commits.

use std::path::Path;

use super::command::checked;
use super::error::GitError;
use super::git::Git;
use quire_types::names::{ObjectId, RefName};

impl Git {
    /// The message of a commit, or of the commit that a tag points to; `None` if there is no such
    /// commit. At most 64 KiB.
    pub async fn message(&self, repo: &Path, id: &ObjectId) -> Result<Option<String>, GitError> {
        Ok(self
            .commit_infos(repo, std::slice::from_ref(id))
            .await?
            .into_iter()
            .next()
            .and_then(|info| info.message))
    }

    /// The files that differ between two commits, or all files of `new` if `old` is `None`; at most `limit`. Names that
    /// are not UTF-8 have replacement characters.
    pub async fn files_changed(
        &self,
        repo: &Path,
        old: Option<&ObjectId>,
        new: &ObjectId,
        limit: usize,
    ) -> Result<Vec<String>, GitError> {
        let listing = match old {
            Some(old) => {
                self.success(
                    repo,
                    "diff-tree",
                    [
                        "-r",
                        "-z",
                        "--name-only",
                        "--no-renames",
                        old.as_str(),
                        new.as_str(),
                        "--",
                    ],
                )
                .await?
            }
            None => {
                self.success(
                    repo,
                    "ls-tree",
                    ["-r", "-z", "--name-only", "--full-tree", new.as_str()],
                )
                .await?
            }
        };
        let names = listing
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .take(limit);
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// The commit at which a branch forked from the branch that `HEAD` names; `None` if it is that branch,
    /// or the two have no common commit.
    pub async fn fork_point(
        &self,
        repo: &Path,
        branch: &RefName,
        tip: &ObjectId,
    ) -> Result<Option<ObjectId>, GitError> {
        let folder = repo.to_owned();
        let head = self.call(move |_| Self::head_branch_in(&folder)).await?;
        let Some(default) = head.filter(|head| head != branch) else {
            return Ok(None);
        };
        let exists = self
            .output(repo, "show-ref", ["--verify", "--quiet", default.as_str()])
            .await?;
        if !exists.status.success() {
            return Ok(None);
        }
        let base = self
            .output(repo, "merge-base", [default.as_str(), tip.as_str()])
            .await?;
        // There is no common commit.
        if base.status.code() == Some(1) {
            return Ok(None);
        }
        let base = checked("merge-base", base)?;
        Ok(String::from_utf8_lossy(&base).trim_end().parse().ok())
    }
}
