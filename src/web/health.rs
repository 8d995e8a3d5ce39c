//! The state of the appliance's parts, and the addresses that tell it.
//!
//! Checks run in the background and write to the [`HealthBoard`]; an answer only reads it, so
//! it is there at once even while Docker hangs or the disk is slow. A reading that is not
//! renewed in time counts as degraded: a check that hangs is a finding too. What these
//! addresses say names no repository, for everybody may ask.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::error::WebError;
use super::page::{Form, Frame, html};
use super::session::Viewer;
use super::{Shared, html as pieces};
use crate::clock::{Clock, Millis};

/// A part of the appliance that has a state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// SQLite: can it be read and written?
    Database,
    /// The socket on which the hook hands over events.
    EventSocket,
    /// sshd, by what `quire init` says of it.
    Sshd,
    /// The Docker engine.
    Docker,
    /// Space left on the volume.
    Disk,
    /// Runs that wait.
    Queue,
    /// The configuration in force; degraded when a reload failed.
    Config,
    /// Git's maintenance of repositories, and the removal of what need not be kept.
    Maintenance,
    /// What starts by itself; degraded where a pipeline that has schedules cannot be read.
    Schedules,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Database,
        Self::EventSocket,
        Self::Sshd,
        Self::Docker,
        Self::Disk,
        Self::Queue,
        Self::Config,
        Self::Maintenance,
        Self::Schedules,
    ];

    /// Its name in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::EventSocket => "event-socket",
            Self::Sshd => "sshd",
            Self::Docker => "docker",
            Self::Disk => "disk",
            Self::Queue => "queue",
            Self::Config => "config",
            Self::Maintenance => "maintenance",
            Self::Schedules => "schedules",
        }
    }

    /// Without it the appliance cannot take a push at all.
    fn is_vital(self) -> bool {
        matches!(self, Self::Database | Self::EventSocket | Self::Sshd)
    }

    /// Without it a push does not lead to a run.
    fn leads_to_runs(self) -> bool {
        self.is_vital() || matches!(self, Self::Docker | Self::Disk)
    }

    /// How long a reading counts. The configuration is reported when it is loaded, not again and again.
    fn keeps(self) -> Option<Duration> {
        (self != Self::Config).then_some(Duration::from_secs(90))
    }
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, not as it should.
    Degraded,
    /// It does not work.
    Down,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// How the whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overall {
    /// The vital parts have not reported yet.
    Starting,
    /// All parts are well.
    Ok,
    /// Some part is not.
    Degraded,
    /// A vital part does not work.
    Down,
}

impl Overall {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// A number that goes with a reading, and what it counts: `free_bytes`, `restarts`, `pending`, `ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// What is counted.
    pub what: &'static str,
    /// How many.
    pub value: u64,
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.what, self.value)])
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.what.ends_with("bytes") {
            write!(
                f,
                "{} {}",
                pieces::bytes(self.value),
                self.what.trim_end_matches("bytes").trim_end_matches('_')
            )
        } else {
            write!(f, "{} {}", self.value, self.what.replace('_', " "))
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    status: Status,
    message: String,
    figure: Option<Figure>,
    details: Vec<String>,
    checked_at: Millis,
    at: Instant,
}

/// The last reading of a part, as it is told.
#[derive(Debug, Clone, Serialize)]
pub struct Reading {
    /// The part.
    #[serde(skip)]
    pub part: Part,
    /// How it is.
    pub status: Status,
    /// One short sentence.
    pub message: String,
    /// A number that goes with it.
    pub figure: Option<Figure>,
    /// What may name repositories: only for whoever has signed in.
    #[serde(skip)]
    pub details: Vec<String>,
    /// When it was checked.
    pub checked_at_ms: Millis,
    /// How long ago that is, by a clock that nobody sets.
    pub age_ms: u64,
}

