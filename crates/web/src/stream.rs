//! Live streams by server-sent events.
//!
//! A follower is level-triggered: it arms its wake-up, reads rows and files, sends what is new,
//! and waits. Nothing is buffered for it, so a slow client costs nothing and delays no other: the next
//! batch is read when the last one has been sent. Its position in the log is the event's id, so
//! a browser that reconnects continues where it was, also across a restart of the appliance.
//! While a log flows, the rows are read now and then only, and of the steps only what may have
//! changed. All followers take turns at reading and rendering, and rest three times as long as that
//! took: together they get a quarter of one CPU, so that many pages at a log that floods take nothing from the
//! run that writes it. They miss nothing, it only arrives later. A stream whose key was removed ends at its next read.
//!
//! ```text
//! state   what changed of run, jobs, steps (fragments)      log   lines, with the place after them as id
//! end     the run is final and everything has been sent     changed   (lists) load the list again
//! ```

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::access::{admit_to_runs, find_run};
use super::ansi::{Style, render};
use super::error::WebError;
use super::log::{RUN_SEQ, key};
use super::places::Place;
use super::request_config::RequestConfig;
use super::run_data::{RunData, read_run};
use super::run_updates::RunUpdates;
use super::server::Shutdown;
use super::state::{App, SharedApp};
use super::viewer::Viewer;
use quire_run_files::logs::{Batch, Cursor, LogFollower, StepKey, Stream, is_cap_notice};
use quire_types::names::{RepoName, RunId};
use quire_types::run::RunStep;

/// Without an event for this long, a comment is sent and the data is read, in case a wake-up was missed.
const TICK: Duration = Duration::from_secs(15);
/// The least time between two reads for one run: many small writes become one event.
const RUN_MIN_INTERVAL: Duration = Duration::from_millis(40);
/// The least time between two reads of a run's rows.
const ROWS_MIN_INTERVAL: Duration = Duration::from_millis(250);
/// The least time between two events to a list.
const LIST_MIN_INTERVAL: Duration = Duration::from_millis(300);
/// A stream ends after this time; the browser reconnects, and its session is checked again.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// After each read, all followers wait this many times as long as it took.
const IDLE_FACTOR: u32 = 3;
/// A read shorter than this needs no wait.
const MIN_WORK: Duration = Duration::from_micros(300);
/// How much log goes into one event.
const BATCH_BYTES: usize = 128 << 10;

/// Waits for a wake-up, a tick or the shutdown.
struct UpdateTimer {
    wake: watch::Receiver<u64>,
    shutdown: Shutdown,
    until: Instant,
    min_interval: Duration,
    last_read: Option<Instant>,
    /// The last wait ended by a wake-up, not by a tick; true at the beginning.
    woken: bool,
    /// Held as long as the stream lives.
    _place: Place,
}

impl UpdateTimer {
    fn new(
        (app, viewer): (&App, &Viewer),
        wake: watch::Receiver<u64>,
        shutdown: Option<Extension<Shutdown>>,
        min_interval: Duration,
    ) -> Result<Self, WebError> {
        let place = app.followers.try_take(viewer.is_stranger);
        let place = place.ok_or(WebError::TooManyFollowers)?;
        let shutdown = shutdown.map(|Extension(s)| s).unwrap_or_default();
        Ok(Self {
            wake,
            shutdown,
            until: Instant::now() + LIFETIME,
            min_interval,
            last_read: None,
            woken: true,
            _place: place,
        })
    }

    /// Until there may be news, but no longer than to `at_the_latest`; at once where that has passed. False: the stream has to end.
    async fn wait(&mut self, at_the_latest: Option<Instant>) -> bool {
        let end = self.shutdown.0.clone();
        let until = self.until;
        let news = async {
            if self.last_read.is_some() {
                let tick = Instant::now() + TICK;
                // A closed channel cannot be: the hub outlives the server. Then the tick still comes.
                let latest = at_the_latest.map_or(tick, |at| at.min(tick));
                self.woken = tokio::time::timeout_at(latest, self.wake.changed())
                    .await
                    .is_ok();
            }
            if let Some(last_read) = self.last_read {
                tokio::time::sleep_until(last_read + self.min_interval).await;
            }
            self.wake.mark_unchanged();
            self.last_read = Some(Instant::now());
            true
        };
        tokio::select! {
            biased;
            () = end.cancelled() => false,
            () = tokio::time::sleep_until(until) => false,
            go_on = news => go_on,
        }
    }
}

