//! The JSON that commands (`--json`) and the web answer with: one view for each row that they show.
//!
//! The names of the fields are the keys of the documents, in the order of the documents. Scripts depend on
//! them: a column of the database can be renamed without a change here.

use serde::Serialize;
use serde_json::{Map, Value};

use super::keys::KeyEntry;
use super::mirrors::ListedMirror;
use super::secrets::SecretEntry;
use quire_store::{
    KeptContainer, LoggedOperation, MirrorRef, OperationState, RepoSchedule, SecretUse,
    TargetProgress,
};
use quire_types::clock::Millis;
use quire_types::names::{EventId, JobName, ObjectId, RefName, RepoName, RunId};
use quire_types::operation::{Channel, Operation, OperationId};
use quire_types::run::{
    ExecutorName, FailureKind, JobState, Run, RunArtifact, RunJob, RunState, RunStep, StopReason,
    Trigger,
};

/// A key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyJson<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    key_type: &'a str,
    fingerprint: &'a str,
    options: &'a str,
    read_only: bool,
    /// `None` if it reaches all of them.
    repos: Option<&'a [RepoName]>,
    expires_at_ms: Option<Millis>,
    last_used_at_ms: Option<Millis>,
    source: Option<&'a str>,
    removable: bool,
}

impl<'a> From<&'a KeyEntry> for KeyJson<'a> {
    fn from(entry: &'a KeyEntry) -> Self {
        let KeyEntry {
            key,
            is_stored,
            last_used_at,
        } = entry;
        let repos = key.limits.repos.as_slice();
        Self {
            name: &key.key.name,
            key_type: &key.key.key_type,
            fingerprint: &key.key.fingerprint,
            options: &key.options,
            read_only: key.limits.read_only,
            repos: (!repos.is_empty()).then_some(repos),
            expires_at_ms: key.valid_until,
            last_used_at_ms: *last_used_at,
            source: key.source.as_deref(),
            removable: *is_stored,
        }
    }
}

/// An operation of the log.
#[derive(Debug, Clone, Serialize)]
pub struct OperationJson<'a> {
    id: OperationId,
    begun_at_ms: Millis,
    /// `None` if it is not known.
    actor: Option<&'a str>,
    key_fingerprint: Option<&'a str>,
    channel: Channel,
    /// `begun`, `done` or `failed`.
    state: &'static str,
    /// Why it failed.
    message: Option<&'a str>,
    undoes: Option<OperationId>,
    undone_by: Option<OperationId>,
    #[serde(flatten)]
    operation: &'a Operation,
}

impl<'a> From<&'a LoggedOperation> for OperationJson<'a> {
    fn from(logged: &'a LoggedOperation) -> Self {
        let (state, message) = match &logged.state {
            OperationState::Begun => ("begun", None),
            OperationState::Done => ("done", None),
            OperationState::Failed(message) => ("failed", Some(message.as_str())),
        };
        Self {
            id: logged.id,
            begun_at_ms: logged.begun_at,
            actor: logged.actor.name.as_deref(),
            key_fingerprint: logged.actor.key_fingerprint.as_deref(),
            channel: logged.actor.channel,
            state,
            message,
            undoes: logged.undoes,
            undone_by: logged.undone_by,
            operation: &logged.operation,
        }
    }
}

/// A stored secret, without its value.
#[derive(Debug, Clone, Serialize)]
pub struct SecretJson<'a> {
    name: &'a str,
    /// `None` for all.
    repos: Option<&'a [String]>,
    refs: Option<&'a [String]>,
    version: u32,
    created_at_ms: Millis,
    updated_at_ms: Millis,
    updated_by: &'a str,
    used_at_ms: Option<Millis>,
    /// Why its value cannot be read.
    problem: Option<&'a str>,
}

impl<'a> From<&'a SecretEntry> for SecretJson<'a> {
    fn from(entry: &'a SecretEntry) -> Self {
        let secret = &entry.secret;
        Self {
            name: secret.name.as_str(),
            repos: secret.scope.repos.as_deref(),
            refs: secret.scope.refs.as_deref(),
            version: secret.version,
            created_at_ms: secret.created_at,
            updated_at_ms: secret.updated_at,
            updated_by: &secret.updated_by,
            used_at_ms: secret.used_at,
            problem: entry.problem.as_deref(),
        }
    }
}

/// A run that used a secret.
#[derive(Debug, Clone, Serialize)]
pub struct SecretUseJson<'a> {
    run_id: RunId,
    /// `None` if the run is deleted.
    repo: Option<&'a RepoName>,
    ref_name: Option<&'a RefName>,
    used_at_ms: Millis,
}

