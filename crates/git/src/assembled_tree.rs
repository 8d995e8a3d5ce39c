//! The tree of a workspace that no single commit has: a commit with its submodules filled in.
//!
//! A scratch repository gets the tree, and reads all other objects from the repositories that they are in.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::archive::{MODES, stream_of};
use super::command::checked;
use super::error::GitError;
use super::git::Git;
use super::lfs::{PointerFile, pointer_files};
use super::scratch_repo::ScratchRepo;
use quire_types::names::ObjectId;

/// A commit whose files replace a submodule.
#[derive(Debug, Clone)]
pub struct FilledSubmodule {
    /// Its folder, from the top of the workspace.
    pub path: String,
    pub commit: ObjectId,
    /// The repository that has the commit.
    pub repo: PathBuf,
}

/// A tree with the files of submodules.
#[derive(Debug, Clone)]
pub struct AssembledTree {
    git: Git,
    scratch: Arc<ScratchRepo>,
    /// The folders of objects that the tree is read from.
    objects: OsString,
    id: ObjectId,
    /// The time of all files, in seconds.
    time: String,
}

impl Git {
    /// Makes a tree of a commit and of submodules, each after the one that it is in.
    pub async fn assemble(
        &self,
        repo: &Path,
        commit: &ObjectId,
        submodules: &[FilledSubmodule],
    ) -> Result<AssembledTree, GitError> {
        let like = commit.clone();
        let scratch = self.call(move |git| git.scratch_repo(&like)).await?;
        let folders = std::iter::once(repo).chain(submodules.iter().map(|one| one.repo.as_path()));
        let mut folders: Vec<PathBuf> = folders.map(objects_of).collect();
        folders.dedup();
        let objects = std::env::join_paths(folders).map_err(|error| GitError::Io {
            action: "read objects of",
            path: repo.to_owned(),
            source: io::Error::other(error),
        })?;
        let mut assembled = AssembledTree {
            git: self.clone(),
            scratch: Arc::new(scratch),
            objects,
            id: commit.clone(),
            time: String::new(),
        };
        let time = ["-1", "--format=%ct", commit.as_str()];
        assembled.time = assembled.text("log", &time).await?;
        assembled.text("read-tree", &[commit.as_str()]).await?;
        for one in submodules {
            assembled.remove_entry(&one.path).await?;
            let prefix = format!("--prefix={}/", one.path);
            let arguments = ["-i", prefix.as_str(), one.commit.as_str()];
            assembled.text("read-tree", &arguments).await?;
        }
        let id = assembled.text("write-tree", &[]).await?;
        assembled.id = id.parse().map_err(|_| GitError::Unexpected {
            verb: "write-tree",
            output: id,
        })?;
        Ok(assembled)
    }
}

impl AssembledTree {
    /// The id of the tree.
    #[must_use]
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// The tree as an uncompressed tar, as [`Git::archive`] returns that of a commit.
    pub fn archive(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let mut command = self.command("archive");
        command
            .args([
                "--format=tar",
                &format!("--mtime=@{} +0000", self.time),
                self.id.as_str(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = command.spawn().map_err(|source| GitError::Start {
            verb: "archive",
            source,
        });
        // The scratch repository stays until the stream ends.
        let scratch = Arc::clone(&self.scratch);
        let stream = match started {
            Ok(child) => stream_of(child, "archive", None).left_stream(),
            Err(error) => stream::iter([Err(io::Error::other(error))]).right_stream(),
        };
        stream.map(move |chunk| {
            let _ = &scratch;
            chunk
        })
    }

    /// The files of the tree that are pointers of Git LFS.
    pub async fn lfs_files(&self) -> Result<Vec<PointerFile>, GitError> {
        pointer_files(|verb| self.command(verb), self.id.as_str()).await
    }

    fn command(&self, verb: &'static str) -> tokio::process::Command {
        let mut command = self.git.tokio_in(self.scratch.path());
        command
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
            // `read-tree --prefix` asks for a work tree, which it does not read.
            .env("GIT_WORK_TREE", self.scratch.path().join("info"))
            .args(["-c", MODES, verb]);
        command
    }

    /// Runs git and returns its output without the newline at its end.
    async fn text(&self, verb: &'static str, arguments: &[&str]) -> Result<String, GitError> {
        let output = self.command(verb).args(arguments).output().await;
        let output = output.map_err(|source| GitError::Start { verb, source })?;
        let text = checked(verb, output)?;
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// Removes a path from the index.
    async fn remove_entry(&self, path: &str) -> Result<(), GitError> {
        const VERB: &str = "update-index";
        let mut child = self
            .command(VERB)
            .args(["-z", "--index-info"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| GitError::Start { verb: VERB, source })?;
        let pipe = |source| GitError::Pipe { verb: VERB, source };
        if let Some(mut stdin) = child.stdin.take() {
            let zero = "0".repeat(self.id.as_str().len());
            let entry = format!("0 {zero}\t{path}\0");
            stdin.write_all(entry.as_bytes()).await.map_err(pipe)?;
        }
        let output = child.wait_with_output().await.map_err(pipe)?;
        checked(VERB, output).map(drop)
    }
}

fn objects_of(repo: &Path) -> PathBuf {
    let objects = repo.join("objects");
    std::path::absolute(&objects).unwrap_or(objects)
}
