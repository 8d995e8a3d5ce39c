//! From a commit to a checked pipeline: reads `.quire/`, evaluates it in the driver, checks what was
//! registered, and gathers what jobs see of the push: `(jobs :quire/push)` and variables.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use quire_git::{Git, GitError, PipelineFiles};
use quire_pipeline::driver::protocol::{
    DOCKERFILE, FENNEL_FILE, FOLDER, LUA_FILE, PipelineSource, is_pipeline_file,
};
use quire_pipeline::driver::{DriverError, DriverHandle};
use quire_pipeline::{Diagnostic, Input, JobTracker, Pipeline, Source, format_duration};
use quire_types::clock::Millis;
use quire_types::error_chain;
use quire_types::landing::LandingRef;
use quire_types::names::{JobName, ObjectId, RefName, RepoName, RunId};
use quire_types::paths::Paths;
use quire_types::run::{FailureKind, Outcome, Run};

/// The largest pipeline file, in bytes.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// The most names that `files-changed` returns.
const MAX_FILES_CHANGED: usize = 100_000;
/// The most bytes of these names.
const MAX_FILES_CHANGED_BYTES: usize = 8 << 20;

/// A pipeline that is ready to run.
pub struct Prepared {
    /// The checked graph.
    pub pipeline: Pipeline,
    /// The jobs of this run.
    pub tracker: JobTracker,
    /// The process that holds their functions.
    pub driver: DriverHandle,
}

impl Prepared {
    /// The jobs of this run, each with the names of its inputs.
    #[must_use]
    pub fn jobs(&self) -> Vec<(JobName, Vec<String>)> {
        let inputs = |id: &JobName| {
            self.pipeline
                .job(id)
                .map(|job| job.inputs.iter().map(Input::to_string).collect())
        };
        self.tracker
            .jobs()
            .into_iter()
            .map(|id| (id.clone(), inputs(&id).unwrap_or_default()))
            .collect()
    }
}

/// Why a pipeline cannot run.
pub struct PrepareError {
    /// How the run ends.
    pub outcome: Outcome,
    /// The errors for the log.
    pub diagnostics: Vec<Diagnostic>,
}

impl PrepareError {
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
pub fn source(files: &PipelineFiles) -> Result<PipelineSource, PrepareError> {
    let reject = |message: String| PrepareError::failed(FailureKind::Pipeline, message);
    // A file that is no text counts while the pipeline is scanned for, and is refused when it is the one.
    let texts = files
        .files
        .iter()
        .map(|file| (file.path.clone(), file.text.clone().unwrap_or_default()));
    let source = PipelineSource::from_files(texts.collect())
        .map_err(|diagnostic| PrepareError::rejected(vec![diagnostic]))?;
    let own = |path: &str| path == DOCKERFILE || path == FOLDER || is_pipeline_file(path);
    if let Some(problem) = files.problems.iter().find(|problem| own(&problem.path)) {
        return Err(reject(problem.to_string()));
    }
    source.ok_or_else(|| reject(format!("the commit has no {FENNEL_FILE} and no {LUA_FILE}")))
}

/// Evaluates and checks a pipeline.
pub async fn prepare(
    driver: DriverHandle,
    source: PipelineSource,
    has_dockerfile: bool,
    starts_from: &str,
    only: Option<&str>,
) -> Result<Prepared, PrepareError> {
    let (pipeline, driver) = evaluate(driver, source, has_dockerfile).await?;
    let only = only.map(str::parse::<JobName>).transpose();
    let tracker = only.map_err(|error| error.to_string()).and_then(|only| {
        JobTracker::new(&pipeline, starts_from, only.as_slice()).map_err(|error| error.to_string())
    });
    let tracker =
        tracker.map_err(|message| PrepareError::failed(FailureKind::Pipeline, message))?;
    Ok(Prepared {
        pipeline,
        tracker,
        driver,
    })
}

/// Evaluates and checks a pipeline, independent of its source.
pub async fn evaluate(
    mut driver: DriverHandle,
    source: PipelineSource,
    has_dockerfile: bool,
) -> Result<(Pipeline, DriverHandle), PrepareError> {
    let texts = source.texts();
    let registration = driver.register(source).await.map_err(|error| match error {
        DriverError::Rejected(diagnostics) => PrepareError::rejected(diagnostics),
        // This is the fault of the host, neither of the pipeline nor of quire.
        DriverError::Unsandboxed(_) => {
            PrepareError::failed(FailureKind::Internal, error.to_string())
        }
        DriverError::Spawn(_) | DriverError::Io(_) => PrepareError::failed(
            FailureKind::Internal,
            format!("internal error: {}", error_chain::chain(&error)),
        ),
        DriverError::Killed(_) => PrepareError::failed(FailureKind::Orphaned, error.to_string()),
        other => PrepareError::failed(FailureKind::Pipeline, error_chain::chain(&other)),
    })?;
    Ok((
        Pipeline::check_among(registration, &texts, has_dockerfile)
            .map_err(PrepareError::rejected)?,
        driver,
    ))
}

/// Reads the pipeline's files of a commit.
pub async fn files(
    git: &Git,
    paths: &Paths,
    repo: &RepoName,
    sha: &ObjectId,
) -> Result<PipelineFiles, GitError> {
    git.pipeline_files(&paths.repo(repo), sha, MAX_SOURCE_BYTES)
        .await
}

/// Whether a repository was removed, which explains why its files cannot be read.
pub(super) async fn was_removed(git: &Git, repo: &RepoName) -> bool {
    let name = repo.clone();
    let exists = git.call(move |git| git.exists_or_redirects(&name)).await;
    matches!(exists, Ok(false))
}

/// The time limit of a run: what its pipeline requests, at most what the owner allows, or the repository if
/// `is_of_repo`. The text is a note for the log if the request was lowered.
#[must_use]
pub fn timeout(
    pipeline: &Pipeline,
    (upper, is_of_repo): (Duration, bool),
) -> (Duration, Option<String>) {
    let Some(requested_ms) = pipeline.timeout_ms() else {
        return (upper, None);
    };
    let requested = Duration::from_millis(requested_ms);
    if requested <= upper {
        return (requested, None);
    }
    let upper_ms = u64::try_from(upper.as_millis()).unwrap_or(u64::MAX);
    let whose = match is_of_repo {
        true => "settings of the repository allow",
        false => "configuration (`:ci {:timeout}`) allows",
    };
    let note = format!(
        "the pipeline requests a time limit of {}, but the {whose} only {}, which is used",
        format_duration(requested_ms),
        format_duration(upper_ms)
    );
    (upper, Some(note))
}

/// What jobs see of the push that started their run.
#[derive(Debug, Clone)]
pub struct PushContext<'a> {
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

impl<'a> From<&'a Run> for PushContext<'a> {
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

impl PushContext<'_> {
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

