//! What `quire ci run` decides before anything runs: the tree, the pipeline, the push and the executor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CiError;
use super::executor_choice::{ChosenExecutor, choose};
use super::local_push::LocalPush;
use super::run_arguments::RunArguments;
use super::source_tree::{SourceTree, working_dir};
use super::working_tree::{FolderTree, all_files};
use quire_executor::{ImageSource, Tree};
use quire_git::lfs::LfsStore;
use quire_git::{Checkout, Git, WorkspaceHistory, WorkspaceRepo};
use quire_pipeline::driver::protocol::DOCKERFILE;
use quire_pipeline::{JobTracker, Source};
use quire_server::runner::image;
use quire_server::runner::prepare::Prepared;
use quire_server::runner::{GitTree, StartedArchive, depth};
use quire_types::names::RunId;

/// Everything that is decided before the run starts.
pub(super) struct RunPlan {
    pub(super) run: RunId,
    pub(super) source: Source,
    pub(super) tree: SourceTree,
    pub(super) checkout: Option<Checkout>,
    /// The files of a working tree; empty for a commit.
    pub(super) files: Arc<[PathBuf]>,
    pub(super) push: LocalPush,
    pub(super) prepared: Prepared,
    pub(super) image: ImageSource,
    pub(super) executor: ChosenExecutor,
    /// The folder for artifacts, if they are kept after the run.
    pub(super) artifacts: Option<PathBuf>,
}

impl RunPlan {
    pub(super) async fn prepare(arguments: &RunArguments) -> Result<Self, CiError> {
        let folder = working_dir()?;
        let program = std::env::current_exe().map_err(CiError::Start)?;
        let run = RunId::new();
        let source = arguments.source.clone();
        let tree = SourceTree::find(&folder, arguments.sha.as_deref()).await?;
        let (pipeline, driver) = tree.register(&program).await?;
        if let Some(what) = arguments.grants().refused(&pipeline) {
            return Err(CiError::NotGranted(what));
        }
        let parallel = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let tracker =
            JobTracker::new(&pipeline, &source.to_string(), &arguments.jobs)?.with_limit(parallel);
        let checkout = match &tree.commit {
            Some((checkout, _)) => Some(checkout.clone()),
            None => Checkout::find(&tree.root).await?,
        };
        let files = match (&tree.commit, &checkout) {
            (Some(_), _) => Vec::new(),
            (None, Some(checkout)) => match pipeline.checkout().submodules {
                Some(false) => checkout.files().await?,
                _ => checkout.files_with_submodules().await?,
            },
            (None, None) => {
                all_files(&tree.root).map_err(|(path, error)| CiError::Read(path, error))?
            }
        };
        let push = LocalPush::find(&tree, checkout.as_ref(), arguments.pushed_ref()?).await?;
        let executor = choose(arguments.executor, &tree.root, run).await?;
        let image = match &arguments.image {
            Some(reference) => ImageSource::Reference(reference.clone()),
            None => image(&pipeline, &quire_config::CiConfig::default().image),
        };
        let artifacts = arguments
            .artifacts
            .as_deref()
            .map(empty_folder)
            .transpose()?;
        let prepared = Prepared {
            pipeline,
            tracker,
            driver,
        };
        Ok(Self {
            run,
            source,
            tree,
            checkout,
            files: files.into(),
            push,
            prepared,
            image,
            executor,
            artifacts,
        })
    }

    /// The `.git` of the workspace, if the pipeline asks for one and there is a commit.
    pub(super) async fn history(&self, git: &Git) -> Result<Option<WorkspaceRepo>, CiError> {
        let wanted = self.prepared.pipeline.checkout().history;
        let (Some(history), Some(checkout)) = (wanted, &self.checkout) else {
            return Ok(None);
        };
        let Some((commit, branch)) = self.push.commit_and_branch() else {
            return Ok(None);
        };
        let history = WorkspaceHistory {
            repo: checkout.repository(),
            commit,
            branch,
            depth: depth(history),
            origin: checkout.origin().await?,
        };
        Ok(Some(git.workspace_repo(&history).await?))
    }

    /// The tree that the executor copies into the workspace.
    pub(super) fn commit_or_folder(
        &self,
        git: Git,
        history: Option<WorkspaceRepo>,
    ) -> Arc<dyn Tree> {
        match &self.tree.commit {
            Some((checkout, sha)) => Arc::new(GitTree {
                git,
                repo: checkout.repository().to_owned(),
                sha: sha.clone(),
                dockerfile: self.tree.dockerfile,
                tree: None,
                assembled: None,
                history,
                lfs: match self.prepared.pipeline.checkout().lfs {
                    true => vec![LfsStore::of(checkout.repository())],
                    false => Vec::new(),
                },
                started: StartedArchive::default(),
                unreadable: Arc::new(|_| ()),
            }),
            None => {
                let dockerfile = self.files.iter().any(|file| file.as_os_str() == DOCKERFILE);
                Arc::new(FolderTree {
                    root: self.tree.root.clone(),
                    files: self.files.clone(),
                    dockerfile,
                    history,
                })
            }
        }
    }

    /// The first line of the output.
    pub(super) fn header(&self) -> String {
        let what = if self.tree.commit.is_some() {
            "commit"
        } else {
            "working tree"
        };
        let note = self
            .executor
            .note
            .as_ref()
            .map_or_else(String::new, |note| {
                format!("quire: {note}; commands run on this machine\n")
            });
        format!(
            "{note}quire: {} of the {what}, {}, executor {}",
            self.tree.source.file,
            self.push.describe(),
            self.executor.name
        )
    }

    /// The width of the longest job name; `None` if there is one job.
    pub(super) fn name_width(&self) -> Option<usize> {
        let jobs = self.prepared.tracker.jobs();
        let width = jobs.iter().map(|job| job.as_str().chars().count()).max();
        width.filter(|_| jobs.len() > 1)
    }
}

/// Creates the folder for artifacts, which must be empty.
fn empty_folder(folder: &Path) -> Result<PathBuf, CiError> {
    let write = |error| CiError::Write(folder.to_owned(), error);
    std::fs::create_dir_all(folder).map_err(write)?;
    match std::fs::read_dir(folder).map_err(write)?.next() {
        None => std::path::absolute(folder).map_err(write),
        Some(_) => Err(CiError::Usage(
            "the folder of --artifacts is not empty; name an empty folder or one that does not exist yet",
        )),
    }
}
