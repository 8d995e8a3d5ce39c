//! From a commit to a checked pipeline: reads `.quire/`, has the driver evaluate it, checks what
//! was registered, and gathers what its jobs see of the push: `(jobs :quire/push)` and variables.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::causes::with_causes;
use crate::clock::Millis;
use crate::driver::protocol::{FENNEL_FILE, LUA_FILE, PipelineSource, is_pipeline_file};
use crate::driver::{Driver, DriverError};
use crate::executor::{CacheMount, ImageSource, ResourceLimits, ServiceSpec};
use crate::git::{Git, GitError, PipelineFiles};
use crate::names::{JobName, ObjectId, RefName, RepoName, RunId};
use crate::paths::Paths;
use crate::pipeline::{
    Diagnostic, Input, Pipeline, PipelineImage, Schedule, Service, Source, format_duration,
};
use crate::run::{FailureKind, Outcome, Run};

/// The largest pipeline file, in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// How many names `files-changed` gives at most.
const MAX_FILES_CHANGED: usize = 100_000;
/// How many bytes of names.
const MAX_FILES_BYTES: usize = 8 << 20;

/// A pipeline that is ready to be played.
pub struct Prepared {
    /// The checked graph.
    pub pipeline: Pipeline,
    /// The jobs of this run.
    pub schedule: Schedule,
    /// The process that holds their functions.
    pub driver: Driver,
}

impl Prepared {
    /// The jobs of this run, each with the names of what it waits for.
    #[must_use]
    pub fn jobs(&self) -> Vec<(JobName, Vec<String>)> {
        let inputs = |id: &JobName| {
            self.pipeline
                .job(id)
                .map(|job| job.inputs.iter().map(Input::to_string).collect())
        };
        self.schedule
            .jobs()
            .into_iter()
            .map(|id| (id.clone(), inputs(&id).unwrap_or_default()))
            .collect()
    }
}

/// Why there is nothing to play.
pub struct Unprepared {
    /// How the run ends.
    pub outcome: Outcome,
    /// What its log says, one thing wrong after the other.
    pub diagnostics: Vec<Diagnostic>,
}

impl Unprepared {
    fn failed(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Failed(kind, message.into()),
            diagnostics: Vec::new(),
        }
    }

    fn rejected(diagnostics: Vec<Diagnostic>) -> Self {
        let message = match diagnostics.as_slice() {
            [] => "the pipeline was rejected".to_owned(),
            [one] => one.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
        };
        Self {
            outcome: Outcome::Failed(FailureKind::Pipeline, message),
            diagnostics,
        }
    }
}

/// The pipeline's source among the files of `.quire`.
///
/// # Errors
/// There is none, there are two, or it is no text of a sane size.
pub fn source(files: &PipelineFiles) -> Result<PipelineSource, Unprepared> {
    let refuse = |message: String| Unprepared::failed(FailureKind::Pipeline, message);
    // A file that is no text counts while the pipeline is looked for, and is refused when it is the one.
    let texts = files
        .files
        .iter()
        .map(|file| (file.path.clone(), file.text.clone().unwrap_or_default()));
    let source = PipelineSource::from_files(texts.collect())
        .map_err(|diagnostic| Unprepared::rejected(vec![diagnostic]))?;
    let source = source
        .ok_or_else(|| refuse(format!("the commit has no {FENNEL_FILE} and no {LUA_FILE}")))?;
    let unreadable = files
        .files
        .iter()
        .find(|file| file.text.is_none() && is_pipeline_file(&file.path));
    match unreadable {
        Some(file) => Err(refuse(format!(
            "{} is not a plain UTF-8 text file of at most {} KiB",
            file.path,
            MAX_SOURCE >> 10
        ))),
        None => Ok(source),
    }
}

/// Evaluates and checks a pipeline.
///
/// # Errors
/// It is wrong, or the driver could not do its work; the outcome says which.
pub async fn prepare(
    driver: Driver,
    source: PipelineSource,
    has_dockerfile: bool,
    starts_from: &str,
    only: Option<&str>,
) -> Result<Prepared, Unprepared> {
    let (pipeline, driver) = checked(driver, source, has_dockerfile).await?;
    let only = only.map(str::parse::<JobName>).transpose();
    let schedule = only.map_err(|error| error.to_string()).and_then(|only| {
        Schedule::new(&pipeline, starts_from, only.as_slice()).map_err(|error| error.to_string())
    });
    let schedule =
        schedule.map_err(|message| Unprepared::failed(FailureKind::Pipeline, message))?;
    Ok(Prepared {
        pipeline,
        schedule,
        driver,
    })
}

