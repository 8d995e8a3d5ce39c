//! Commits of repositories on other servers, for submodules.

use std::path::Path;
use std::process::Stdio;

use super::command::checked;
use super::error::GitError;
use super::git::Git;
use super::scratch_repo::ScratchRepo;
use quire_types::names::{ObjectId, RepoName};

/// What a fetch from another server may do: HTTPS only, also after a redirect, and no password.
const SETTINGS: [&str; 7] = [
    "protocol.allow=never",
    "protocol.https.allow=always",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "fetch.unpackLimit=1",
];

/// A repository that holds one commit of another server. It is removed when it is dropped.
#[derive(Debug)]
pub struct FetchedRepo(ScratchRepo);

impl FetchedRepo {
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Git {
    /// The folder of a repository, whether it exists or not.
    #[must_use]
    pub fn folder(&self, repo: &RepoName) -> std::path::PathBuf {
        self.paths.repo(repo)
    }

    /// Fetches one commit, without its history, by HTTPS.
    pub async fn fetch_commit(
        &self,
        url: &str,
        commit: &ObjectId,
    ) -> Result<FetchedRepo, GitError> {
        const VERB: &str = "fetch";
        let like = commit.clone();
        let scratch = self.call(move |git| git.scratch_repo(&like)).await?;
        let mut command = tokio::process::Command::from(self.command());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .arg("--git-dir")
            .arg(scratch.path())
            .args([VERB, "--quiet", "--depth=1", "--no-tags", "--no-auto-gc"])
            .args(["--no-write-fetch-head", "--end-of-options", url])
            .arg(format!("{commit}:refs/heads/main"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = command.output().await;
        let output = output.map_err(|source| GitError::Start { verb: VERB, source })?;
        checked(VERB, output)?;
        Ok(FetchedRepo(scratch))
    }
}