fn sse_response<S>(stream: S) -> Response
where
    S: futures_util::Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let mut response = Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(TICK))
        .into_response();
    // A proxy must pass each event on as it comes.
    response.headers_mut().insert(
        "x-accel-buffering",
        axum::http::HeaderValue::from_static("no"),
    );
    response.headers_mut().insert(
        "cache-control",
        axum::http::HeaderValue::from_static("no-store"),
    );
    response
}

/// `GET /events`: `changed` whenever some run's state did, and once at the beginning.
pub(super) async fn states(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    shutdown: Option<Extension<Shutdown>>,
) -> Result<Response, WebError> {
    let waiter = UpdateTimer::new(
        (&app, &viewer),
        app.web.live.subscribe_all(),
        shutdown,
        LIST_MIN_INTERVAL,
    )?;
    Ok(sse_response(futures_util::stream::unfold(
        (waiter, app, viewer),
        |(mut waiter, app, viewer)| async move {
            loop {
                if !waiter.wait(None).await || !viewer.key_is_current(&app).unwrap_or(false) {
                    return None;
                }
                if waiter.woken {
                    return Some((
                        Ok(Event::default().event("changed").data("{}")),
                        (waiter, app, viewer),
                    ));
                }
            }
        },
    )))
}

/// What the stream of a run may be asked for.
#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    /// The place in the log that a page was rendered up to.
    after: Option<String>,
}

/// `GET /runs/<id>/events`: the run, live, from `Last-Event-ID` or `?after=` on.
pub(super) async fn run(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    shutdown: Option<Extension<Shutdown>>,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    config: RequestConfig,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let run = find_run(&app, &viewer, &id).await?;
    let place = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned)
        .or(query.after)
        .unwrap_or_default();
    let cursor: Cursor = match place.as_str() {
        "" => Cursor::default(),
        text => text.parse().map_err(|_| {
            WebError::BadRequest("this is not a position in the log of the run".to_owned())
        })?,
    };
    let waiter = UpdateTimer::new(
        (&app, &viewer),
        app.web.live.subscribe_run(run.id),
        shutdown,
        RUN_MIN_INTERVAL,
    )?;
    let follower = LogFollower::open(app.web.paths.run_dir(&run.repo, run.id), cursor);
    let follow = RunFollower {
        app,
        config,
        viewer,
        id: run.id,
        repo: run.repo,
        waiter,
        log: Some(FollowedLog {
            follower,
            unread: Vec::new(),
        }),
        updates: RunUpdates::default(),
        rows_read: None,
        styles: HashMap::new(),
        ready: VecDeque::new(),
        read_again_at: None,
        is_final: false,
        over: false,
    };
    Ok(sse_response(futures_util::stream::unfold(
        follow,
        |mut follow| async move {
            let event = follow.next().await?;
            Some((Ok(event), follow))
        },
    )))
}

/// The log of a run, as far as it has been read.
struct FollowedLog {
    follower: LogFollower,
    /// The steps that are not read to their end, by number.
    unread: Vec<StepKey>,
}

impl FollowedLog {
    /// Takes in what the rows say of steps.
    fn note(&mut self, steps: &[RunStep]) {
        for step in steps
            .iter()
            .filter(|step| !self.follower.cursor().is_read(step.seq))
        {
            match self
                .unread
                .binary_search_by_key(&step.seq, |known| known.seq)
            {
                Ok(at) => self.unread[at] = key(step),
                Err(at) => self.unread.insert(at, key(step)),
            }
        }
    }

    /// Reads on. Blocking.
    fn poll(&mut self) -> std::io::Result<Batch> {
        let batch = self.follower.poll(&self.unread, BATCH_BYTES)?;
        let cursor = self.follower.cursor();
        self.unread.retain(|step| !cursor.is_read(step.seq));
        Ok(batch)
    }
}

/// One follower of one run.
struct RunFollower {
    app: Arc<App>,
    config: RequestConfig,
    viewer: Viewer,
    id: RunId,
    /// The repository, by the name that it had at the last read.
    repo: RepoName,
    waiter: UpdateTimer,
    /// Away only while a read is in progress.
    log: Option<FollowedLog>,
    updates: RunUpdates,
    /// When the rows were read last.
    rows_read: Option<Instant>,
    styles: HashMap<u32, Style>,
    /// Read and not yet sent: what one look found.
    ready: VecDeque<Event>,
    /// When to look again without a notification: there may be more lines, or rows that were not read this time.
    read_again_at: Option<Instant>,
    /// The rows say that the run has ended.
    is_final: bool,
    over: bool,
}

