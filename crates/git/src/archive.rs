//! A commit's tree as a tar stream.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use super::command::read_capped;
use super::error::{GitError, stderr_tail};
use super::git::Git;
use super::lfs::{PointerFile, pointer_files};
use super::object_format::ObjectFormat;
use quire_runtime::process::GroupGuard;
use quire_types::names::ObjectId;

/// The setting for the modes that files of a checkout have: 644, or 755 for programs.
pub(super) const MODES: &str = "tar.umask=0022";

const VERB: &str = "archive";

/// The size of a read.
const CHUNK: usize = 128 << 10;

impl Git {
    /// The tree of a commit as an uncompressed tar, as a checkout would have it: the `export-ignore` and
    /// `export-subst` attributes of the repository, which are for release archives, are ignored.
    ///
    /// The stream ends with an error if git fails midway. Dropping the stream kills git.
    pub fn archive(
        &self,
        repo: &Path,
        id: &ObjectId,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        match self.start_archive(repo, id) {
            Ok(child) => stream_of(child, VERB, None).left_stream(),
            Err(error) => stream::iter([Err(io::Error::other(error))]).right_stream(),
        }
    }

    /// The files of a commit that are pointers of Git LFS.
    pub async fn lfs_files(
        &self,
        repo: &Path,
        id: &ObjectId,
    ) -> Result<Vec<PointerFile>, GitError> {
        let command = |verb| {
            let mut command = self.tokio_in(repo);
            command.arg(verb);
            command
        };
        pointer_files(command, id.as_str()).await
    }

    fn start_archive(&self, repo: &Path, id: &ObjectId) -> Result<Child, GitError> {
        // Through the empty repository, whose own attributes override those of the tree.
        let empty = self.ensure_empty_repo(ObjectFormat::of(id))?;
        let mut command = self.tokio_in(&empty);
        command.env("GIT_OBJECT_DIRECTORY", objects(repo));
        command
            .args(["-c", MODES, "archive", "--format=tar", id.as_str()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
            .spawn()
            .map_err(|source| GitError::Start { verb: VERB, source })
    }
}

fn objects(repo: &Path) -> PathBuf {
    let objects = repo.join("objects");
    std::path::absolute(&objects).unwrap_or(objects)
}

/// Reads standard output to its end, then checks the exit status. Dropping the stream kills the child, and with it `group`.
pub(super) fn stream_of(
    mut child: Child,
    verb: &'static str,
    group: Option<GroupGuard>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let stdout = child
        .stdout
        .take()
        .map(|pipe| ReaderStream::with_capacity(pipe, CHUNK));
    let stderr = child
        .stderr
        .take()
        .map(|pipe| tokio::spawn(read_capped(pipe)));
    stream::unfold(
        Some((child, stdout, stderr, group)),
        move |state| async move {
            let (mut child, mut stdout, stderr, group) = state?;
            if let Some(reader) = &mut stdout
                && let Some(chunk) = reader.next().await
            {
                let next = chunk.is_ok().then_some((child, stdout, stderr, group));
                return Some((chunk, next));
            }
            let ended = exit_status(&mut child, verb, stderr).await;
            if let Some(group) = group
                && ended.is_ok()
            {
                group.disarm();
            }
            ended
                .err()
                .map(|error| (Err(io::Error::other(error)), None))
        },
    )
}

async fn exit_status(
    child: &mut Child,
    verb: &'static str,
    stderr: Option<JoinHandle<Vec<u8>>>,
) -> Result<(), GitError> {
    let status = child
        .wait()
        .await
        .map_err(|source| GitError::Pipe { verb, source })?;
    if status.success() {
        return Ok(());
    }
    let stderr = match stderr {
        Some(task) => task.await.unwrap_or_default(),
        None => Vec::new(),
    };
    Err(GitError::Failed {
        verb,
        status,
        stderr: stderr_tail(&stderr),
    })
}
