//! The tree that a pipeline is read from: a working tree on disk, or a commit.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::disk_files::read_pipeline_files;
use super::error::CiError;
use quire_git::{Checkout, Git, Misnamed, PipelineFiles};
use quire_pipeline::Pipeline;
use quire_pipeline::driver::protocol::{DOCKERFILE, FOLDER, PipelineSource, is_pipeline_file};
use quire_pipeline::driver::{DriverError, DriverHandle};
use quire_types::names::ObjectId;
use quire_types::paths::Paths;

/// The largest file of `.quire` that is read, in bytes.
const MAX_FILE: usize = 1 << 20;

/// A tree with a pipeline.
#[derive(Debug)]
pub(super) struct SourceTree {
    /// The folder that holds `.quire`; for a commit, the top folder of the checkout.
    pub(super) root: PathBuf,
    pub(super) source: PipelineSource,
    /// Whether it holds `.quire/Dockerfile`.
    pub(super) dockerfile: bool,
    /// Files that were probably meant to be read.
    pub(super) misnamed: Vec<Misnamed>,
    /// The commit and its checkout; `None` for a working tree.
    pub(super) commit: Option<(Checkout, ObjectId)>,
}

/// The current folder.
pub(super) fn working_dir() -> Result<PathBuf, CiError> {
    std::env::current_dir().map_err(|error| CiError::Read(PathBuf::from("."), error))
}

impl SourceTree {
    /// Finds the tree of a revision, or the working tree if `revision` is `None`.
    pub(super) async fn find(folder: &Path, revision: Option<&str>) -> Result<Self, CiError> {
        match revision {
            Some(revision) => Self::at(folder, revision).await,
            None => Self::on_disk(folder).await,
        }
    }

    /// The pipeline of `folder`, or of the nearest folder above it that has a `.quire`.
    async fn on_disk(folder: &Path) -> Result<Self, CiError> {
        let no_pipeline = || CiError::NoPipeline(format!("{} or above it", folder.display()));
        let root = folder
            .ancestors()
            .find(|folder| folder.join(FOLDER).symlink_metadata().is_ok())
            .ok_or_else(no_pipeline)?;
        let found = read_pipeline_files(root, MAX_FILE).await?;
        Ok(Self {
            root: root.to_path_buf(),
            source: pipeline_among(&found)?.ok_or_else(no_pipeline)?,
            dockerfile: found.dockerfile,
            misnamed: found.misnamed,
            commit: None,
        })
    }

    /// The pipeline of a commit of the checkout that `folder` is in.
    async fn at(folder: &Path, revision: &str) -> Result<Self, CiError> {
        let checkout = Checkout::find(folder)
            .await?
            .ok_or_else(|| CiError::NoCheckout(folder.to_path_buf()))?;
        let sha = checkout
            .commit(revision)
            .await?
            .ok_or_else(|| CiError::NoCommit(revision.to_owned()))?;
        // The paths of an appliance are not used for reading objects.
        let git = Git::new(&Paths::from_environment());
        let found = git
            .pipeline_files(checkout.repository(), &sha, MAX_FILE)
            .await?;
        let source = pipeline_among(&found)?
            .ok_or_else(|| CiError::NoPipeline(format!("commit {}", sha.short())))?;
        Ok(Self {
            root: checkout.top().await?,
            source,
            dockerfile: found.dockerfile,
            misnamed: found.misnamed,
            commit: Some((checkout, sha)),
        })
    }

    /// Prints a warning for each file that was probably meant to be read.
    pub(super) fn print_warnings(&self) {
        for misnamed in &self.misnamed {
            let _ = writeln!(std::io::stderr(), "quire: warning: {misnamed}");
        }
    }

    /// Evaluates the pipeline in a driver and checks what it registered. The returned driver is ready to run its jobs.
    pub(super) async fn register(
        &self,
        program: &Path,
    ) -> Result<(Pipeline, DriverHandle), CiError> {
        let invalid = |diagnostics| CiError::Invalid(diagnostics, self.source.texts());
        let mut driver = DriverHandle::spawn(program).map_err(CiError::Driver)?;
        let registration =
            driver
                .register(self.source.clone())
                .await
                .map_err(|error| match error {
                    DriverError::Rejected(diagnostics) => invalid(diagnostics),
                    other => CiError::Driver(other),
                })?;
        match Pipeline::check_among(registration, &self.source.texts(), self.dockerfile) {
            Ok(pipeline) => Ok((pipeline, driver)),
            Err(diagnostics) => {
                driver.kill().await;
                Err(invalid(diagnostics))
            }
        }
    }
}

/// The pipeline among the files of a tree; `None` if there is none.
fn pipeline_among(found: &PipelineFiles) -> Result<Option<PipelineSource>, CiError> {
    let own = |path: &str| path == DOCKERFILE || path == FOLDER || is_pipeline_file(path);
    if let Some(problem) = found.problems.iter().find(|problem| own(&problem.path)) {
        return Err(CiError::File(problem.clone()));
    }
    let texts = found.files.iter().map(|file| {
        let text = file.text.clone().unwrap_or_default();
        (file.path.clone(), text)
    });
    let source = PipelineSource::from_files(texts.collect())
        .map_err(|problem| CiError::Invalid(vec![problem], Vec::new()))?;
    let is_pipeline = |misnamed: &&Misnamed| !DOCKERFILE.ends_with(misnamed.intended);
    match found.misnamed.iter().find(is_pipeline) {
        Some(misnamed) if source.is_none() => Err(CiError::Misnamed(misnamed.clone())),
        _ => Ok(source),
    }
}
