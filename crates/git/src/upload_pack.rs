//! Fetches over HTTP: `git upload-pack` as a process for each request.
//!
//! A process is the leader of a process group of its own. It is killed, with everything that it started, when its output is dropped. Refs that
//! quire hides over SSH are hidden here as well.

use std::fmt;
use std::io;
use std::process::Stdio;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use quire_runtime::process::{GroupGuard, Limits, capture};
use quire_types::names::RepoName;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};

use super::archive::stream_of;
use super::error::{GitError, stderr_tail};
use super::git::Git;

const VERB: &str = "upload-pack";
/// After how long without a byte from the client git exits.
const IDLE_TIMEOUT: &str = "--timeout=60";
/// These come before the configuration of the repository, which a session over SSH can write.
const OWN_SETTINGS: [&str; 6] = [
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "transfer.hideRefs=refs/quire",
];

/// A version of git's protocol that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolVersion(u8);

impl ProtocolVersion {
    /// Parses `version=N`, the only value that is accepted from a client.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("version=")?.as_bytes() {
            [digit @ b'0'..=b'9'] => Some(Self(digit - b'0')),
            _ => None,
        }
    }

    /// Whether the first answer has no line that names the service.
    #[must_use]
    pub fn is_two(self) -> bool {
        self.0 == 2
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version={}", self.0)
    }
}

impl Git {
    /// What a client is told first: the refs, or with version 2 of the protocol the capabilities.
    pub async fn advertise_refs(
        &self,
        repo: &RepoName,
        version: Option<ProtocolVersion>,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = self.upload_pack_command(repo, version, &["--http-backend-info-refs"]);
        let limits = Limits {
            output: 64 << 20,
            ..Limits::default()
        };
        let captured = capture(&mut command, limits)
            .await
            .map_err(|error| GitError::Start {
                verb: VERB,
                source: io::Error::other(error),
            })?;
        if captured.status.success() {
            return Ok(captured.stdout);
        }
        Err(GitError::Failed {
            verb: VERB,
            status: captured.status,
            stderr: stderr_tail(&captured.stderr),
        })
    }

    /// The answer to a request of a client.
    pub fn upload_pack(
        &self,
        repo: &RepoName,
        version: Option<ProtocolVersion>,
        request: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, GitError> {
        let mut command = self.upload_pack_command(repo, version, &[IDLE_TIMEOUT]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .map_err(|source| GitError::Start { verb: VERB, source })?;
        let group = GroupGuard::of(&child);
        let writing = child
            .stdin
            .take()
            .map(|pipe| AbortOnDrop(tokio::spawn(write_request(pipe, request))));
        let answer = stream_of(child, VERB, Some(group));
        Ok(answer.inspect(move |_| {
            // The request is read as long as the answer is read.
            let _ = &writing;
        }))
    }

    fn upload_pack_command(
        &self,
        repo: &RepoName,
        version: Option<ProtocolVersion>,
        options: &[&str],
    ) -> Command {
        let mut command = Command::from(self.command());
        command
            .args(OWN_SETTINGS)
            .args([VERB, "--strict", "--stateless-rpc"])
            .args(options)
            .arg(self.paths.repo(repo))
            .kill_on_drop(true);
        if let Some(version) = version {
            command.env("GIT_PROTOCOL", version.to_string());
        }
        command
    }
}

/// A task that is aborted when its result is no longer awaited.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes on a request to its end, or to its first error: then git sees that it is not whole.
async fn write_request(mut pipe: ChildStdin, mut request: BoxStream<'static, io::Result<Bytes>>) {
    while let Some(Ok(bytes)) = request.next().await {
        if pipe.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_is_taken_from_a_client() {
        let two = ProtocolVersion::parse("version=2").unwrap();
        assert!(two.is_two() && two.to_string() == "version=2");
        assert!(!ProtocolVersion::parse("version=1").unwrap().is_two());
        for text in [
            "",
            "version=",
            "version=22",
            "version=2:x",
            "2",
            "version=x",
            "version=2\n",
        ] {
            assert_eq!(ProtocolVersion::parse(text), None, "{text:?}");
        }
    }
}