    /// What `(jobs :quire/push)` returns. Values that do not apply are absent.
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
            bytes <= MAX_FILES_CHANGED_BYTES
        };
        files_changed.truncate(files_changed.iter().take_while(|name| within(name)).count());
        let values = json!({
            "sha": self.sha, "ref": self.ref_name, "branch": self.ref_name.branch(), "tag": self.ref_name.tag(),
            "lands-on": LandingRef::of(self.ref_name).map(|landing| landing.branch.short().to_owned()),
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

/// What `(jobs SOURCE)` returns in a run that a person or a schedule started; `None` for a run of a push.
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
        Source::Hook(name) => {
            let params = run.params.clone().unwrap_or_default();
            json!({
                "sha": run.sha, "ref": run.ref_name, "branch": branch, "tag": tag, "message": message, "name": name,
                "received-at": at, "delivery": params.get("delivery"), "content-type": params.get("content-type"),
                "body": params.get("body"),
            })
        }
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

/// What `(jobs :quire/push)` returns for a commit with this message and these parents.
pub async fn push_values(
    git: &Git,
    repo: &Path,
    pushed: &PushContext<'_>,
    message: &str,
    parents: &[ObjectId],
) -> Result<Map<String, Value>, GitError> {
    // The commit before a forced push may have been pruned by now. Then every file counts as changed.
    let previous = match pushed.previous_sha {
        Some(previous) if parents.contains(previous) => Some(previous),
        Some(previous) if git.has_commit(repo, previous).await? => Some(previous),
        _ => None,
    };
    let is_ancestor = async {
        match (pushed.previous_sha, previous) {
            (None, _) => Ok(true),
            (Some(_), None) => Ok(false),
            (_, Some(previous)) if parents.contains(previous) => Ok(true),
            (_, Some(previous)) => git.is_ancestor(repo, previous, pushed.sha).await,
        }
    };
    let files_changed = async {
        // A new branch has changed what its own commits did. A new tag, and the first push of all, has all files.
        let left_at = match pushed.previous_sha {
            None if pushed.ref_name.branch().is_some() => {
                git.fork_point(repo, pushed.ref_name, pushed.sha).await?
            }
            _ => None,
        };
        let old = previous.or(left_at.as_ref());
        git.files_changed(repo, old, pushed.sha, MAX_FILES_CHANGED)
            .await
    };
    let (ancestor, changed) = tokio::try_join!(is_ancestor, files_changed)?;
    Ok(pushed.values(Some(message), changed, !ancestor))
}
