//! The background checks that need nothing but the store, the disk and the status file of `init`.
//! Each writes its finding to the [`HealthRegistry`]; the others (Docker, the event socket) are written
//! by whoever holds those.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::health_registry::{Component, HealthRegistry, Measurement, Status};
use super::state::WebState;
use quire_store::RunCounts;
use quire_types::disk_space::{MinFree, free_bytes, has_inodes, make_a_file};
use quire_types::error_chain;
use quire_types::init_status::{ChildState, ChildStatus, InitStatus};
use quire_types::text::format_bytes;
use quire_types::text::format_elapsed;

const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often the database has to take a write: a disk that wears out by writing should not by being asked.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);
/// A run that waits this long while none is active points at something that is stuck.
const LONG_WAIT_MS: u64 = 10 * 60 * 1000;

/// Checks again and again until `shutdown`. The first round is over before this waits.
pub async fn watch(state: WebState, shutdown: CancellationToken) {
    let mut written = None;
    loop {
        tokio::select! {
            () = round(&state, &mut written) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// `written` is when the database was last seen to take a write.
async fn round(state: &WebState, written: &mut Option<Instant>) {
    // What does not answer in time keeps its old reading, which the registry then shows as too old.
    let _ = tokio::join!(
        timeout(ROUND_TIMEOUT, store(state, written)),
        timeout(ROUND_TIMEOUT, files(state))
    );
}

async fn store(state: &WebState, written: &mut Option<Instant>) {
    let probe = written.is_none_or(|at| at.elapsed() >= WRITE_INTERVAL);
    let checked = move |s: &quire_store::Store| {
        if probe {
            s.probe_write()?;
        }
        s.check_file()?;
        Ok((
            s.runs().counts()?,
            s.database_bytes(),
            s.instance().hold()?.is_some(),
        ))
    };
    let checked = state.store.call(checked).await;
    *written = if checked.is_err() {
        None
    } else if probe {
        Some(Instant::now())
    } else {
        *written
    };
    match checked {
        Ok((counts, bytes, is_held)) => {
            let figure = Measurement {
                what: "bytes",
                value: bytes,
            };
            let (status, message) = if is_held {
                (
                    Status::Degraded,
                    "an older copy of the database that was in use; nothing runs until `reconcile --adopt` or `reconcile --run` decides",
                )
            } else {
                (Status::Ok, "readable and writable")
            };
            state
                .health
                .set(Component::Database, status, message, Some(figure));
            queue(state, &counts);
        }
        Err(error) => {
            tracing::error!("health: database: {error}");
            state.health.set(
                Component::Database,
                Status::Down,
                "cannot be read or written; the log has the details",
                None,
            );
        }
    }
}

fn queue(state: &WebState, counts: &RunCounts) {
    let waited = counts
        .oldest_pending_ms
        .map_or(0, |at| state.clock.now().since(at));
    let stuck = waited > LONG_WAIT_MS && counts.active == 0;
    let message = match counts.pending {
        0 => format!("empty, {} active", counts.active),
        n => format!(
            "{n} waiting, the oldest for {}, {} active",
            format_elapsed(waited),
            counts.active
        ),
    };
    let status = if stuck { Status::Degraded } else { Status::Ok };
    state.health.set(
        Component::Queue,
        status,
        message,
        Some(Measurement {
            what: "pending",
            value: counts.pending,
        }),
    );
}

async fn files(state: &WebState) {
    let (registry, paths) = (state.health.clone(), state.paths.clone());
    let checks = tokio::task::spawn_blocking(move || {
        sshd(&registry, &paths.init_status());
        disk(&registry, paths.data(), MinFree::read(&paths));
    });
    if let Err(error) = checks.await {
        tracing::error!("health: a check ended early: {error}");
    }
}

fn disk(registry: &HealthRegistry, data: &Path, floor: MinFree) {
    match free_bytes(data).and_then(|free| make_a_file(data, "health").map(|()| free)) {
        Ok(free) => {
            let (is, should) = (format_bytes(free), format_bytes(floor.0));
            let (status, message) = if !has_inodes(data) {
                (
                    Status::Down,
                    "nearly no inode is free: pushes are refused, and runs wait".to_owned(),
                )
            } else if free < floor.push_threshold() {
                (
                    Status::Down,
                    format!(
                        "{is} free, less than the minimum of {should}: pushes are refused, and runs wait"
                    ),
                )
            } else if floor.blocks_runs(free) {
                (
                    Status::Degraded,
                    format!("{is} free, less than the minimum of {should}: runs wait"),
                )
            } else if free / 2 < floor.0 {
                (
                    Status::Degraded,
                    format!("{is} free, close to the minimum of {should}"),
                )
            } else {
                (Status::Ok, format!("{is} free"))
            };
            registry.set(
                Component::Disk,
                status,
                message,
                Some(Measurement {
                    what: "free_bytes",
                    value: free,
                }),
            );
        }
        Err(error) => {
            tracing::error!("health: the volume {}: {error}", data.display());
            registry.set(
                Component::Disk,
                Status::Down,
                format!("the volume cannot be written: {}", error.kind()),
                None,
            );
        }
    }
}

fn sshd(registry: &HealthRegistry, path: &Path) {
    let status = match InitStatus::read(path) {
        Ok(status) => status,
        Err(error) => {
            tracing::error!("health: {}", error_chain::chain(&error));
            registry.set(
                Component::Sshd,
                Status::Degraded,
                "the status file of `quire init` cannot be read; the log has the details",
                None,
            );
            return;
        }
    };
    match status
        .as_ref()
        .and_then(|status| status.children.get("sshd"))
    {
        Some(sshd) => {
            let (status, message) = sshd_health(sshd);
            let restarts = Measurement {
                what: "restarts",
                value: sshd.restarts,
            };
            registry.set(Component::Sshd, status, message, Some(restarts));
        }
        // `quire serve` runs without `quire init`, and so without an sshd of quire.
        None => registry.clear(Component::Sshd),
    }
}

fn sshd_health(sshd: &ChildStatus) -> (Status, String) {
    match (sshd.state, sshd.last_exit) {
        (ChildState::Running, _) if sshd.answers == Some(false) => (
            Status::Down,
            "running, but it does not answer; `quire init` restarts it if that goes on".to_owned(),
        ),
        (ChildState::Running, _) => (Status::Ok, "running".to_owned()),
        (ChildState::Backoff, None) => (Status::Degraded, "not started yet".to_owned()),
        (ChildState::Backoff, Some(exit)) => (
            Status::Degraded,
            format!("ended with {exit}; waiting to be restarted"),
        ),
        (ChildState::Stopped, _) => (Status::Down, "stopped".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::{Clock, Millis};
    use quire_types::init_status::{ChildExit, InitPhase};

    fn told(registry: &HealthRegistry, part: Component) -> Option<(Status, String)> {
        registry
            .readings()
            .into_iter()
            .find(|r| r.part == part)
            .map(|r| (r.status, r.message))
    }

    fn init_status(sshd: Option<ChildStatus>) -> InitStatus {
        InitStatus {
            pid: 1,
            version: "0.1.0".to_owned(),
            phase: InitPhase::Running,
            started_at: Millis(0),
            children: sshd
                .map(|sshd| ("sshd".to_owned(), sshd))
                .into_iter()
                .collect(),
            keys: 1,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_health_of_sshd_follows_the_status_file_of_init() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let registry = HealthRegistry::new(Clock::default());
        let health = |text: &str| {
            std::fs::write(&path, text).unwrap();
            sshd(&registry, &path);
            told(&registry, Component::Sshd)
        };
        sshd(&registry, &path);
        assert_eq!(told(&registry, Component::Sshd), None);
        for (state, last_exit, expected) in [
            (ChildState::Running, None, (Status::Ok, "running")),
            (
                ChildState::Running,
                Some(ChildExit::Signal(9)),
                (Status::Ok, "running"),
            ),
            (
                ChildState::Backoff,
                None,
                (Status::Degraded, "not started yet"),
            ),
            (
                ChildState::Backoff,
                Some(ChildExit::Code(255)),
                (
                    Status::Degraded,
                    "ended with exit code 255; waiting to be restarted",
                ),
            ),
            (
                ChildState::Stopped,
                Some(ChildExit::Code(0)),
                (Status::Down, "stopped"),
            ),
        ] {
            // As `init` writes it: both sides share the type.
            let status = init_status(Some(ChildStatus {
                state,
                last_exit,
                ..ChildStatus::default()
            }));
            let text = serde_json::to_string(&status).unwrap();
            let (status, message) = health(&text).unwrap();
            assert_eq!((status, message.as_str()), expected, "{text}");
        }
        for unreadable in [
            r#"{"children":"#,
            r#"{"children":{"sshd":{"state":"waiting"}}}"#,
        ] {
            assert_eq!(health(unreadable).unwrap().0, Status::Degraded);
        }
        let without_sshd = serde_json::to_string(&init_status(None)).unwrap();
        assert_eq!(health(&without_sshd), None);
    }

    #[test]
    fn a_disk_below_the_floor_is_degraded_then_down() {
        let (folder, registry) = (
            tempfile::tempdir().unwrap(),
            HealthRegistry::new(Clock::default()),
        );
        disk(&registry, folder.path(), MinFree(0));
        assert_eq!(told(&registry, Component::Disk).unwrap().0, Status::Ok);
        let free = free_bytes(folder.path()).unwrap();
        for (floor, status, words) in [
            (free / 3 * 4, Status::Degraded, "runs wait"),
            (u64::MAX, Status::Down, "pushes are refused"),
        ] {
            disk(&registry, folder.path(), MinFree(floor));
            let (found, message) = told(&registry, Component::Disk).unwrap();
            assert!(found == status && message.contains(words), "{message}");
        }
        disk(&registry, &folder.path().join("gone"), MinFree(0));
        assert_eq!(told(&registry, Component::Disk).unwrap().0, Status::Down);
    }
}
