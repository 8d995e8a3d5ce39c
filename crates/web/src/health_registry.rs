//! The health of the appliance's components, as the background checks report it.
//!
//! Checks run in the background and write to the [`HealthRegistry`]; a response only reads it, so
//! it is there at once even while Docker hangs or the disk is slow. A result that is not
//! renewed in time counts as degraded, because a check that hangs is a finding too.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use quire_server::part_problem::PartProblem;
use quire_types::clock::{Clock, Millis};
use quire_types::sync::lock;
use quire_types::text::format_bytes;

/// A part of the appliance that has a state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
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
    /// Repositories; degraded while one of them cannot be read.
    Repositories,
    /// Scheduled backups; degraded if the newest proved one is too old, or the last one failed.
    Backup,
    /// The targets of notifications; degraded while one of them fails.
    Notifications,
    /// The remotes of mirrors; degraded while one of them fails for a while.
    Mirrors,
    /// Incoming webhooks; degraded while the settings or the secret of one of them are wrong.
    Hooks,
    /// The certificate of the published address; degraded if it is not valid, or not renewed in time.
    Certificate,
    /// The newest result of `doctor`, which is about the moment of the check and degrades nothing.
    Doctor,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Database,
        Self::EventSocket,
        Self::Sshd,
        Self::Docker,
        Self::Disk,
        Self::Queue,
        Self::Config,
        Self::Maintenance,
        Self::Schedules,
        Self::Repositories,
        Self::Backup,
        Self::Notifications,
        Self::Mirrors,
        Self::Hooks,
        Self::Certificate,
        Self::Doctor,
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
            Self::Repositories => "repositories",
            Self::Backup => "backup",
            Self::Notifications => "notifications",
            Self::Mirrors => "mirrors",
            Self::Hooks => "webhooks",
            Self::Certificate => "certificate",
            Self::Doctor => "doctor",
        }
    }

    /// Without it the appliance cannot take a push at all.
    fn is_vital(self) -> bool {
        matches!(self, Self::Database | Self::EventSocket | Self::Sshd)
    }

    /// Without it a push does not lead to a run.
    fn required_for_runs(self) -> bool {
        self.is_vital() || matches!(self, Self::Docker | Self::Disk)
    }

    /// How long a reading counts. The configuration is reported when it is loaded, not again and again.
    fn max_age(self) -> Option<Duration> {
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
pub struct Measurement {
    /// What is counted.
    pub what: &'static str,
    /// How many.
    pub value: u64,
}

impl Serialize for Measurement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.what, self.value)])
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.what.ends_with("bytes") {
            write!(
                f,
                "{} {}",
                format_bytes(self.value),
                self.what.trim_end_matches("bytes").trim_end_matches('_')
            )
        } else {
            write!(f, "{} {}", self.value, self.what.replace('_', " "))
        }
    }
}

#[derive(Debug, Clone)]
struct StoredResult {
    status: Status,
    message: String,
    figure: Option<Measurement>,
    details: Vec<PartProblem>,
    checked_at: Millis,
    at: Instant,
}

/// The last reading of a part, as it is told.
#[derive(Debug, Clone, Serialize)]
pub struct CheckResult {
    /// The part.
    #[serde(skip)]
    pub part: Component,
    /// How it is.
    pub status: Status,
    /// One short sentence.
    pub message: String,
    /// A number that goes with it.
    pub figure: Option<Measurement>,
    /// Details that may name repositories, so only signed-in users see them.
    #[serde(skip)]
    pub details: Vec<PartProblem>,
    /// Whether the check was not repeated in time.
    #[serde(skip)]
    pub is_stale: bool,
    /// When it was checked.
    pub checked_at_ms: Millis,
    /// How long ago that is, by a monotonic clock.
    pub age_ms: u64,
}

/// The table of readings, which clones share.
#[derive(Debug, Clone)]
pub struct HealthRegistry {
    table: Arc<Mutex<[Option<StoredResult>; Component::ALL.len()]>>,
    clock: Clock,
    started: Instant,
}