/// The shared table of readings. Cloning it gives the same table.
#[derive(Debug, Clone)]
pub struct HealthBoard {
    table: Arc<Mutex<[Option<Entry>; Part::ALL.len()]>>,
    clock: Clock,
    born: Instant,
}

impl HealthBoard {
    /// An empty board: the appliance is starting.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            table: Arc::default(),
            clock,
            born: Instant::now(),
        }
    }

    /// Puts the result of a check up.
    pub fn set(
        &self,
        part: Part,
        status: Status,
        message: impl Into<String>,
        figure: Option<Figure>,
    ) {
        self.set_in_detail(part, status, message, figure, Vec::new());
    }

    /// The same, with sentences that only those read who have signed in.
    pub fn set_in_detail(
        &self,
        part: Part,
        status: Status,
        message: impl Into<String>,
        figure: Option<Figure>,
        details: Vec<String>,
    ) {
        let entry = Entry {
            status,
            message: message.into(),
            figure,
            details,
            checked_at: self.clock.now(),
            at: Instant::now(),
        };
        self.table.lock().unwrap_or_else(PoisonError::into_inner)[part as usize] = Some(entry);
    }

    /// Takes a part off the board: it does not exist here (no Docker in use, no sshd of ours).
    pub fn clear(&self, part: Part) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)[part as usize] = None;
    }

    /// How long this appliance has been up.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.born.elapsed()
    }

    /// All readings, those that are too old as degraded.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let table = self
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let told = |(part, entry): (Part, Option<Entry>)| {
            let entry = entry?;
            Some(reading(part, entry.at.elapsed(), entry))
        };
        Part::ALL.into_iter().zip(table).filter_map(told).collect()
    }

    /// The whole in one word.
    #[must_use]
    pub fn overall(&self) -> Overall {
        overall(&self.readings())
    }

    /// Why pushes would not lead to runs now; empty when they would.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let readings = self.readings();
        if overall(&readings) == Overall::Starting {
            return vec!["starting".to_owned()];
        }
        let missing = readings
            .iter()
            .filter(|r| r.status == Status::Down && r.part.leads_to_runs());
        missing
            .map(|r| format!("{}: {}", r.part.as_str(), r.message))
            .collect()
    }
}

fn reading(part: Part, age: Duration, entry: Entry) -> Reading {
    let stale = part.keeps().is_some_and(|limit| age > limit);
    Reading {
        part,
        status: if stale {
            entry.status.max(Status::Degraded)
        } else {
            entry.status
        },
        message: if stale {
            format!(
                "not checked for {} s; before: {}",
                age.as_secs(),
                entry.message
            )
        } else {
            entry.message
        },
        figure: entry.figure,
        details: entry.details,
        checked_at_ms: entry.checked_at,
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    }
}

fn overall(readings: &[Reading]) -> Overall {
    let has = |part| readings.iter().any(|r| r.part == part);
    if !has(Part::Database) || !has(Part::EventSocket) {
        Overall::Starting
    } else if readings
        .iter()
        .any(|r| r.part.is_vital() && r.status == Status::Down)
    {
        Overall::Down
    } else if readings.iter().any(|r| r.status != Status::Ok) {
        Overall::Degraded
    } else {
        Overall::Ok
    }
}

fn no_store(response: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], response).into_response()
}

/// `GET /healthz`, `GET /livez`: all there is to know, 503 only when the appliance is down.
pub(super) async fn healthz(axum::extract::State(app): Shared) -> Response {
    live(&app.web.health)
}

fn live(board: &HealthBoard) -> Response {
    let readings = board.readings();
    let overall = overall(&readings);
    let parts: serde_json::Map<_, _> = readings
        .iter()
        .map(|r| (r.part.as_str().to_owned(), json!(r)))
        .collect();
    let status = if overall == Overall::Down {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let body = json!({
        "status": overall,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": board.uptime().as_secs(),
        "parts": parts,
    });
    no_store((status, Json(body)))
}

/// `GET /readyz`: 200 when pushes lead to runs, else 503 and why not.
pub(super) async fn readyz(axum::extract::State(app): Shared) -> Response {
    ready(&app.web.health)
}

fn ready(board: &HealthBoard) -> Response {
    let reasons = board.unready();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    no_store((
        status,
        Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })),
    ))
}

