//! The tree of a commit as an archive for an executor.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use quire_executor::Tree;
use quire_git::lfs::{LfsStore, fill_pointers};
use quire_git::{AssembledTree, Git, WorkspaceRepo};
use quire_types::names::ObjectId;
use quire_types::sync::lock;

/// A stream of an archive that was started before the workspace asks for it.
#[derive(Default)]
pub struct StartedArchive(Mutex<Option<BoxStream<'static, std::io::Result<Bytes>>>>);

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
    /// The archive of the commit, if it was started already.
    pub started: StartedArchive,
    /// Who is told that the repository cannot be read.
    pub unreadable: UnreadableReport,
}

/// What is called with the reason why the tree of a commit cannot be read.
pub type UnreadableReport = Arc<dyn Fn(&std::io::Error) + Send + Sync>;

impl GitTree {
    /// Starts the archive of the commit, so that git works while the pipeline is evaluated.
    pub(super) fn start(&self) {
        let archive = self.git.archive(&self.repo, &self.sha).boxed();
        *lock(&self.started.0) = Some(archive);
    }
}

impl Tree for GitTree {
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        let started = lock(&self.started.0).take();
        let archive = match (&self.assembled, started) {
            (Some(tree), _) => tree.archive().boxed(),
            (None, Some(archive)) => archive,
            (None, None) => self.git.archive(&self.repo, &self.sha).boxed(),
        };
        let unreadable = self.unreadable.clone();
        archive.inspect_err(move |error| unreadable(error)).boxed()
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
