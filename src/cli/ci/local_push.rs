//! The push that a local run simulates.
//!
//! For a commit (`--sha`) it is a push of that commit. For a working tree it is the push that would
//! result if everything were committed on top of the parent of `HEAD`: `files-changed` lists what
//! differs between `previous-sha` and the files that are run.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::CiError;
use super::source_tree::SourceTree;
use quire_git::{Checkout, Git};
use quire_server::runner::prepare::{PushContext, push_values};
use quire_types::clock::{Clock, Millis};
use quire_types::names::{NameError, ObjectId, RefName, RepoName, RunId};

/// The branch name for a detached `HEAD`: git's own name, which no pipeline takes for a branch to deploy.
const NO_BRANCH: &str = "HEAD";

/// The simulated push.
pub(super) struct LocalPush {
    pub(super) repo: RepoName,
    ref_name: RefName,
    sha: ObjectId,
    previous_sha: Option<ObjectId>,
    pusher: Option<String>,
    at: Millis,
}

impl LocalPush {
    /// Reads the checkout. `wanted` is the ref that counts as pushed, if the user named one.
    pub(super) async fn find(
        subject: &SourceTree,
        checkout: Option<&Checkout>,
        wanted: Option<RefName>,
    ) -> Result<Self, CiError> {
        let mut sha = None;
        let mut previous_sha = None;
        let mut current = None;
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
        // Without a commit it is git's all-zero id, because pipelines expect text.
        let zero_id = || "0".repeat(40).parse::<ObjectId>();
        Ok(Self {
            repo: repository(&subject.root)?,
            ref_name: wanted.map_or_else(|| format!("refs/heads/{branch}").parse(), Ok)?,
            sha: sha.map_or_else(zero_id, Ok)?,
            previous_sha,
            pusher: ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|name| !name.is_empty()),
            at: Clock::system().now(),
        })
    }

    /// The commit, and the branch that is checked out, if there are any.
    pub(super) fn commit_and_branch(&self) -> Option<(&ObjectId, Option<&RefName>)> {
        let branch = self.ref_name.branch().filter(|name| *name != NO_BRANCH);
        (!self.sha.is_zero()).then_some((&self.sha, branch.map(|_| &self.ref_name)))
    }

    /// The push as the runner takes it.
    pub(super) fn pushed(&self, run: RunId) -> PushContext<'_> {
        PushContext {
            run,
            repo: &self.repo,
            ref_name: &self.ref_name,
            sha: &self.sha,
            previous_sha: self.previous_sha.as_ref(),
            pusher: self.pusher.as_deref(),
            pushed_at: self.at,
        }
    }

    /// What `(jobs :quire/push)` returns. `files` are those of the working tree.
    pub(super) async fn values(
        &self,
        git: &Git,
        run: RunId,
        subject: &SourceTree,
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

    /// The ref and the commit, for the header of the output.
    pub(super) fn describe(&self) -> String {
        let commit = if self.sha.is_zero() {
            "no commit"
        } else {
            self.sha.short()
        };
        format!("{} at {commit}", self.ref_name.short())
    }
}

/// The name of the repository: that of its folder, with illegal characters replaced.
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
    fn every_folder_has_a_repository_name() {
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