impl RunFollower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over || !self.waiter.wait(self.read_again_at).await {
                return None;
            }
            if let Err(error) = self.read().await {
                tracing::error!(run = %self.id, "web: live stream: {error}: {:?}", std::error::Error::source(&error));
                return None;
            }
        }
    }

    /// Reads rows, then files: the lines of a step that the rows call finished are all there.
    async fn read(&mut self) -> Result<(), WebError> {
        if !self.viewer.key_is_current(&self.app)? || !self.is_shown().await? {
            self.over = true;
            return Ok(());
        }
        let read_guard = self.app.read_lock.clone().lock_owned().await;
        let begun = Instant::now();
        let last_read = self.read_serialized().await;
        let worked = begun.elapsed();
        if worked > MIN_WORK {
            // What was found goes out at once, the others wait.
            tokio::spawn(async move {
                tokio::time::sleep(worked * IDLE_FACTOR).await;
                drop(read_guard);
            });
        }
        last_read
    }

    /// Whether the run may still be seen: a repository may become private while a stranger follows its run.
    async fn is_shown(&self) -> Result<bool, WebError> {
        match admit_to_runs(&self.app, &self.viewer, &self.repo).await {
            Ok(()) => Ok(true),
            Err(WebError::SignIn) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read_serialized(&mut self) -> Result<(), WebError> {
        let rows_due = self
            .rows_read
            .map(|at| at + ROWS_MIN_INTERVAL)
            .filter(|due| *due > Instant::now());
        if rows_due.is_none() && !self.read_rows().await? {
            self.over = true;
            return Ok(());
        }
        let batch = self.read_log().await?;
        // What has ended changes no more.
        self.read_again_at = rows_due.filter(|_| !self.is_final);
        if !batch.lines.is_empty() {
            self.read_again_at = Some(Instant::now());
            let event = self.lines(&batch);
            self.ready.push_back(event);
        } else if self.is_final {
            self.ready
                .push_back(Event::default().event("end").data("{}"));
            self.over = true;
        }
        Ok(())
    }

    /// Reads the rows and tells what is new in them; false when the run is gone.
    async fn read_rows(&mut self) -> Result<bool, WebError> {
        self.rows_read = Some(Instant::now());
        let Some(rows) = read_run(&self.app, self.id, self.updates.step_query()).await? else {
            return Ok(false);
        };
        let rows = match self.viewer.is_stranger {
            true => RunData::without_private_fields(rows),
            false => rows,
        };
        self.repo.clone_from(&rows.run.repo);
        if let Some(news) = self.updates.diff(
            &rows,
            &self.config.0,
            self.app.web.clock.now(),
            !self.viewer.is_stranger,
        )? {
            self.ready
                .push_back(Event::default().event("state").data(news.to_string()));
        }
        self.is_final = rows.run.state.is_final();
        if let Some(log) = &mut self.log {
            log.follower
                .lies_in(self.app.web.paths.run_dir(&rows.run.repo, self.id));
            log.note(&rows.steps);
        }
        Ok(true)
    }

    async fn read_log(&mut self) -> Result<Batch, WebError> {
        let Some(mut log) = self.log.take() else {
            return Ok(Batch::default());
        };
        let (log, batch) = tokio::task::spawn_blocking(move || {
            let batch = log.poll();
            (log, batch)
        })
        .await?;
        self.log = Some(log);
        batch.map_err(|source| WebError::Io {
            attempt: format!("read the log of run {}", self.id),
            source,
        })
    }

    fn lines(&mut self, batch: &Batch) -> Event {
        let lines: Vec<Value> = batch
            .lines
            .iter()
            .map(|line| {
                let seq = line.seq.unwrap_or(RUN_SEQ);
                let rendered = render(&line.text, self.styles.entry(seq).or_default());
                let flags = [
                    line.stream == Stream::Stderr,
                    line.partial,
                    rendered.restarts,
                    is_cap_notice(line),
                ];
                let flags = flags
                    .iter()
                    .rev()
                    .fold(0, |bits, flag| bits << 1 | u8::from(*flag));
                json!([seq, flags, rendered.html])
            })
            .collect();
        let place = self
            .log
            .as_ref()
            .map(|log| log.follower.cursor().to_string())
            .unwrap_or_default();
        Event::default()
            .event("log")
            .id(place)
            .data(Value::from(lines).to_string())
    }
}
