//! What commits say and change.

use std::path::Path;

use super::{Git, GitError};
use crate::names::{ObjectId, RefName};

impl Git {
    /// The message of a commit (of what a tag names, for a tag); none where there is no such
    /// commit. At most 64 KiB of it.
    pub async fn message(&self, repo: &Path, id: &ObjectId) -> Result<Option<String>, GitError> {
        Ok(self
            .commit_facts(repo, std::slice::from_ref(id))
            .await?
            .into_iter()
            .next()
            .and_then(|facts| facts.message))
    }

    /// The files that differ between two commits, or all of a commit where there is no older
    /// one; at most `limit`, and names that are not UTF-8 are spelt with replacement characters.
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

    /// The commit at which a branch left the branch that `HEAD` names; none where it is that branch,
    /// and where the two have nothing in common.
    pub async fn left_default_at(
        &self,
        repo: &Path,
        branch: &RefName,
        tip: &ObjectId,
    ) -> Result<Option<ObjectId>, GitError> {
        let head = self
            .output(repo, "symbolic-ref", ["--quiet", "HEAD"])
            .await?;
        let default = String::from_utf8_lossy(&head.stdout).trim_end().to_owned();
        if default.is_empty() || default == branch.as_str() {
            return Ok(None);
        }
        // Fails where there is no common commit, and where the default branch has none at all.
        let base = self
            .output(repo, "merge-base", [default.as_str(), tip.as_str()])
            .await?;
        Ok(String::from_utf8_lossy(&base.stdout)
            .trim_end()
            .parse()
            .ok())
    }
}