/// Evaluates and checks a pipeline, whatever it is to start from.
///
/// # Errors
/// It is wrong, or the driver could not do its work; the outcome says which.
pub async fn checked(
    mut driver: Driver,
    source: PipelineSource,
    has_dockerfile: bool,
) -> Result<(Pipeline, Driver), Unprepared> {
    let texts = source.texts();
    let registration = driver.register(source).await.map_err(|error| match error {
        DriverError::Rejected(diagnostics) => Unprepared::rejected(diagnostics),
        // No fault of the pipeline's, nor of ours.
        DriverError::Unconfined(_) => Unprepared::failed(FailureKind::Internal, error.to_string()),
        DriverError::Spawn(_) | DriverError::Io(_) => Unprepared::failed(
            FailureKind::Internal,
            format!("internal error: {}", with_causes(&error)),
        ),
        other => Unprepared::failed(FailureKind::Pipeline, with_causes(&other)),
    })?;
    Ok((
        Pipeline::check_among(registration, &texts, has_dockerfile)
            .map_err(Unprepared::rejected)?,
        driver,
    ))
}

/// Reads the pipeline's files of a commit.
///
/// # Errors
/// Git cannot read them.
pub async fn files(
    git: &Git,
    paths: &Paths,
    repo: &RepoName,
    sha: &ObjectId,
) -> Result<PipelineFiles, GitError> {
    git.pipeline_files(&paths.repo(repo), sha, MAX_SOURCE).await
}

/// The image that a pipeline's commands run in.
#[must_use]
pub fn image(pipeline: &Pipeline, default: &str) -> ImageSource {
    match pipeline.image() {
        PipelineImage::Reference(image) => ImageSource::Reference(image.clone()),
        PipelineImage::Dockerfile => ImageSource::Dockerfile,
        PipelineImage::Default => ImageSource::Reference(default.to_owned()),
    }
}

/// What a run may use: what its pipeline asks for, and never more than the owner allows.
#[must_use]
pub fn limits(pipeline: &Pipeline, most: &ResourceLimits) -> ResourceLimits {
    let asked = pipeline.resources();
    ResourceLimits {
        memory: asked
            .memory
            .map_or(most.memory, |memory| memory.min(most.memory)),
        milli_cpus: asked
            .milli_cpus
            .map_or(most.milli_cpus, |cpus| cpus.min(most.milli_cpus)),
        pids: asked.pids.map_or(most.pids, |pids| pids.min(most.pids)),
        network: most.network && pipeline.network().unwrap_or(true),
    }
}

/// How long a run may take: what its pipeline asks for, and never more than the owner allows; with a
/// line for its log where it asks for more.
#[must_use]
pub fn timeout(pipeline: &Pipeline, most: Duration) -> (Duration, Option<String>) {
    let Some(asked_ms) = pipeline.timeout_ms() else {
        return (most, None);
    };
    let asked = Duration::from_millis(asked_ms);
    let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    let cut = || {
        let (asked, most) = (format_duration(asked_ms), format_duration(most_ms));
        format!(
            "the pipeline asks for a time limit of {asked}; the configuration (`:ci {{:timeout}}`) allows {most}, and that holds"
        )
    };
    (asked.min(most), (asked > most).then(cut))
}

/// The volumes that a pipeline's runs share.
#[must_use]
pub fn caches(pipeline: &Pipeline) -> Vec<CacheMount> {
    pipeline
        .caches()
        .iter()
        .map(|cache| CacheMount {
            name: cache.name.clone(),
            path: cache.path.clone(),
        })
        .collect()
}

/// The containers beside a run's.
#[must_use]
pub fn services(pipeline: &Pipeline) -> Vec<ServiceSpec> {
    let service = |service: &Service| ServiceSpec {
        name: service.name.clone(),
        image: service.image.clone(),
        env: service.env.clone(),
        command: service.command.clone(),
        ready: service.ready.clone(),
        ready_within: Duration::from_millis(service.ready_within_ms),
    };
    pipeline.services().iter().map(service).collect()
}

/// The push that a run is of, as far as its jobs see it.
#[derive(Debug, Clone)]
pub struct Pushed<'a> {
    /// The run.
    pub run: RunId,
    /// The repository.
    pub repo: &'a RepoName,
    /// What was pushed.
    pub ref_name: &'a RefName,
    /// The commit.
    pub sha: &'a ObjectId,
    /// Where the ref stood before.
    pub previous_sha: Option<&'a ObjectId>,
    /// Who pushed.
    pub pusher: Option<&'a str>,
    /// When.
    pub pushed_at: Millis,
}