/// What is answered while the database is opened and migrated: health, and a word for everybody else.
pub(super) fn while_starting(board: &HealthBoard, path: &str) -> Response {
    match path {
        "/healthz" | "/livez" => live(board),
        "/readyz" => ready(board),
        _ => {
            let again = [(header::RETRY_AFTER, "1")];
            no_store((
                StatusCode::SERVICE_UNAVAILABLE,
                again,
                "quire is starting; the page is there in a moment\n",
            ))
        }
    }
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: Frame,
    overall: Overall,
    uptime: String,
    readings: Vec<Reading>,
}

impl HealthPage {
    fn sign(status: Status) -> String {
        pieces::step_sign(match status {
            Status::Ok => "complete",
            Status::Degraded => "pending",
            Status::Down => "failed",
        })
    }

    fn age(reading: &Reading) -> String {
        pieces::duration(reading.age_ms / 1000 * 1000)
    }
}

/// `GET /-/health`: the same for people.
pub(super) async fn page(
    axum::extract::State(app): Shared,
    Extension(viewer): Extension<Viewer>,
    form: Form,
) -> Result<Response, WebError> {
    if form == Form::Json {
        return Ok(healthz(axum::extract::State(app)).await);
    }
    let board = &app.web.health;
    let readings = board.readings();
    let uptime = pieces::duration(u64::try_from(board.uptime().as_millis()).unwrap_or(u64::MAX));
    html(&HealthPage {
        frame: Frame::new(&app, Some(&viewer), "Health"),
        overall: overall(&readings),
        uptime,
        readings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> HealthBoard {
        HealthBoard::new(Clock::default())
    }

    #[test]
    fn it_is_starting_until_the_vital_parts_reported() {
        let board = board();
        assert_eq!(board.overall(), Overall::Starting);
        assert_eq!(board.unready(), ["starting"]);
        board.set(Part::Database, Status::Ok, "writable", None);
        assert_eq!(board.overall(), Overall::Starting);
        board.set(Part::EventSocket, Status::Ok, "bound", None);
        assert_eq!(board.overall(), Overall::Ok);
        assert!(board.unready().is_empty());
    }

    #[test]
    fn docker_away_is_degraded_and_not_ready() {
        let board = board();
        board.set(Part::Database, Status::Ok, "writable", None);
        board.set(Part::EventSocket, Status::Ok, "bound", None);
        board.set(Part::Docker, Status::Down, "no answer", None);
        assert_eq!(board.overall(), Overall::Degraded);
        assert_eq!(board.unready(), ["docker: no answer"]);
        board.set(Part::Database, Status::Down, "read-only", None);
        assert_eq!(board.overall(), Overall::Down);
        board.set(Part::Database, Status::Ok, "writable", None);
        board.clear(Part::Docker);
        assert_eq!(board.overall(), Overall::Ok);
    }

    #[test]
    fn a_check_that_hangs_is_a_finding() {
        let entry = Entry {
            status: Status::Ok,
            message: "fine".into(),
            figure: None,
            details: Vec::new(),
            checked_at: Millis(0),
            at: Instant::now(),
        };
        assert_eq!(
            reading(Part::Docker, Duration::from_secs(89), entry.clone()).status,
            Status::Ok
        );
        let stale = reading(Part::Docker, Duration::from_secs(91), entry.clone());
        assert_eq!(
            (stale.status, stale.message.as_str()),
            (Status::Degraded, "not checked for 91 s; before: fine")
        );
        assert_eq!(
            reading(Part::Config, Duration::from_secs(9999), entry).status,
            Status::Ok
        );
    }
}
