//! One run: its page, and the requests to cancel, release and retry it.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::access::find_run;
use super::artifacts::ArtifactLinks;
use super::error::WebError;
use super::html::{self as pieces, run_path, title_sign};
use super::layout::{Layout, html};
use super::log::{self, PageLogs, RUN_PREFIX, RUN_SEQ, RenderedLog};
use super::request_config::RequestConfig;
use super::response_format::ResponseFormat;
use super::run_data::{RunData, StepQuery, find, read_run, without_private_fields};
use super::run_views::{JobLine, RunHeader, StepLine};
use super::state::{App, SharedApp};
use super::viewer::Viewer;
use quire_server::forge::run_details::RunDetails;
use quire_server::forge::runs::{self, Cancellation};
use quire_server::forge::views::RunJson;
use quire_server::forge::{Forge, ForgeError, Notifier};
use quire_store::RetryOptions;
use quire_types::names::RunId;
use quire_types::run::{Run, RunSelector};

/// A step on the page, with its log.
struct StepView<'a> {
    line: StepLine<'a>,
    log: RenderedLog,
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
    layout: Layout,
    head: RunHeader<'a>,
    own: RenderedLog,
    own_open: bool,
    capped: bool,
    jobs: Vec<JobView<'a>>,
    artifacts: ArtifactLinks,
    cursor: String,
}

/// `GET /runs/<id>`; other names of the run redirect there.
pub(super) async fn page(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    RequestConfig(config): RequestConfig,
    format: ResponseFormat,
    Path(id): Path<String>,
) -> Result<Response, WebError> {
    let Ok(run) = id.parse::<RunId>() else {
        return redirect_selector(&app, &viewer, &id).await;
    };
    if viewer.is_stranger {
        find_run(&app, &viewer, &id).await?;
    }
    if format == ResponseFormat::Json {
        let read = move |s: &quire_store::Store| RunDetails::read(s, run);
        let mut details = app.web.store.call(read).await?.ok_or(WebError::NotFound)?;
        if viewer.is_stranger {
            details.run = without_private_fields(details.run);
            details.kept = None;
            for job in &mut details.jobs {
                job.output = None;
            }
        }
        return Ok(Json(details.document()).into_response());
    }
    let mut rows = read_run(&app, run, StepQuery::default())
        .await?
        .ok_or(WebError::NotFound)?;
    if viewer.is_stranger {
        rows = rows.without_private_fields();
    }
    let folder = app.web.paths.run_dir(&rows.run.repo, run);
    let steps = rows.steps.clone();
    let logs = tokio::task::spawn_blocking(move || log::read_page(folder, &steps)).await?;
    let logs = logs.map_err(|source| WebError::Io {
        attempt: format!("read the log of run {run}"),
        source,
    })?;
    let title = format!(
        "{} {} {}",
        title_sign(rows.run.state),
        rows.run.name(),
        rows.run.ref_name.short()
    );
    let now = app.web.clock.now();
    html(&view(
        &rows,
        logs,
        Layout::new(&app, Some(&viewer), title),
        RunHeader::new(&rows, &config, now, !viewer.is_stranger),
    ))
}

fn view<'a>(
    rows: &'a RunData,
    mut logs: PageLogs,
    layout: Layout,
    head: RunHeader<'a>,
) -> RunPage<'a> {
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
        line: JobLine {
            job,
            now,
            names: &rows.names,
        },
        steps: by_job.remove(job.job_id.as_str()).unwrap_or_default(),
    });
    RunPage {
        layout,
        head,
        own,
        // Nothing but the run's own lines tells what became of a run without steps.
        own_open: rows.steps.is_empty(),
        capped: logs.capped,
        jobs: jobs.collect(),
        artifacts: ArtifactLinks {
            run: rows.run.id,
            rows: rows.artifacts.clone(),
        },
        cursor: logs.cursor,
    }
}

/// Redirects to the run that a selector names, such as `latest` or a part of an id.
async fn redirect_selector(app: &App, viewer: &Viewer, text: &str) -> Result<Response, WebError> {
    let id = selected(app, text).await;
    if viewer.is_stranger {
        // What a selector may mean tells of runs that are not shown.
        let id = id.as_ref().map_err(|_| WebError::SignIn)?;
        find_run(app, viewer, &id.to_string()).await?;
    }
    let id = id?;
    Ok(Redirect::temporary(&run_path(&id)).into_response())
}

async fn selected(app: &App, text: &str) -> Result<RunId, WebError> {
    let selector: RunSelector = text.parse().map_err(|_| WebError::NotFound)?;
    let find = move |s: &quire_store::Store| s.runs().resolve(&selector);
    Ok(app.web.store.call(find).await?)
}

/// `POST /runs/<id>/cancel`.
pub(super) async fn cancel(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
    format: ResponseFormat,
) -> Result<Response, WebError> {
    let id = find(&app, &id).await?.id;
    let run = match operation(&app, &viewer, move |forge| runs::cancel(forge, id)).await? {
        Cancellation::Cancelled(run)
        | Cancellation::StopRequested(run)
        | Cancellation::Withdrawn(run) => run,
        Cancellation::AlreadyStopping(_) => {
            return Err(WebError::Conflict("This run is already being stopped."));
        }
    };
    Ok(run_response(&run, format))
}

/// `POST /runs/<id>/release`: its container is no longer kept.
pub(super) async fn release(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
    format: ResponseFormat,
) -> Result<Response, WebError> {
    let id = find(&app, &id).await?.id;
    let run = operation(&app, &viewer, move |forge| runs::release(forge, id)).await?;
    Ok(run_response(&run, format))
}

/// `POST /runs/<id>/retry`: a new run of the same commit.
pub(super) async fn retry(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
    format: ResponseFormat,
) -> Result<Response, WebError> {
    retry_with(&app, &viewer, &id, format, RetryOptions::default()).await
}

/// `POST /runs/<id>/retry-failed`: a new run of the jobs that failed and those that depend on them.
pub(super) async fn retry_failed(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
    format: ResponseFormat,
) -> Result<Response, WebError> {
    let options = RetryOptions {
        only_failed: true,
        keep: false,
    };
    retry_with(&app, &viewer, &id, format, options).await
}

async fn retry_with(
    app: &App,
    viewer: &Viewer,
    id: &str,
    format: ResponseFormat,
    options: RetryOptions,
) -> Result<Response, WebError> {
    let id = find(app, id).await?.id;
    let run = operation(app, viewer, move |forge| runs::retry(forge, id, options)).await?;
    Ok(run_response(&run, format))
}

/// Runs an operation of the forge on a thread of the database.
async fn operation<T: Send + 'static>(
    app: &App,
    viewer: &Viewer,
    operation: impl FnOnce(&Forge) -> Result<T, ForgeError> + Send + 'static,
) -> Result<T, WebError> {
    let notifier = Notifier::Server {
        queue: app.web.queue.clone(),
        changes: app.web.live.clone(),
    };
    let forge = Forge::in_server(app.web.paths.clone(), app.web.store.clone(), notifier)
        .acting_as(viewer.actor());
    let result = app.web.store.call(move |_| Ok(operation(&forge))).await?;
    Ok(result?)
}

fn run_response(run: &Run, format: ResponseFormat) -> Response {
    match format {
        ResponseFormat::Json => Json(json!({ "run": RunJson::from(run) })).into_response(),
        ResponseFormat::Html => Redirect::to(&run_path(&run.id)).into_response(),
    }
}
