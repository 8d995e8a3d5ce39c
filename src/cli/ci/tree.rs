//! What a pipeline is taken from: a working tree as it lies on disk, or a commit.

use std::path::{Path, PathBuf};

use super::CiError;
use crate::driver::protocol::{DOCKERFILE, PipelineSource, is_pipeline_file};
use crate::driver::{Driver, DriverError};
use crate::git::{Checkout, Git};
use crate::names::ObjectId;
use crate::paths::Paths;
use crate::pipeline::Pipeline;

/// The most files of `.quire` that are looked at.
const MAX_FILES: usize = 500;
/// The largest of them, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A tree with a pipeline.
#[derive(Debug)]
pub(super) struct Subject {
    /// The folder that holds `.quire`; of a commit, the top of the checkout.
    pub(super) root: PathBuf,
    /// The pipeline in it.
    pub(super) source: PipelineSource,
    /// Whether it has an image of its own.
    pub(super) dockerfile: bool,
    /// The commit and where it is; none for a working tree.
    pub(super) commit: Option<(Checkout, ObjectId)>,
}

/// The current folder.
pub(super) fn here() -> Result<PathBuf, CiError> {
    std::env::current_dir().map_err(|error| CiError::Read(PathBuf::from("."), error))
}

impl Subject {
    /// The tree that is meant in `folder`: that of a revision, or the working tree.
    pub(super) async fn find(folder: &Path, revision: Option<&str>) -> Result<Self, CiError> {
        match revision {
            Some(revision) => Self::at(folder, revision).await,
            None => Self::on_disk(folder),
        }
    }

    /// The pipeline of `folder`, or of the nearest folder above it that has a `.quire`.
    fn on_disk(folder: &Path) -> Result<Self, CiError> {
        let no_pipeline = || CiError::NoPipeline(format!("{} or above it", folder.display()));
        let root = folder
            .ancestors()
            .find(|folder| folder.join(".quire").is_dir())
            .ok_or_else(no_pipeline)?;
        let source = pipeline_among(pipeline_files(root)?)?.ok_or_else(no_pipeline)?;
        Ok(Self {
            root: root.to_path_buf(),
            source,
            dockerfile: root.join(DOCKERFILE).is_file(),
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
        let limit = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
        // Reading objects takes nothing from these paths.
        let git = Git::new(&Paths::from_environment());
        let found = git
            .pipeline_files(checkout.repository(), &sha, limit)
            .await?;
        let mut files = Vec::new();
        for file in found
            .files
            .into_iter()
            .filter(|file| is_pipeline_file(&file.path))
        {
            let why = "it is not a plain UTF-8 text file of at most 1 MiB";
            files.push((
                file.path.clone(),
                file.text.ok_or(CiError::TooMuch {
                    path: file.path,
                    why,
                })?,
            ));
        }
        let source = pipeline_among(files)?
            .ok_or_else(|| CiError::NoPipeline(format!("commit {}", sha.short())))?;
        Ok(Self {
            root: checkout.top().await?,
            source,
            dockerfile: found.dockerfile,
            commit: Some((checkout, sha)),
        })
    }

    /// Has a driver evaluate the pipeline and checks what it registered; the driver is ready to run its jobs.
    pub(super) async fn register(&self, program: &Path) -> Result<(Pipeline, Driver), CiError> {
        let wrong = |diagnostics| CiError::Wrong(diagnostics, self.source.texts());
        let mut driver = Driver::spawn(program).map_err(CiError::Driver)?;
        let registration =
            driver
                .register(self.source.clone())
                .await
                .map_err(|error| match error {
                    DriverError::Rejected(diagnostics) => wrong(diagnostics),
                    other => CiError::Driver(other),
                })?;
        match Pipeline::check_among(registration, &self.source.texts(), self.dockerfile) {
            Ok(pipeline) => Ok((pipeline, driver)),
            Err(diagnostics) => {
                driver.kill().await;
                Err(wrong(diagnostics))
            }
        }
    }
}

fn pipeline_among(files: Vec<(String, String)>) -> Result<Option<PipelineSource>, CiError> {
    PipelineSource::from_files(files).map_err(|problem| CiError::Wrong(vec![problem], Vec::new()))
}

/// The Fennel and Lua files right in `.quire`, in order: the ones that a commit's pipeline sees. Links are not followed.
fn pipeline_files(root: &Path) -> Result<Vec<(String, String)>, CiError> {
    let folder = root.join(".quire");
    let unreadable = |error| CiError::Read(folder.clone(), error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let Some(name) = entry
            .file_name()
            .to_str()
            .map(|name| format!(".quire/{name}"))
        else {
            continue;
        };
        if !entry.file_type().map_err(unreadable)?.is_file() || !is_pipeline_file(&name) {
            continue;
        }
        let too_much = |path: &Path, why| {
            Err(CiError::TooMuch {
                path: path.display().to_string(),
                why,
            })
        };
        if files.len() >= MAX_FILES {
            return too_much(&folder, "it holds more than 500 Fennel and Lua files");
        }
        if entry.metadata().map_err(unreadable)?.len() > MAX_FILE {
            return too_much(&path, "a pipeline's file is at most 1 MiB long");
        }
        files.push((
            name,
            std::fs::read_to_string(&path).map_err(|error| CiError::Read(path.clone(), error))?,
        ));
    }
    files.sort();
    Ok(files)
}
