//! A commit's tree as a tar stream.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use super::error::last_words;
use super::{Git, GitError};
use crate::names::ObjectId;

/// How much is read at once.
const CHUNK: usize = 128 << 10;

impl Git {
    /// The tree of a commit as an uncompressed tar, as a checkout would have it: a repository's
    /// `export-ignore` and `export-subst` attributes, which are for release archives, do not count.
    ///
    /// The stream ends with an error where git failed midway. Dropping it ends git.
    pub fn archive(
        &self,
        repo: &Path,
        id: &ObjectId,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        match self.start_archive(repo, id) {
            Ok(child) => stream_of(child).left_stream(),
            Err(error) => stream::iter([Err(io::Error::other(error))]).right_stream(),
        }
    }

    fn start_archive(&self, repo: &Path, id: &ObjectId) -> Result<Child, GitError> {
        let mut command;
        if id.as_str().len() == 40 {
            // Through the plain repository, whose own attributes outrank those of the tree.
            command = self.tokio_in(&self.ensure_plain()?);
            command.env("GIT_OBJECT_DIRECTORY", objects(repo));
        } else {
            command = self.tokio_in(repo);
        }
        command
            .args(["archive", "--format=tar", id.as_str()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().map_err(|source| GitError::Start {
            verb: "archive",
            source,
        })
    }
}

fn objects(repo: &Path) -> PathBuf {
    let objects = repo.join("objects");
    std::path::absolute(&objects).unwrap_or(objects)
}

/// Reads standard output to its end, then sees how the process ended.
fn stream_of(mut child: Child) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let stdout = child
        .stdout
        .take()
        .map(|pipe| ReaderStream::with_capacity(pipe, CHUNK));
    let stderr = child.stderr.take().map(|pipe| tokio::spawn(tail(pipe)));
    stream::unfold(Some((child, stdout, stderr)), |state| async move {
        let (mut child, mut stdout, stderr) = state?;
        if let Some(reader) = &mut stdout
            && let Some(chunk) = reader.next().await
        {
            let goes_on = chunk.is_ok().then_some((child, stdout, stderr));
            return Some((chunk, goes_on));
        }
        ended(&mut child, stderr)
            .await
            .err()
            .map(|error| (Err(io::Error::other(error)), None))
    })
}

async fn ended(child: &mut Child, stderr: Option<JoinHandle<Vec<u8>>>) -> Result<(), GitError> {
    let status = child.wait().await.map_err(|source| GitError::Talk {
        verb: "archive",
        source,
    })?;
    if status.success() {
        return Ok(());
    }
    let words = match stderr {
        Some(task) => task.await.unwrap_or_default(),
        None => Vec::new(),
    };
    Err(GitError::Failed {
        verb: "archive",
        status,
        stderr: last_words(&words),
    })
}

/// Reads a pipe to its end and keeps the first 8 KiB, so that a talkative process never blocks.
pub(super) async fn tail(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let room = 8192usize.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}
