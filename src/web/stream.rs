//! Live streams by server-sent events.
//!
//! A follower is level-triggered: it arms its wake-up, reads rows and files, sends what is new,
//! and waits. Nothing is buffered for it, so a slow one costs nothing and slows nothing: the next
//! batch is read when the last one has been taken. Its place in the log is the event's id, so
//! a browser that comes back goes on where it was, also across a restart of the appliance.
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
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::ansi::{Style, render};
use super::error::WebError;
use super::log::{RUN_SEQ, keys};
use super::run::{Changes, Rows, find, rows};
use super::server::Shutdown;
use super::{App, Shared};
use crate::logs::{Batch, Cursor, LogFollower, Stream};
use crate::names::RunId;

/// Without news this often: a comment, and a look whether a wake-up was missed.
const TICK: Duration = Duration::from_secs(15);
/// The least time between two looks at one run: many small writes become one event.
const RUN_PACE: Duration = Duration::from_millis(40);
/// The least time between two words to a list.
const LIST_PACE: Duration = Duration::from_millis(300);
/// A stream ends after this time; the browser comes back, and its session is checked anew.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How much log goes into one event.
const BATCH_BYTES: usize = 128 << 10;

/// Waits for a wake-up, a tick or the end of it all.
struct Waiter {
    wake: watch::Receiver<u64>,
    shutdown: Shutdown,
    until: Instant,
    pace: Duration,
    looked: Option<Instant>,
    /// The last wait ended by a wake-up, not by a tick; true at the beginning.
    woken: bool,
    /// Held as long as the stream lives.
    _place: OwnedSemaphorePermit,
}

impl Waiter {
    fn new(app: &App, wake: watch::Receiver<u64>, shutdown: Option<Extension<Shutdown>>, pace: Duration) -> Result<Self, WebError> {
        let place = app.followers.clone().try_acquire_owned().map_err(|_| WebError::TooManyFollowers)?;
        let shutdown = shutdown.map(|Extension(s)| s).unwrap_or_default();
        Ok(Self { wake, shutdown, until: Instant::now() + LIFETIME, pace, looked: None, woken: true, _place: place })
    }

    /// Until there may be news; at once where `more` is known to be there. False: the stream has to end.
    async fn wait(&mut self, more: bool) -> bool {
        let end = self.shutdown.0.clone();
        let until = self.until;
        let news = async {
            if self.looked.is_some() && !more {
                // A closed channel cannot be: the hub outlives the server. Then the tick still comes.
                self.woken = tokio::time::timeout(TICK, self.wake.changed()).await.is_ok();
            }
            if let Some(looked) = self.looked {
                tokio::time::sleep_until(looked + self.pace).await;
            }
            self.wake.mark_unchanged();
            self.looked = Some(Instant::now());
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

fn answer<S>(stream: S) -> Response
where
    S: futures_util::Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(TICK)).into_response();
    // A proxy must pass each event on as it comes.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response.headers_mut().insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    response
}

/// `GET /events`: `changed` whenever some run's state did, and once at the beginning.
pub(super) async fn states(State(app): Shared, shutdown: Option<Extension<Shutdown>>) -> Result<Response, WebError> {
    let waiter = Waiter::new(&app, app.web.live.watch_states(), shutdown, LIST_PACE)?;
    Ok(answer(futures_util::stream::unfold(waiter, |mut waiter| async move {
        loop {
            if !waiter.wait(false).await {
                return None;
            }
            if waiter.woken {
                return Some((Ok(Event::default().event("changed").data("{}")), waiter));
            }
        }
    })))
}

/// What the stream of a run may be asked for.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    /// The place in the log that a page was rendered up to.
    after: Option<String>,
}

/// `GET /runs/<id>/events`: the run, live, from `Last-Event-ID` or `?after=` on.
pub(super) async fn run(
    State(app): Shared,
    shutdown: Option<Extension<Shutdown>>,
    Path(id): Path<String>,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let run = find(&app, &id).await?;
    let place = headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::to_owned).or(query.after).unwrap_or_default();
    let cursor: Cursor = match place.as_str() {
        "" => Cursor::default(),
        text => text.parse().map_err(|_| WebError::BadRequest("that is no place in this log".to_owned()))?,
    };
    let waiter = Waiter::new(&app, app.web.live.watch_run(run.id), shutdown, RUN_PACE)?;
    let follower = Some(LogFollower::open(app.web.paths.run(&run.repo, run.id), cursor));
    let follow = Follow { app, id: run.id, waiter, follower, changes: Changes::default(), styles: HashMap::new(), ready: VecDeque::new(), more: false, over: false };
    Ok(answer(futures_util::stream::unfold(follow, |mut follow| async move {
        let event = follow.next().await?;
        Some((Ok(event), follow))
    })))
}

/// One follower of one run.
struct Follow {
    app: Arc<App>,
    id: RunId,
    waiter: Waiter,
    /// Away only while a read is in progress.
    follower: Option<LogFollower>,
    changes: Changes,
    styles: HashMap<u32, Style>,
    /// Read and not yet sent: what one look found.
    ready: VecDeque<Event>,
    /// The last look found lines, so there may be more.
    more: bool,
    over: bool,
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over || !self.waiter.wait(self.more).await {
                return None;
            }
            if let Err(error) = self.look().await {
                tracing::error!(run = %self.id, "web: live stream: {error}: {:?}", std::error::Error::source(&error));
                return None;
            }
        }
    }

    /// Reads rows, then files: the lines of a step that the rows call finished are all there.
    async fn look(&mut self) -> Result<(), WebError> {
        let Some(rows) = rows(&self.app, self.id).await? else {
            self.over = true;
            return Ok(());
        };
        if let Some(news) = self.changes.since(&rows, self.app.web.clock.now())? {
            self.ready.push_back(Event::default().event("state").data(news.to_string()));
        }
        let batch = self.read(&rows).await?;
        self.more = !batch.lines.is_empty();
        if self.more {
            let lines: Vec<Value> = batch.lines.iter().map(|line| {
                let seq = line.seq.unwrap_or(RUN_SEQ);
                let rendered = render(&line.text, self.styles.entry(seq).or_default());
                let flags = u8::from(line.stream == Stream::Stderr) | u8::from(line.partial) << 1 | u8::from(rendered.restarts) << 2;
                json!([seq, flags, rendered.html])
            }).collect();
            self.ready.push_back(Event::default().event("log").id(batch.cursor.to_string()).data(Value::from(lines).to_string()));
        } else if rows.run.state.is_final() {
            self.ready.push_back(Event::default().event("end").data("{}"));
            self.over = true;
        }
        Ok(())
    }

    async fn read(&mut self, rows: &Rows) -> Result<Batch, WebError> {
        let keys = keys(&rows.steps);
        let folder = self.app.web.paths.run(&rows.run.repo, self.id);
        let mut follower = self.follower.take().unwrap_or_else(|| LogFollower::open(folder, Cursor::default()));
        let (follower, batch) = tokio::task::spawn_blocking(move || {
            let batch = follower.poll(&keys, BATCH_BYTES);
            (follower, batch)
        })
        .await?;
        self.follower = Some(follower);
        batch.map_err(|source| WebError::Io { attempt: format!("read the log of run {}", self.id), source })
    }
}
