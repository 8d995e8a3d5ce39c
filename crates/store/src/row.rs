//! Converts rows to the types of [`quire_types::run`]. A value that does not parse is an error: the row is damaged.

use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::Type;

use quire_types::clock::Millis;
use quire_types::run::{Run, RunArtifact, RunJob, RunStep};

/// The columns that [`run`] reads.
pub(super) const RUN_COLUMNS: &str = "id, repo, number, ref_name, sha, subject, previous_sha, event_id, \"trigger\", source, pusher, only_job, \
     retry_of, only_failed, params, group_name, supersede, unexamined, keep, rebuild, superseded_by, stop_requested, state, failure_kind, message, pushed_at_ms, queued_at_ms, started_at_ms, \
     finished_at_ms, executor, container_id, image_tag, build_started_at_ms, build_finished_at_ms, container_started_at_ms, \
     container_stopped_at_ms, workspace_path, logs_removed_at_ms, artifacts_removed_at_ms";

fn unparsed(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}

/// Parses the text in a column.
pub(super) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(unparsed)
}

/// The same by the index of the column.
pub(super) fn parsed_at<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(unparsed)
}

/// The same for a column that may be NULL.
pub(super) fn optional_at<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(unparsed)
}

fn optional<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
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

/// Reads a row with [`RUN_COLUMNS`].
pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: parsed(row, "id")?,
        repo: parsed(row, "repo")?,
        number: row.get("number")?,
        ref_name: parsed(row, "ref_name")?,
        sha: parsed(row, "sha")?,
        subject: row.get("subject")?,
        previous_sha: optional(row, "previous_sha")?,
        event_id: optional(row, "event_id")?,
        trigger: parsed(row, "trigger")?,
        source: row.get("source")?,
        pusher: row.get("pusher")?,
        only_job: row.get("only_job")?,
        retry_of: optional(row, "retry_of")?,
        only_failed: row.get("only_failed")?,
        params: json(row, "params")?,
        group_name: row.get("group_name")?,
        supersede: row.get("supersede")?,
        group_unknown: row.get("unexamined")?,
        keep: row.get("keep")?,
        rebuild: row.get("rebuild")?,
        superseded_by: optional(row, "superseded_by")?,
        stop_requested: optional(row, "stop_requested")?,
        state: parsed(row, "state")?,
        failure_kind: optional(row, "failure_kind")?,
        message: row.get("message")?,
        pushed_at_ms: Millis(row.get("pushed_at_ms")?),
        queued_at_ms: Millis(row.get("queued_at_ms")?),
        started_at_ms: time(row, "started_at_ms")?,
        finished_at_ms: time(row, "finished_at_ms")?,
        executor: optional(row, "executor")?,
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

/// Reads a row of `jobs` with all columns.
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<RunJob> {
    Ok(RunJob {
        run_id: parsed(row, "run_id")?,
        job_id: parsed(row, "job_id")?,
        position: row.get("position")?,
        inputs: json(row, "inputs")?.unwrap_or_default(),
        state: parsed(row, "state")?,
        exit_code: row.get("exit_code")?,
        message: row.get("message")?,
        output: json(row, "output")?,
        reused_from: optional(row, "reused_from")?,
        started_at_ms: time(row, "started_at_ms")?,
        finished_at_ms: time(row, "finished_at_ms")?,
    })
}

/// Reads a row of `steps` with all columns.
pub(super) fn step(row: &Row<'_>) -> rusqlite::Result<RunStep> {
    Ok(RunStep {
        run_id: parsed(row, "run_id")?,
        seq: row.get("seq")?,
        job_id: parsed(row, "job_id")?,
        command: row.get("command")?,
        exit_code: row.get("exit_code")?,
        started_at_ms: Millis(row.get("started_at_ms")?),
        finished_at_ms: time(row, "finished_at_ms")?,
    })
}

/// Reads a row of `artifacts` with all columns.
pub(super) fn artifact(row: &Row<'_>) -> rusqlite::Result<RunArtifact> {
    Ok(RunArtifact {
        run_id: parsed(row, "run_id")?,
        name: row.get("name")?,
        job_id: parsed(row, "job_id")?,
        is_folder: row.get("is_folder")?,
        files: unsigned(row.get("files")?),
        bytes: unsigned(row.get("bytes")?),
        created_at_ms: Millis(row.get("created_at_ms")?),
    })
}

/// The number in a column by its index. No column holds a negative one.
pub(super) fn unsigned_at(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(unsigned)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