impl HealthRegistry {
    /// An empty registry: the appliance is starting.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            table: Arc::default(),
            clock,
            started: Instant::now(),
        }
    }

    /// Puts the result of a check up.
    pub fn set(
        &self,
        part: Component,
        status: Status,
        message: impl Into<String>,
        figure: Option<Measurement>,
    ) {
        self.set_with_details(part, status, message, figure, Vec::new());
    }

    /// The same, with problems that only those read who have signed in.
    pub fn set_with_details(
        &self,
        part: Component,
        status: Status,
        message: impl Into<String>,
        figure: Option<Measurement>,
        details: Vec<PartProblem>,
    ) {
        let entry = StoredResult {
            status,
            message: message.into(),
            figure,
            details,
            checked_at: self.clock.now(),
            at: Instant::now(),
        };
        lock(&self.table)[part as usize] = Some(entry);
    }

    /// Removes a component that does not exist here (no Docker in use, no sshd of quire).
    pub fn clear(&self, part: Component) {
        lock(&self.table)[part as usize] = None;
    }

    /// How long this appliance has been up.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All readings, those that are too old as degraded.
    #[must_use]
    pub fn readings(&self) -> Vec<CheckResult> {
        let table = lock(&self.table).clone();
        let told = |(part, entry): (Component, Option<StoredResult>)| {
            let entry = entry?;
            Some(check_result(part, entry.at.elapsed(), entry))
        };
        Component::ALL
            .into_iter()
            .zip(table)
            .filter_map(told)
            .collect()
    }

    /// The whole in one word.
    #[must_use]
    pub fn overall(&self) -> Overall {
        overall(&self.readings())
    }

    /// Why pushes would not lead to runs now; empty when they would.
    #[must_use]
    pub fn not_ready_reasons(&self) -> Vec<String> {
        let readings = self.readings();
        if overall(&readings) == Overall::Starting {
            return vec!["starting".to_owned()];
        }
        let missing = readings
            .iter()
            .filter(|r| r.status == Status::Down && r.part.required_for_runs());
        missing
            .map(|r| format!("{}: {}", r.part.as_str(), r.message))
            .collect()
    }
}

fn check_result(part: Component, age: Duration, entry: StoredResult) -> CheckResult {
    let stale = part.max_age().is_some_and(|limit| age > limit);
    CheckResult {
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
        is_stale: stale,
        checked_at_ms: entry.checked_at,
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn overall(readings: &[CheckResult]) -> Overall {
    let has = |part| readings.iter().any(|r| r.part == part);
    if !has(Component::Database) || !has(Component::EventSocket) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> HealthRegistry {
        HealthRegistry::new(Clock::default())
    }

    #[test]
    fn it_is_starting_until_the_vital_parts_reported() {
        let registry = registry();
        assert_eq!(registry.overall(), Overall::Starting);
        assert_eq!(registry.not_ready_reasons(), ["starting"]);
        registry.set(Component::Database, Status::Ok, "writable", None);
        assert_eq!(registry.overall(), Overall::Starting);
        registry.set(Component::EventSocket, Status::Ok, "bound", None);
        assert_eq!(registry.overall(), Overall::Ok);
        assert!(registry.not_ready_reasons().is_empty());
    }

    #[test]
    fn docker_away_is_degraded_and_not_ready() {
        let registry = registry();
        registry.set(Component::Database, Status::Ok, "writable", None);
        registry.set(Component::EventSocket, Status::Ok, "bound", None);
        registry.set(Component::Docker, Status::Down, "no answer", None);
        assert_eq!(registry.overall(), Overall::Degraded);
        assert_eq!(registry.not_ready_reasons(), ["docker: no answer"]);
        registry.set(Component::Database, Status::Down, "read-only", None);
        assert_eq!(registry.overall(), Overall::Down);
        registry.set(Component::Database, Status::Ok, "writable", None);
        registry.clear(Component::Docker);
        assert_eq!(registry.overall(), Overall::Ok);
    }

    #[test]
    fn a_check_that_hangs_is_a_finding() {
        let entry = StoredResult {
            status: Status::Ok,
            message: "fine".into(),
            figure: None,
            details: Vec::new(),
            checked_at: Millis(0),
            at: Instant::now(),
        };
        assert_eq!(
            check_result(Component::Docker, Duration::from_secs(89), entry.clone()).status,
            Status::Ok
        );
        let stale = check_result(Component::Docker, Duration::from_secs(91), entry.clone());
        assert_eq!(
            (stale.status, stale.message.as_str()),
            (Status::Degraded, "not checked for 91 s; before: fine")
        );
        assert_eq!(
            check_result(Component::Config, Duration::from_secs(9999), entry).status,
            Status::Ok
        );
    }
}
