//! From rows to the types of [`crate::run`]. What does not parse is a damaged row, and an error.

use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row};

use crate::clock::Millis;
use crate::run::{ArtifactRow, JobRow, Run, StepRow};

/// The columns of [`run`], in any order.
pub(super) const RUN_COLUMNS: &str = "id, repo, ref_name, sha, previous_sha, event_id, \"trigger\", source, pusher, only_job, \
     retry_of, only_failed, params, group_name, supersede, unexamined, keep, superseded_by, stop_requested, state, failure_kind, message, pushed_at_ms, queued_at_ms, started_at_ms, \
     finished_at_ms, executor, container_id, image_tag, build_started_at_ms, build_finished_at_ms, container_started_at_ms, \
     container_stopped_at_ms, workspace_path, logs_removed_at_ms, artifacts_removed_at_ms";

/// A text in a row that is not of its type: the row is damaged.
fn unparsed(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}

fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(unparsed)
}

/// A column by its place.
pub(super) fn parsed_at<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(unparsed)
}

fn maybe<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(unparsed)
}

fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(unparsed)
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Millis>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Millis))
}

/// A row with [`RUN_COLUMNS`].
pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: parsed(row, "id")?,
        repo: parsed(row, "repo")?,
        ref_name: parsed(row, "ref_name")?,
        sha: parsed(row, "sha")?,
        previous_sha: maybe(row, "previous_sha")?,
        event_id: maybe(row, "event_id")?,
        trigger: parsed(row, "trigger")?,
        source: row.get("source")?,
        pusher: row.get("pusher")?,
        only_job: row.get("only_job")?,
        retry_of: maybe(row, "retry_of")?,
        only_failed: row.get("only_failed")?,
        params: json(row, "params")?,
        group_name: row.get("group_name")?,
        supersede: row.get("supersede")?,
        unexamined: row.get("unexamined")?,
        keep: row.get("keep")?,
        superseded_by: maybe(row, "superseded_by")?,
        stop_requested: maybe(row, "stop_requested")?,
        state: parsed(row, "state")?,
        failure_kind: maybe(row, "failure_kind")?,
        message: row.get("message")?,
        pushed_at_ms: Millis(row.get("pushed_at_ms")?),
        queued_at_ms: Millis(row.get("queued_at_ms")?),
        started_at_ms: time(row, "started_at_ms")?,
        finished_at_ms: time(row, "finished_at_ms")?,
        executor: maybe(row, "executor")?,
        container_id: row.get("container_id")?,
        image_tag: row.get("image_tag")?,
        build_started_at_ms: time(row, "build_started_at_ms")?,
        build_finished_at_ms: time(row, "build_finished_at_ms")?,
        container_started_at_ms: time(row, "container_started_at_ms")?,
        container_stopped_at_ms: time(row, "container_stopped_at_ms")?,
        workspace_path: row.get("workspace_path")?,
        logs_removed_at_ms: time(row, "logs_removed_at_ms")?,
        artifacts_removed_at_ms: time(row, "artifacts_removed_at_ms")?,
    })
}

/// A row of `jobs`, all columns.
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        run_id: parsed(row, "run_id")?,
        job_id: parsed(row, "job_id")?,
        position: row.get("position")?,
        inputs: json(row, "inputs")?.unwrap_or_default(),
        state: parsed(row, "state")?,
        exit_code: row.get("exit_code")?,
        message: row.get("message")?,
        output: json(row, "output")?,
        reused_from: maybe(row, "reused_from")?,
        started_at_ms: time(row, "started_at_ms")?,
        finished_at_ms: time(row, "finished_at_ms")?,
    })
}

/// A row of `steps`, all columns.
pub(super) fn step(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    Ok(StepRow {
        run_id: parsed(row, "run_id")?,
        seq: row.get("seq")?,
        job_id: parsed(row, "job_id")?,
        command: row.get("command")?,
        exit_code: row.get("exit_code")?,
        started_at_ms: Millis(row.get("started_at_ms")?),
        finished_at_ms: time(row, "finished_at_ms")?,
    })
}

/// A row of `artifacts`, all columns.
pub(super) fn artifact(row: &Row<'_>) -> rusqlite::Result<ArtifactRow> {
    let unsigned = |column: &str| {
        Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
    };
    Ok(ArtifactRow {
        run_id: parsed(row, "run_id")?,
        name: row.get("name")?,
        job_id: parsed(row, "job_id")?,
        is_folder: row.get("is_folder")?,
        files: unsigned("files")?,
        bytes: unsigned("bytes")?,
        created_at_ms: Millis(row.get("created_at_ms")?),
    })
}

/// The first column of a single row that is an id or name, where there is one.
pub(super) fn first<T>(result: rusqlite::Result<String>) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = result.optional()?;
    text.map(|text| text.parse()).transpose().map_err(unparsed)
}
