//! Starting, retrying and cancelling runs, and releasing their containers.
//!
//! Whatever enters the queue does so through the store in one transaction with the supersede policy. The
//! policy says today that a run which a person or a schedule starts supersedes no other.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use super::repos::no_repository;
use quire_git::{CommitInfo, Git, GitError};
use quire_pipeline::Source;
use quire_runtime::blocking::run_blocking;
use quire_store::{HookDelivery, NewRun, RetryOptions, Store};
use quire_types::failpoint;
use quire_types::names::{JobName, ObjectId, RefName, RepoName, RunId};
use quire_types::operation::Operation;
use quire_types::run::{Run, RunState, Trigger};
use quire_types::supersede;

const MAX_PARAMETERS: usize = 100;
/// How long a started run is watched for the check of its pipeline.
const PIPELINE_CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// A run that a person starts.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub repo: RepoName,
    /// The default branch if `None`.
    pub ref_name: Option<RefName>,
    /// Only this job and the jobs that it waits for.
    pub only_job: Option<JobName>,
    /// What jobs it starts: those that wait for `:quire/manual`, or those of a push.
    pub source: Source,
    /// Only for [`Source::Manual`].
    pub parameters: Vec<(String, String)>,
    /// Keep the run's container for a while if the run fails.
    pub keep_container: bool,
    /// Pull and build the run's images afresh.
    pub rebuild: bool,
    /// The name of the user's key.
    pub started_by: String,
}

/// Queues a run of the commit at which a ref is now. Waits a moment for the check of its pipeline, which
/// only the server can do, so that the run may be returned with its result.
pub async fn start(forge: &Forge, request: StartRequest) -> Result<Run, ForgeError> {
    let parameters = match request.source {
        Source::Manual => Some(parameters(&request.parameters)?),
        _ if !request.parameters.is_empty() => return Err(ForgeError::ParametersOfPush),
        _ => None,
    };
    let tip = new_run(forge, &request.repo, request.ref_name.as_ref()).await?;
    let forge = forge.clone();
    run_blocking(move || {
        let store = forge.store()?;
        let run = NewRun {
            source: request.source.to_string(),
            pusher: Some(request.started_by),
            only_job: request.only_job.as_ref().map(ToString::to_string),
            params: parameters,
            keep: request.keep_container,
            rebuild: request.rebuild,
            ..tip
        };
        let operation = Operation::RunStart {
            repo: run.repo.clone(),
            run: None,
        };
        let id = recorded(&forge, operation, |operation| {
            let id = store.queue().enqueue(&run, supersede::superseded_runs)?;
            if let Operation::RunStart { run, .. } = operation {
                *run = Some(id);
            }
            Ok(id)
        })?;
        let timeout = if forge.notifier.notify(&[id]) {
            PIPELINE_CHECK_TIMEOUT
        } else {
            Duration::ZERO
        };
        wait_for_pipeline_check(&store, id, timeout)
    })
    .await?
}

/// A run that an incoming webhook starts.
#[derive(Debug, Clone)]
pub struct HookStart {
    pub hook: JobName,
    pub repo: RepoName,
    /// The default branch if `None`.
    pub ref_name: Option<RefName>,
    pub params: Map<String, Value>,
    pub delivery: HookDelivery,
}

/// Queues a run of the commit at which a ref is now, unless the same delivery has started one. Returns the run, and whether
/// an earlier delivery started it.
pub async fn start_by_hook(forge: &Forge, start: HookStart) -> Result<(Run, bool), ForgeError> {
    let tip = new_run(forge, &start.repo, start.ref_name.as_ref()).await?;
    let forge = forge.clone();
    run_blocking(move || {
        let store = forge.store()?;
        let run = NewRun {
            pusher: Some(format!("webhook {}", start.hook)),
            source: Source::Hook(start.hook).to_string(),
            params: Some(start.params),
            ..tip
        };
        let deliveries = store.hook_deliveries();
        let decide = supersede::superseded_runs;
        let (id, is_repeated) = deliveries.enqueue(&start.delivery, &run, decide)?;
        failpoint::hit("hook-queued");
        forge.notifier.notify(&[id]);
        Ok((get(&store, id)?, is_repeated))
    })
    .await?
}

/// A run of the commit at which a ref is now, which has to have a pipeline.
async fn new_run(
    forge: &Forge,
    repo: &RepoName,
    ref_name: Option<&RefName>,
) -> Result<NewRun, ForgeError> {
    let (repo, ref_name) = {
        let (forge, repo, ref_name) = (forge.clone(), repo.clone(), ref_name.cloned());
        run_blocking(move || resolve(&forge, &repo, ref_name)).await??
    };
    let tip = commit_at(&forge.git, &forge.paths.repo(&repo), &ref_name).await?;
    let Some((sha, info)) = tip else {
        return Err(ForgeError::NoRef { repo, ref_name });
    };
    let Some(info) = info.filter(CommitInfo::has_pipeline) else {
        return Err(ForgeError::NoPipeline { repo, commit: sha });
    };
    let now = forge.store()?.clock().now();
    Ok(NewRun {
        subject: info.subject(),
        trigger: Trigger::Manual,
        group_unknown: info.may_declare_group,
        ..NewRun::of_push(repo, ref_name, sha, now)
    })
}