impl<'a> From<&'a SecretUse> for SecretUseJson<'a> {
    fn from(used: &'a SecretUse) -> Self {
        Self {
            run_id: used.run,
            repo: used.of.as_ref().map(|(repo, _)| repo),
            ref_name: used.of.as_ref().map(|(_, ref_name)| ref_name),
            used_at_ms: used.used_at,
        }
    }
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct RunJson<'a> {
    id: RunId,
    repo: &'a RepoName,
    number: u32,
    ref_name: &'a RefName,
    sha: &'a ObjectId,
    subject: Option<&'a str>,
    previous_sha: Option<&'a ObjectId>,
    event_id: Option<EventId>,
    trigger: Trigger,
    source: &'a str,
    pusher: Option<&'a str>,
    only_job: Option<&'a str>,
    retry_of: Option<RunId>,
    only_failed: bool,
    params: Option<&'a Map<String, Value>>,
    group_name: Option<&'a str>,
    supersede: bool,
    unexamined: bool,
    keep: bool,
    rebuild: bool,
    superseded_by: Option<RunId>,
    stop_requested: Option<StopReason>,
    state: RunState,
    failure_kind: Option<FailureKind>,
    message: Option<&'a str>,
    pushed_at_ms: Millis,
    queued_at_ms: Millis,
    started_at_ms: Option<Millis>,
    finished_at_ms: Option<Millis>,
    executor: Option<&'a ExecutorName>,
    container_id: Option<&'a str>,
    image_tag: Option<&'a str>,
    build_started_at_ms: Option<Millis>,
    build_finished_at_ms: Option<Millis>,
    container_started_at_ms: Option<Millis>,
    container_stopped_at_ms: Option<Millis>,
    workspace_path: Option<&'a str>,
    logs_removed_at_ms: Option<Millis>,
    artifacts_removed_at_ms: Option<Millis>,
}

impl<'a> From<&'a Run> for RunJson<'a> {
    fn from(row: &'a Run) -> Self {
        Self {
            id: row.id,
            repo: &row.repo,
            number: row.number,
            ref_name: &row.ref_name,
            sha: &row.sha,
            subject: row.subject.as_deref(),
            previous_sha: row.previous_sha.as_ref(),
            event_id: row.event_id,
            trigger: row.trigger,
            source: &row.source,
            pusher: row.pusher.as_deref(),
            only_job: row.only_job.as_deref(),
            retry_of: row.retry_of,
            only_failed: row.only_failed,
            params: row.params.as_ref(),
            group_name: row.group_name.as_deref(),
            supersede: row.supersede,
            unexamined: row.group_unknown,
            keep: row.keep,
            rebuild: row.rebuild,
            superseded_by: row.superseded_by,
            stop_requested: row.stop_requested,
            state: row.state,
            failure_kind: row.failure_kind,
            message: row.message.as_deref(),
            pushed_at_ms: row.pushed_at_ms,
            queued_at_ms: row.queued_at_ms,
            started_at_ms: row.started_at_ms,
            finished_at_ms: row.finished_at_ms,
            executor: row.executor.as_ref(),
            container_id: row.container_id.as_deref(),
            image_tag: row.image_tag.as_deref(),
            build_started_at_ms: row.build_started_at_ms,
            build_finished_at_ms: row.build_finished_at_ms,
            container_started_at_ms: row.container_started_at_ms,
            container_stopped_at_ms: row.container_stopped_at_ms,
            workspace_path: row.workspace_path.as_deref(),
            logs_removed_at_ms: row.logs_removed_at_ms,
            artifacts_removed_at_ms: row.artifacts_removed_at_ms,
        }
    }
}

/// A job of a run.
#[derive(Debug, Clone, Serialize)]
pub struct JobJson<'a> {
    run_id: RunId,
    job_id: &'a JobName,
    position: u32,
    inputs: &'a [String],
    state: JobState,
    exit_code: Option<i32>,
    message: Option<&'a str>,
    output: Option<&'a Value>,
    reused_from: Option<RunId>,
    started_at_ms: Option<Millis>,
    finished_at_ms: Option<Millis>,
}

impl<'a> From<&'a RunJob> for JobJson<'a> {
    fn from(row: &'a RunJob) -> Self {
        Self {
            run_id: row.run_id,
            job_id: &row.job_id,
            position: row.position,
            inputs: &row.inputs,
            state: row.state,
            exit_code: row.exit_code,
            message: row.message.as_deref(),
            output: row.output.as_ref(),
            reused_from: row.reused_from,
            started_at_ms: row.started_at_ms,
            finished_at_ms: row.finished_at_ms,
        }
    }
}

/// A step of a job.
#[derive(Debug, Clone, Serialize)]
pub struct StepJson<'a> {
    run_id: RunId,
    seq: u32,
    job_id: &'a JobName,
    command: &'a str,
    exit_code: Option<i32>,
    started_at_ms: Millis,
    finished_at_ms: Option<Millis>,
}

impl<'a> From<&'a RunStep> for StepJson<'a> {
    fn from(row: &'a RunStep) -> Self {
        Self {
            run_id: row.run_id,
            seq: row.seq,
            job_id: &row.job_id,
            command: &row.command,
            exit_code: row.exit_code,
            started_at_ms: row.started_at_ms,
            finished_at_ms: row.finished_at_ms,
        }
    }
}

/// An artifact of a run.
#[derive(Debug, Clone, Serialize)]
pub struct ArtifactJson<'a> {
    run_id: RunId,
    name: &'a str,
    job_id: &'a JobName,
    is_folder: bool,
    files: u64,
    bytes: u64,
    created_at_ms: Millis,
}

