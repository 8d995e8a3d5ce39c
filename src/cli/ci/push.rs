//! The push that a run on the author's machine stands for.
//!
//! Of a commit (`--sha`) it is the push that brought this commit. Of a working tree it is the push
//! that would come if everything were committed on top of `HEAD`'s parent: `files-changed` is what
//! differs between `previous-sha` and the files that are run.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::CiError;
use super::tree::Subject;
use crate::clock::{Clock, Millis};
use crate::git::{Checkout, Git};
use crate::names::{NameError, ObjectId, RefName, RepoName, RunId};
use crate::runner::prepare::{Pushed, push_values};

/// What stands for the branch where none is checked out: git's own word, and no branch that a pipeline deploys from.
const NO_BRANCH: &str = "HEAD";

/// The push, with its own names.
pub(super) struct Push {
    pub(super) repo: RepoName,
    ref_name: RefName,
    sha: ObjectId,
    previous_sha: Option<ObjectId>,
    pusher: Option<String>,
    at: Millis,
}

impl Push {
    /// Finds out what is there; `wanted` is the ref that counts as pushed, where somebody says so.
    pub(super) async fn find(
        subject: &Subject,
        checkout: Option<&Checkout>,
        wanted: Option<RefName>,
    ) -> Result<Self, CiError> {
        let (mut sha, mut previous_sha, mut current) = (None, None, None);
        if let Some(checkout) = checkout {
            sha = match &subject.commit {
                Some((_, sha)) => Some(sha.clone()),
                None => checkout.commit("HEAD").await?,
            };
            if let Some(sha) = &sha {
                previous_sha = checkout.commit(&format!("{sha}~1")).await?;
            }
            current = Some(
                checkout
                    .branch()
                    .await?
                    .unwrap_or_else(|| NO_BRANCH.to_owned()),
            );
        }
        let branch = current.as_deref().unwrap_or("main");
        // Where there is no commit yet, git's own "no object": pipelines count on text here.
        let none = || "0".repeat(40).parse::<ObjectId>();
        Ok(Self {
            repo: repository(&subject.root)?,
            ref_name: wanted.map_or_else(|| format!("refs/heads/{branch}").parse(), Ok)?,
            sha: sha.map_or_else(none, Ok)?,
            previous_sha,
            pusher: ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|name| !name.is_empty()),
            at: Clock::system().now(),
        })
    }

    /// As the runner wants it.
    pub(super) fn pushed(&self, run: RunId) -> Pushed<'_> {
        Pushed {
            run,
            repo: &self.repo,
            ref_name: &self.ref_name,
            sha: &self.sha,
            previous_sha: self.previous_sha.as_ref(),
            pusher: self.pusher.as_deref(),
            pushed_at: self.at,
        }
    }

    /// What `(jobs :quire/push)` gives. `files` are those of the working tree.
    pub(super) async fn values(
        &self,
        git: &Git,
        run: RunId,
        subject: &Subject,
        checkout: Option<&Checkout>,
        files: &[PathBuf],
    ) -> Result<Map<String, Value>, CiError> {
        let pushed = self.pushed(run);
        let text = |files: &[PathBuf]| {
            files
                .iter()
                .map(|file| file.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let Some(checkout) = checkout else {
            return Ok(pushed.values(None, text(files), false));
        };
        if subject.commit.is_some() {
            let message = git
                .message(checkout.repository(), &self.sha)
                .await?
                .unwrap_or_default();
            return Ok(push_values(git, checkout.repository(), &pushed, &message, &[]).await?);
        }
        let changed = match &self.previous_sha {
            Some(previous) => checkout.changed_since(previous).await?,
            None => files.to_vec(),
        };
        let message = if self.sha.is_zero() {
            None
        } else {
            git.message(checkout.repository(), &self.sha).await?
        };
        Ok(pushed.values(message.as_deref(), text(&changed), false))
    }

    /// The push in a few words.
    pub(super) fn words(&self) -> String {
        let commit = if self.sha.is_zero() {
            "no commit"
        } else {
            self.sha.short()
        };
        format!("{} at {commit}", self.ref_name.short())
    }
}

/// A name for the repository: its folder's, as far as that is one.
fn repository(root: &Path) -> Result<RepoName, NameError> {
    let name: String = root
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let legal: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .collect();
    legal
        .trim_matches(['.', '-'])
        .parse()
        .or_else(|_| "local".parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_has_a_repository_name() {
        for (folder, name) in [
            ("/src/app", "app"),
            ("/src/my app!", "my-app"),
            ("/", "local"),
            ("/x/..hidden", "hidden"),
            ("/x/ü", "local"),
            ("/x/a..b", "local"),
        ] {
            assert_eq!(repository(Path::new(folder)).unwrap().as_str(), name);
        }
    }
}