fn parameters(given: &[(String, String)]) -> Result<Map<String, Value>, ForgeError> {
    let mut parameters = Map::new();
    for (name, value) in given {
        let previous = parameters.insert(name.clone(), Value::from(value.as_str()));
        if previous.is_some() {
            return Err(ForgeError::RepeatedParameter(name.clone()));
        }
    }
    if parameters.len() > MAX_PARAMETERS {
        return Err(ForgeError::TooManyParameters(MAX_PARAMETERS));
    }
    Ok(parameters)
}

/// The current name of the repository, and the ref to run.
fn resolve(
    forge: &Forge,
    repo: &RepoName,
    ref_name: Option<RefName>,
) -> Result<(RepoName, RefName), ForgeError> {
    let repo = forge.git.resolve(repo);
    if !forge.git.exists(&repo)? {
        return Err(no_repository(forge, repo));
    }
    // Says so before git is asked if there is no database.
    forge.store()?;
    let ref_name = match ref_name {
        Some(name) => name,
        None => forge
            .git
            .head_branch(&repo)?
            .ok_or_else(|| ForgeError::NoDefaultBranch(repo.clone()))?,
    };
    Ok((repo, ref_name))
}

/// The commit at which a ref is now, or `None` if the ref does not exist.
pub(crate) async fn commit_at(
    git: &Git,
    folder: &Path,
    ref_name: &RefName,
) -> Result<Option<(ObjectId, Option<CommitInfo>)>, GitError> {
    let refs = git.push_info(folder, &[], &[ref_name]).await?.refs;
    let Some(sha) = refs.into_iter().next().flatten() else {
        return Ok(None);
    };
    let infos = git.commit_infos(folder, std::slice::from_ref(&sha)).await?;
    Ok(Some((sha, infos.into_iter().next())))
}

/// Returns the run once its pipeline was checked, or when `timeout` is over.
fn wait_for_pipeline_check(store: &Store, id: RunId, timeout: Duration) -> Result<Run, ForgeError> {
    let deadline = Instant::now() + timeout;
    loop {
        let run = get(store, id)?;
        let waits = run.state == RunState::Pending && run.message.is_some();
        if run.state.is_final()
            || waits
            || !store.jobs().list(id)?.is_empty()
            || Instant::now() >= deadline
        {
            return Ok(run);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Queues a new run of the same commit as a finished one.
pub fn retry(forge: &Forge, run: RunId, options: RetryOptions) -> Result<Run, ForgeError> {
    let store = forge.store()?;
    let operation = Operation::RunRetry {
        repo: get(&store, run)?.repo,
        retried: run,
        run: None,
    };
    let new = recorded(forge, operation, |operation| {
        let new = store
            .runs()
            .retry(run, options, supersede::superseded_runs)?;
        if let Operation::RunRetry { run, .. } = operation {
            *run = Some(new.id);
        }
        Ok(new)
    })?;
    forge.notifier.notify(&[run, new.id]);
    Ok(new)
}

/// What a cancellation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancellation {
    /// The run had not started; it has ended now.
    Cancelled(Run),
    /// The runner was asked to stop the run.
    StopRequested(Run),
    /// The run had ended. Its commit, which waited to land on a branch, does not land.
    Withdrawn(Run),
    /// The runner had been asked before.
    AlreadyStopping(Run),
}

/// Cancels a run that has not ended, or takes its commit back if that waits to land.
pub fn cancel(forge: &Forge, run: RunId) -> Result<Cancellation, ForgeError> {
    let store = forge.store()?;
    let row = get(&store, run)?;
    let landing = store.landings().of_ref(&row.repo, &row.ref_name)?;
    let waits_to_land = landing.is_some_and(|landing| !landing.state.is_final());
    if row.state.is_final() && !waits_to_land {
        return Err(ForgeError::AlreadyFinished {
            run,
            state: row.state,
        });
    }
    let repo = row.repo;
    recorded(forge, Operation::RunCancel { repo, run }, |_| {
        let changed = store.runs().request_cancel(run)?;
        forge.notifier.notify(&[run]);
        cancellation(changed, get(&store, run)?)
    })
}

fn cancellation(changed: bool, row: Run) -> Result<Cancellation, ForgeError> {
    match (changed, row.state.is_final()) {
        (true, true) if row.state == RunState::Canceled => Ok(Cancellation::Cancelled(row)),
        (true, true) => Ok(Cancellation::Withdrawn(row)),
        (true, false) => Ok(Cancellation::StopRequested(row)),
        (false, false) => Ok(Cancellation::AlreadyStopping(row)),
        (false, true) => Err(ForgeError::AlreadyFinished {
            run: row.id,
            state: row.state,
        }),
    }
}

/// Releases the container that is kept of a failed run. Returns the run.
pub fn release(forge: &Forge, run: RunId) -> Result<Run, ForgeError> {
    let store = forge.store()?;
    let row = get(&store, run)?;
    let repo = row.repo;
    if store.kept_containers().get(run)?.is_none() {
        return Err(ForgeError::NoKeptContainer(run));
    }
    recorded(forge, Operation::RunRelease { repo, run }, |_| match store
        .kept_containers()
        .release(run)?
    {
        true => Ok(()),
        false => Err(ForgeError::NoKeptContainer(run)),
    })?;
    forge.notifier.notify(&[run]);
    get(&store, run)
}

fn get(store: &Store, run: RunId) -> Result<Run, ForgeError> {
    store.runs().get(run)?.ok_or(ForgeError::NoRun(run))
}