impl<'a> From<&'a Run> for Pushed<'a> {
    fn from(run: &'a Run) -> Self {
        Self {
            run: run.id,
            repo: &run.repo,
            ref_name: &run.ref_name,
            sha: &run.sha,
            previous_sha: run.previous_sha.as_ref(),
            pusher: run.pusher.as_deref(),
            pushed_at: run.pushed_at_ms,
        }
    }
}

impl Pushed<'_> {
    /// The variables that every command of the run sees: quire's own, then the pipeline's.
    #[must_use]
    pub fn environment(&self, pipeline: &[(String, String)]) -> Vec<(String, String)> {
        let run = self.run.to_string();
        let mut env = vec![
            ("CI", "true"),
            ("QUIRE_REPO", self.repo.as_str()),
            ("QUIRE_REF", self.ref_name.as_str()),
            ("QUIRE_SHA", self.sha.as_str()),
            ("QUIRE_RUN", &run),
        ];
        env.extend(
            self.ref_name
                .branch()
                .map(|branch| ("QUIRE_BRANCH", branch)),
        );
        env.extend(self.ref_name.tag().map(|tag| ("QUIRE_TAG", tag)));
        env.extend(
            pipeline
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// What `(jobs :quire/push)` gives. What does not apply is absent.
    #[must_use]
    pub fn values(
        &self,
        message: Option<&str>,
        mut files_changed: Vec<String>,
        forced: bool,
    ) -> Map<String, Value> {
        files_changed.truncate(MAX_FILES_CHANGED);
        let mut bytes = 0;
        let mut within = |name: &String| {
            bytes += name.len();
            bytes <= MAX_FILES_BYTES
        };
        files_changed.truncate(files_changed.iter().take_while(|name| within(name)).count());
        let values = json!({
            "sha": self.sha, "ref": self.ref_name, "branch": self.ref_name.branch(), "tag": self.ref_name.tag(),
            "previous-sha": self.previous_sha, "pusher": self.pusher, "pushed-at": self.pushed_at.to_string(),
            "message": message, "files-changed": files_changed, "forced": forced,
        });
        let Value::Object(mut values) = values else {
            return Map::new();
        };
        values.retain(|_, value| !value.is_null());
        values
    }
}

/// What `(jobs SOURCE)` gives in a run that a person or a schedule started; none for one of a push.
#[must_use]
pub fn started_values(run: &Run, message: &str) -> Option<Map<String, Value>> {
    let (branch, tag) = (run.ref_name.branch(), run.ref_name.tag());
    let at = run.pushed_at_ms.to_string();
    let values = match Source::from_name(&run.source)? {
        Source::Push => return None,
        Source::Manual => json!({
            "sha": run.sha, "ref": run.ref_name, "branch": branch, "tag": tag, "message": message,
            "started-by": run.pusher, "started-at": at, "params": run.params.clone().unwrap_or_default(),
        }),
        Source::Cron(name) => json!({
            "sha": run.sha, "ref": run.ref_name, "branch": branch, "tag": tag, "message": message,
            "name": name, "scheduled-at": at,
        }),
    };
    let Value::Object(mut values) = values else {
        return None;
    };
    values.retain(|_, value| !value.is_null());
    Some(values)
}

/// What `(jobs :quire/push)` gives for a commit, with this message and these parents, in the repository in this folder.
///
/// # Errors
/// Git cannot answer.
pub async fn push_values(
    git: &Git,
    repo: &Path,
    pushed: &Pushed<'_>,
    message: &str,
    parents: &[ObjectId],
) -> Result<Map<String, Value>, GitError> {
    let is_ancestor = async {
        match pushed.previous_sha {
            Some(previous) if !parents.contains(previous) => {
                git.is_ancestor(repo, previous, pushed.sha).await
            }
            _ => Ok(true),
        }
    };
    let files_changed = async {
        // A new branch has changed what its own commits did. A new tag, and the first push of all, has all files.
        let left_at = match pushed.previous_sha {
            None if pushed.ref_name.branch().is_some() => {
                git.left_default_at(repo, pushed.ref_name, pushed.sha)
                    .await?
            }
            _ => None,
        };
        // The old commit of a forced push may be gone by now; then every file counts as changed.
        match git
            .files_changed(
                repo,
                pushed.previous_sha.or(left_at.as_ref()),
                pushed.sha,
                MAX_FILES_CHANGED,
            )
            .await
        {
            Ok(changed) => Ok(changed),
            Err(_) => {
                git.files_changed(repo, None, pushed.sha, MAX_FILES_CHANGED)
                    .await
            }
        }
    };
    let (ancestor, changed) = tokio::try_join!(is_ancestor, files_changed)?;
    Ok(pushed.values(Some(message), changed, !ancestor))
}
