//! The commit's tree, as an executor wants it.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::executor::Tree;
use crate::git::Git;
use crate::names::ObjectId;

/// The tree of a commit in a bare repository.
pub struct GitTree {
    /// Git.
    pub git: Git,
    /// The repository's folder.
    pub repo: PathBuf,
    /// The commit.
    pub sha: ObjectId,
    /// Whether it holds `.quire/Dockerfile`.
    pub dockerfile: bool,
    /// The tree's own id: commits with the same tree share a built image.
    pub tree: Option<ObjectId>,
}

impl Tree for GitTree {
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        self.git.archive(&self.repo, &self.sha).boxed()
    }

    fn has_dockerfile(&self) -> bool {
        self.dockerfile
    }

    fn id(&self) -> Option<String> {
        self.tree.as_ref().map(ToString::to_string)
    }
}
