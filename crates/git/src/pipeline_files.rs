//! The files of the pipeline in one commit.

use std::path::Path;

use super::commits::{FoundObject, checkout_extras, commits};
use super::error::GitError;
use super::git::Git;
use super::object_batch::ObjectBatch;
use super::pipeline_folder::{Misnamed, UnusableFile, UnusableReason, find_pipeline_folder};
use quire_types::names::ObjectId;

/// One file of the folder `.quire`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineFile {
    /// Its path within the commit: `.quire/ci.fnl`.
    pub path: String,
    /// Its contents; `None` if it is larger than the limit or not UTF-8.
    pub text: Option<String>,
}

/// What a run needs to know of a commit and its folder `.quire`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineFiles {
    /// The `.fnl` and `.lua` files in the folder and below it, sorted by path.
    pub files: Vec<PipelineFile>,
    /// Files of quire that cannot be read.
    pub problems: Vec<UnusableFile>,
    /// Files that quire does not read but that were probably meant for it.
    pub misnamed: Vec<Misnamed>,
    /// Whether the folder contains a `Dockerfile`.
    pub dockerfile: bool,
    /// The id of the commit's tree.
    pub tree: Option<ObjectId>,
    /// The commit's message, up to 64 KiB.
    pub message: String,
    /// The commit's parents.
    pub parents: Vec<ObjectId>,
    /// Whether the commit has a `.gitmodules`.
    pub has_submodules: bool,
    /// Whether its `.gitattributes` puts files into Git LFS.
    pub uses_lfs: bool,
}

impl PipelineFiles {
    /// The file with this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&PipelineFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Makes a file that is no text of at most `limit` bytes a problem, and drops those in a folder below, which may be
    /// anything and are no helpers then.
    #[must_use]
    pub fn checked(mut self, limit: usize) -> Self {
        let is_below = |path: &str| path.matches('/').count() > 1;
        self.files
            .retain(|file| file.text.is_some() || !is_below(&file.path));
        let unreadable = self.files.iter().filter(|file| file.text.is_none());
        self.problems.extend(unreadable.map(|file| UnusableFile {
            path: file.path.clone(),
            problem: UnusableReason::NotText { limit },
        }));
        self
    }
}

impl Git {
    /// Reads the pipeline's files in a commit, each up to `limit` bytes, and the commit itself.
    pub async fn pipeline_files(
        &self,
        repo: &Path,
        id: &ObjectId,
        limit: usize,
    ) -> Result<PipelineFiles, GitError> {
        let mut batch = ObjectBatch::new(self, repo).await;
        let ids = std::slice::from_ref(id);
        let commit = match commits(&mut batch, ids).await?.pop() {
            Some(FoundObject::Commit(commit)) => commit,
            Some(FoundObject::Missing) => return Err(batch.unreadable(id.as_str()).await),
            Some(FoundObject::Other) | None => return Ok(PipelineFiles::default()),
        };
        let folder = find_pipeline_folder(&mut batch, &commit.tree).await?;
        let (paths, blobs): (Vec<String>, Vec<String>) = folder.files.into_iter().unzip();
        let mut files: Vec<PipelineFile> = Vec::with_capacity(paths.len());
        batch
            .read(&blobs, limit, |at, contents| {
                let text = (!contents.truncated)
                    .then(|| String::from_utf8(contents.bytes).ok())
                    .flatten();
                let path = paths[at].clone();
                files.push(PipelineFile { path, text });
            })
            .await?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let (has_submodules, uses_lfs) = checkout_extras(&mut batch, &commit.tree).await?;
        batch.finish().await?;
        let found = PipelineFiles {
            files,
            problems: folder.problems,
            misnamed: folder.misnamed,
            dockerfile: folder.dockerfile,
            tree: commit.tree.parse().ok(),
            message: commit.message,
            parents: commit.parents,
            has_submodules,
            uses_lfs,
        };
        Ok(found.checked(limit))
    }
}
