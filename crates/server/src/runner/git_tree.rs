//! The tree of a commit as an archive for an executor.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use quire_executor::Tree;
use quire_git::lfs::{LfsStore, fill_pointers};
use quire_git::{AssembledTree, Git, WorkspaceRepo};
use quire_types::names::ObjectId;

/// The tree of a commit in a bare repository.
pub struct GitTree {
    pub git: Git,
    /// The repository's folder.
    pub repo: PathBuf,
    pub sha: ObjectId,
    /// Whether it holds `.quire/Dockerfile`.
    pub dockerfile: bool,
    /// The tree's own id: commits with the same tree share a built image.
    pub tree: Option<ObjectId>,
    /// The tree with the files of submodules, if there are any.
    pub assembled: Option<AssembledTree>,
    /// The `.git` of the workspace, if it has one.
    pub history: Option<WorkspaceRepo>,
    /// Where the objects are that fill files in Git LFS. If there are none, the workspace has pointers. The context of an image
    /// build always has them, since a built image belongs to a tree.
    pub lfs: Vec<LfsStore>,
}

impl Tree for GitTree {
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        match &self.assembled {
            Some(tree) => tree.archive().boxed(),
            None => self.git.archive(&self.repo, &self.sha).boxed(),
        }
    }

    fn checkout(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        let files = match self.lfs.as_slice() {
            [] => self.archive(),
            stores => fill_pointers(self.archive(), stores.to_vec()),
        };
        match &self.history {
            Some(repo) => repo.entries().chain(files).boxed(),
            None => files,
        }
    }

    fn has_dockerfile(&self) -> bool {
        self.dockerfile
    }

    fn id(&self) -> Option<String> {
        let tree = self.tree.as_ref()?;
        let assembled = self.assembled.as_ref().map(AssembledTree::id);
        Some(assembled.unwrap_or(tree).to_string())
    }
}