impl<'a> From<&'a RunArtifact> for ArtifactJson<'a> {
    fn from(row: &'a RunArtifact) -> Self {
        Self {
            run_id: row.run_id,
            name: &row.name,
            job_id: &row.job_id,
            is_folder: row.is_folder,
            files: row.files,
            bytes: row.bytes,
            created_at_ms: row.created_at_ms,
        }
    }
}

/// A schedule of a repository.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleJson<'a> {
    repo: &'a RepoName,
    name: &'a str,
    schedule: &'a str,
    next_at_ms: Millis,
    ref_name: &'a RefName,
    problem: Option<&'a str>,
}

impl<'a> From<&'a RepoSchedule> for ScheduleJson<'a> {
    fn from(row: &'a RepoSchedule) -> Self {
        Self {
            repo: &row.repo,
            name: &row.name,
            schedule: &row.schedule,
            next_at_ms: row.next_at_ms,
            ref_name: &row.ref_name,
            problem: row.problem.as_deref(),
        }
    }
}

/// A container that is kept after its run failed.
#[derive(Debug, Clone, Serialize)]
pub struct KeptContainerJson<'a> {
    run_id: RunId,
    container_id: &'a str,
    until_ms: Millis,
}

impl<'a> From<&'a KeptContainer> for KeptContainerJson<'a> {
    fn from(row: &'a KeptContainer) -> Self {
        Self {
            run_id: row.run_id,
            container_id: &row.container_id,
            until_ms: row.until_ms,
        }
    }
}

/// A target of notifications.
#[derive(Debug, Clone, Serialize)]
pub struct NotificationTargetJson<'a> {
    name: &'a str,
    waiting: u64,
    failures: u32,
    problem: Option<&'a str>,
    next_attempt_ms: Option<Millis>,
    given_up: u64,
    delivered_ms: Option<Millis>,
}

impl<'a> From<&'a TargetProgress> for NotificationTargetJson<'a> {
    fn from(row: &'a TargetProgress) -> Self {
        Self {
            name: &row.name,
            waiting: row.waiting,
            failures: row.failures,
            problem: row.problem.as_deref(),
            next_attempt_ms: row.next_attempt_ms,
            given_up: row.given_up,
            delivered_ms: row.delivered_ms,
        }
    }
}

/// A mirror of a repository.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorJson<'a> {
    repo: &'a RepoName,
    name: &'a str,
    direction: &'static str,
    url: &'a str,
    state: &'static str,
    host_key: Option<&'a str>,
    in_sync_ms: Option<Millis>,
    refs_in_sync: u64,
    refs_waiting: u64,
    refs_rejected: u64,
    waiting_since_ms: Option<Millis>,
    failures: u32,
    failure: Option<&'static str>,
    problem: Option<&'a str>,
    failing_since_ms: Option<Millis>,
    next_attempt_ms: Option<Millis>,
    lfs_problem: Option<&'a str>,
    differing: Vec<MirrorRefJson<'a>>,
}

/// A ref of a mirror that is not in sync.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorRefJson<'a> {
    ref_name: &'a RefName,
    wanted: Option<&'a ObjectId>,
    remote: Option<&'a ObjectId>,
    waiting_since_ms: Option<Millis>,
    failed_since_ms: Option<Millis>,
    problem: Option<&'a str>,
}

impl<'a> From<&'a ListedMirror> for MirrorJson<'a> {
    fn from(row: &'a ListedMirror) -> Self {
        let state = &row.state;
        let failure = state.failure.as_ref();
        Self {
            repo: &state.repo,
            name: &state.name,
            direction: if state.is_pull { "pull" } else { "push" },
            url: &state.url,
            state: state.word().as_str(),
            host_key: row.host_key.as_deref(),
            in_sync_ms: state.in_sync_ms,
            refs_in_sync: state.equal,
            refs_waiting: state.waiting,
            refs_rejected: state.rejected,
            waiting_since_ms: state.waiting_since_ms,
            failures: failure.map_or(0, |failure| failure.attempts),
            failure: failure.map(|failure| failure.kind.as_str()),
            problem: failure.map(|failure| failure.problem.as_str()),
            failing_since_ms: failure.map(|failure| failure.since_ms),
            next_attempt_ms: failure.and_then(|failure| failure.next_attempt_ms),
            lfs_problem: state.lfs_problem.as_deref(),
            differing: views(&row.differing),
        }
    }
}

impl<'a> From<&'a MirrorRef> for MirrorRefJson<'a> {
    fn from(row: &'a MirrorRef) -> Self {
        Self {
            ref_name: &row.ref_name,
            wanted: row.wanted.as_ref(),
            remote: row.remote.as_ref(),
            waiting_since_ms: row.waiting_since_ms,
            failed_since_ms: row.failed_since_ms,
            problem: row.problem.as_deref(),
        }
    }
}

/// The views of rows, in their order.
pub fn views<'a, Row, View: From<&'a Row>>(rows: &'a [Row]) -> Vec<View> {
    rows.iter().map(View::from).collect()
}

#[cfg(test)]
mod tests;
