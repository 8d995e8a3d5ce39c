//! One run: its page, cancel and retry, and the fragments that page and live stream share.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::artifacts::List;
use super::changes::Wanted;
use super::error::WebError;
use super::html::{self as pieces, duration, run_path, title_sign};
use super::log::{self, PageLog, RUN_PREFIX, RUN_SEQ, StepLog};
use super::page::{Form, Frame, html};
use super::session::Viewer;
use super::{App, Shared, WebConfig};
use crate::clock::Millis;
use crate::names::RunId;
use crate::run::{ArtifactRow, FailureKind, JobRow, Run, RunState, StepRow, StopReason, Trigger};
use crate::store::{Kept, Repeat};

/// A run with all that its page shows, as the database has it.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) run: Run,
    /// Without what they returned.
    pub(super) jobs: Vec<JobRow>,
    /// All of them, or those that were asked for.
    pub(super) steps: Vec<StepRow>,
    /// The run that repeats this one.
    pub(super) successor: Option<RunId>,
    /// What it kept, as far as that is still there.
    pub(super) artifacts: Vec<ArtifactRow>,
    /// Its container, where it is kept for a person.
    pub(super) kept: Option<Kept>,
}

/// Reads a run with its jobs and the wanted steps; none when it is gone. The run comes first: what
/// belongs to it is final too where it is.
pub(super) async fn rows(app: &App, id: RunId, wanted: Wanted) -> Result<Option<Rows>, WebError> {
    let read = move |s: &crate::store::Store| {
        let Some(run) = s.run(id)? else {
            return Ok(None);
        };
        let steps = s.steps_since(id, wanted.after, &wanted.also)?;
        let artifacts = if run.artifacts_removed_at_ms.is_none() {
            s.artifacts(id)?
        } else {
            Vec::new()
        };
        let (jobs, kept) = (s.jobs_without_outputs(id)?, s.kept_container(id)?);
        Ok(Some(Rows {
            run,
            jobs,
            steps,
            successor: s.successor_of(id)?,
            artifacts,
            kept,
        }))
    };
    Ok(app.web.store.call(read).await?)
}

/// Finds a run by its id.
pub(super) async fn find(app: &App, id: &str) -> Result<Run, WebError> {
    let id: RunId = id.parse().map_err(|_| WebError::NotFound)?;
    app.web
        .store
        .call(move |s| s.run(id))
        .await?
        .ok_or(WebError::NotFound)
}

/// The upper part of the page: what the run is and how it stands.
#[derive(Template)]
#[template(path = "run_head.html")]
pub(super) struct Head<'a> {
    run: &'a Run,
    successor: Option<RunId>,
    kept: Option<&'a Kept>,
    /// The command that opens a shell in its container.
    attach: String,
    now: Millis,
}

impl<'a> Head<'a> {
    pub(super) fn new(rows: &'a Rows, config: &WebConfig, now: Millis) -> Self {
        let attach = config.ssh_command(&format!("run attach {}", rows.run.id));
        Self {
            run: &rows.run,
            successor: rows.successor,
            kept: rows.kept.as_ref(),
            attach,
            now,
        }
    }

    /// The run that goes on where this one was cut off.
    fn second_try(&self) -> Option<RunId> {
        self.successor
            .filter(|_| self.run.failure_kind == Some(FailureKind::Orphaned))
    }

    /// The run of a newer push that takes this one's place.
    fn replaced_by(&self) -> Option<RunId> {
        let replaced = self.run.state == RunState::Superseded
            || self.run.stop_requested == Some(StopReason::Superseded);
        self.run.superseded_by.filter(|_| replaced)
    }

    /// How long it waited in the queue, where that is worth a word.
    fn waited(&self) -> Option<String> {
        let waited = self.run.started_at_ms?.since(self.run.queued_at_ms);
        (waited >= 1000).then(|| duration(waited))
    }
}

/// A job's line.
#[derive(Template)]
#[template(path = "run_job.html")]
pub(super) struct JobLine<'a> {
    pub(super) job: &'a JobRow,
    pub(super) now: Millis,
}

impl JobLine<'_> {
    /// The jobs that it waits for; sources are not worth a word.
    fn after(&self) -> String {
        self.job
            .inputs
            .iter()
            .filter(|i| !i.contains('/'))
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A step's line.
#[derive(Template)]
#[template(path = "run_step.html")]
pub(super) struct StepLine<'a> {
    pub(super) step: &'a StepRow,
    pub(super) now: Millis,
    /// The run has ended: a step without an end was cut.
    pub(super) over: bool,
}

impl StepLine<'_> {
    pub(super) fn word(&self) -> &'static str {
        match (self.step.finished_at_ms, self.step.exit_code) {
            (_, Some(0)) => "complete",
            (_, Some(_)) => "failed",
            (None, None) if !self.over => "active",
            _ => "aborted",
        }
    }

    /// Whether the page shows its log from the start.
    pub(super) fn is_open(&self) -> bool {
        self.word() != "complete"
    }

    /// The first line of the command; the rest stands in the tooltip and above the log.
    fn first_line(&self) -> &str {
        self.step.command.trim().lines().next().unwrap_or_default()
    }

    fn took(&self) -> String {
        pieces::took(
            &Some(self.step.started_at_ms),
            &self.step.finished_at_ms,
            &self.now,
        )
    }

    pub(super) fn is_long(&self) -> bool {
        self.step.command.trim().lines().nth(1).is_some()
    }
}

/// A step on the page, with its log.
struct StepView<'a> {
    line: StepLine<'a>,
    log: StepLog,
    prefix: String,
}

/// A job on the page, with its steps.
struct JobView<'a> {
    line: JobLine<'a>,
    steps: Vec<StepView<'a>>,
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage<'a> {
    frame: Frame,
    head: Head<'a>,
    own: StepLog,
    own_open: bool,
    capped: bool,
    jobs: Vec<JobView<'a>>,
    artifacts: List,
    cursor: String,
}

/// `GET /runs/<id>`; a unique beginning of the id leads there.
pub(super) async fn page(
    State(app): Shared,
    Extension(viewer): Extension<Viewer>,
    form: Form,
    Path(id): Path<String>,
) -> Result<Response, WebError> {
    let Ok(run) = id.parse::<RunId>() else {
        return shortened(&app, &id).await;
    };
    let rows = rows(&app, run, Wanted::default())
        .await?
        .ok_or(WebError::NotFound)?;
    if form == Form::Json {
        let jobs = app.web.store.call(move |s| s.jobs(run)).await?;
        let (run, steps) = (&rows.run, &rows.steps);
        return Ok(Json(json!({ "run": run, "jobs": jobs, "steps": steps, "successor": rows.successor, "artifacts": rows.artifacts, "kept": rows.kept }))
            .into_response());
    }
    let folder = app.web.paths.run(&rows.run.repo, run);
    let steps = rows.steps.clone();
    let logs = tokio::task::spawn_blocking(move || log::read_page(folder, &steps)).await?;
    let logs = logs.map_err(|source| WebError::Io {
        attempt: format!("read the log of run {run}"),
        source,
    })?;
    let title = format!(
        "{} {} {}",
        title_sign(rows.run.state),
        rows.run.repo,
        rows.run.ref_name.short()
    );
    let now = app.web.clock.now();
    html(&view(
        &rows,
        logs,
        Frame::new(&app, Some(&viewer), title),
        Head::new(&rows, &app.web.config, now),
    ))
}

fn view<'a>(rows: &'a Rows, mut logs: PageLog, frame: Frame, head: Head<'a>) -> RunPage<'a> {
    let now = head.now;
    let over = rows.run.state.is_final();
    let own = logs.take(RUN_SEQ);
    let mut by_job: BTreeMap<&str, Vec<StepView<'_>>> = BTreeMap::new();
    for step in &rows.steps {
        let view = StepView {
            line: StepLine { step, now, over },
            log: logs.take(step.seq),
            prefix: log::prefix(step),
        };
        by_job.entry(step.job_id.as_str()).or_default().push(view);
    }
    let jobs = rows.jobs.iter().map(|job| JobView {
        line: JobLine { job, now },
        steps: by_job.remove(job.job_id.as_str()).unwrap_or_default(),
    });
    RunPage {
        frame,
        head,
        own,
        // Nothing but the run's own lines tells what became of a run without steps.
        own_open: rows.steps.is_empty(),
        capped: logs.capped,
        jobs: jobs.collect(),
        artifacts: List {
            run: rows.run.id,
            rows: rows.artifacts.clone(),
        },
        cursor: logs.cursor,
    }
}

async fn shortened(app: &App, prefix: &str) -> Result<Response, WebError> {
    if prefix.len() < 4 || !prefix.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(WebError::NotFound);
    }
    let prefix = prefix.to_ascii_lowercase();
    let id = app.web.store.call(move |s| s.resolve_run(&prefix)).await?;
    Ok(Redirect::temporary(&run_path(&id)).into_response())
}

/// `POST /runs/<id>/cancel`.
pub(super) async fn cancel(
    State(app): Shared,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, WebError> {
    let id = find(&app, &id).await?.id;
    let asked = app.web.store.call(move |s| s.request_cancel(id)).await?;
    if !asked {
        return Err(WebError::Conflict(
            "This run has ended already, so there is nothing to cancel.",
        ));
    }
    app.web.live.state_changed(id);
    app.web.queue.wake();
    Ok(match form {
        Form::Json => Json(json!({ "run": find(&app, &id.to_string()).await? })).into_response(),
        Form::Html => Redirect::to(&run_path(&id)).into_response(),
    })
}

/// `POST /runs/<id>/release`: its container need not be kept any longer.
pub(super) async fn release(
    State(app): Shared,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, WebError> {
    let id = find(&app, &id).await?.id;
    if !app.web.store.call(move |s| s.release_container(id)).await? {
        return Err(WebError::Conflict(
            "No container is kept of this run any more.",
        ));
    }
    app.web.live.state_changed(id);
    Ok(match form {
        Form::Json => Json(json!({ "run": find(&app, &id.to_string()).await? })).into_response(),
        Form::Html => Redirect::to(&run_path(&id)).into_response(),
    })
}

/// `POST /runs/<id>/retry`: a new run of the same commit.
pub(super) async fn retry(
    State(app): Shared,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, WebError> {
    repeat(&app, &id, form, Repeat::default()).await
}

/// `POST /runs/<id>/retry-failed`: the same for what failed of it, and what depends on that.
pub(super) async fn retry_failed(
    State(app): Shared,
    Path(id): Path<String>,
    form: Form,
) -> Result<Response, WebError> {
    repeat(
        &app,
        &id,
        form,
        Repeat {
            only_failed: true,
            keep: false,
        },
    )
    .await
}

async fn repeat(app: &App, id: &str, form: Form, how: Repeat) -> Result<Response, WebError> {
    let id = find(app, id).await?.id;
    let run = app.web.store.call(move |s| s.retry(id, how)).await?;
    app.web.live.state_changed(id);
    app.web.live.state_changed(run.id);
    app.web.queue.wake();
    Ok(match form {
        Form::Json => Json(json!({ "run": run })).into_response(),
        Form::Html => Redirect::to(&run_path(&run.id)).into_response(),
    })
}
