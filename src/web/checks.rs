//! The background checks that need nothing but the store, the disk and the status file of `init`.
//! Each writes its finding to the [`HealthBoard`]; the others (Docker, the event socket) are written
//! by whoever holds those.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::health::{Figure, HealthBoard, Part, Status};
use super::{WebState, html};
use crate::space::{Floor, free_bytes};
use crate::store::Counts;

const PERIOD: Duration = Duration::from_secs(10);
/// How often the database has to take a write: a disk that wears out by writing should not by being asked.
const WRITE_EVERY: Duration = Duration::from_secs(60);
const ROUND_TIME: Duration = Duration::from_secs(30);
/// A run that waits this long while none is active points at something that is stuck.
const LONG_WAIT_MS: u64 = 10 * 60 * 1000;
/// `init` writes a few hundred bytes.
const MAX_STATUS_BYTES: u64 = 64 << 10;

/// Checks again and again until `shutdown`. The first round is over before this waits.
pub async fn watch(state: WebState, shutdown: CancellationToken) {
    let mut written = None;
    loop {
        tokio::select! {
            () = round(&state, &mut written) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// `written` is when the database was last seen to take a write.
async fn round(state: &WebState, written: &mut Option<Instant>) {
    // What does not answer in time keeps its old reading, which the board then shows as too old.
    let _ = tokio::join!(
        timeout(ROUND_TIME, store(state, written)),
        timeout(ROUND_TIME, files(state))
    );
}

async fn store(state: &WebState, written: &mut Option<Instant>) {
    let probe = written.is_none_or(|at| at.elapsed() >= WRITE_EVERY);
    let checked = move |s: &crate::store::Store| {
        if probe {
            s.probe_write()?;
        }
        Ok((s.counts()?, s.database_bytes()))
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
        Ok((counts, bytes)) => {
            let figure = Figure {
                what: "bytes",
                value: bytes,
            };
            state.health.set(
                Part::Database,
                Status::Ok,
                "readable and writable",
                Some(figure),
            );
            queue(state, &counts);
        }
        Err(error) => {
            tracing::error!("health: database: {error}");
            state.health.set(
                Part::Database,
                Status::Down,
                "cannot be read and written; the log says why",
                None,
            );
        }
    }
}

fn queue(state: &WebState, counts: &Counts) {
    let waited = counts
        .oldest_pending_ms
        .map_or(0, |at| state.clock.now().since(at));
    let stuck = waited > LONG_WAIT_MS && counts.active == 0;
    let message = match counts.pending {
        0 => format!("empty, {} active", counts.active),
        n => format!(
            "{n} waiting, the oldest for {}, {} active",
            html::duration(waited),
            counts.active
        ),
    };
    let status = if stuck { Status::Degraded } else { Status::Ok };
    state.health.set(
        Part::Queue,
        status,
        message,
        Some(Figure {
            what: "pending",
            value: counts.pending,
        }),
    );
}

async fn files(state: &WebState) {
    let (board, paths) = (state.health.clone(), state.paths.clone());
    let checks = tokio::task::spawn_blocking(move || {
        sshd(&board, &paths.status());
        disk(&board, paths.data(), Floor::told(&paths));
    });
    if let Err(error) = checks.await {
        tracing::error!("health: a check ended early: {error}");
    }
}

/// Proves that a file can be made on the volume: one that turned read-only may still take writes to files that are open.
fn make_a_file(data: &Path) -> io::Result<()> {
    let probe = data.join(".probe");
    std::fs::write(&probe, "health")?;
    std::fs::remove_file(probe)
}

fn disk(board: &HealthBoard, data: &Path, floor: Floor) {
    match free_bytes(data).and_then(|free| make_a_file(data).map(|()| free)) {
        Ok(free) => {
            let (is, should) = (html::bytes(free), html::bytes(floor.0));
            let (status, message) = if free < floor.for_pushes() {
                (
                    Status::Down,
                    format!("{is} free, {should} should be: pushes are refused, and runs wait"),
                )
            } else if floor.holds_runs(free) {
                (
                    Status::Degraded,
                    format!("{is} free, {should} should be: runs wait"),
                )
            } else if free / 2 < floor.0 {
                (
                    Status::Degraded,
                    format!("{is} free, at least {should} should stay so"),
                )
            } else {
                (Status::Ok, format!("{is} free"))
            };
            board.set(
                Part::Disk,
                status,
                message,
                Some(Figure {
                    what: "free_bytes",
                    value: free,
                }),
            );
        }
        Err(error) => {
            tracing::error!("health: the volume {}: {error}", data.display());
            board.set(
                Part::Disk,
                Status::Down,
                format!("the volume cannot be written: {}", error.kind()),
                None,
            );
        }
    }
}

/// What is read of the status file of `init`.
#[derive(Debug, Deserialize)]
pub(super) struct InitStatus {
    pub(super) children: Children,
}

/// The children of `init`, by name.
#[derive(Debug, Deserialize)]
pub(super) struct Children {
    pub(super) sshd: Option<Child>,
    pub(super) serve: Option<Child>,
}

/// One child of `init`.
#[derive(Debug, Deserialize)]
pub(super) struct Child {
    pub(super) state: String,
    #[serde(default)]
    pub(super) restarts: u64,
}

/// Reads the status file; none where no `init` of ours runs.
pub(super) fn init_status(path: &Path) -> io::Result<Option<InitStatus>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_STATUS_BYTES).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

fn sshd(board: &HealthBoard, path: &Path) {
    match init_status(path) {
        Ok(Some(InitStatus {
            children: Children {
                sshd: Some(sshd), ..
            },
        })) => {
            let figure = Figure {
                what: "restarts",
                value: sshd.restarts,
            };
            let (status, message) = match sshd.state.as_str() {
                "running" => (Status::Ok, "running".to_owned()),
                "starting" | "stopping" => (Status::Degraded, sshd.state),
                other => (
                    Status::Down,
                    format!(
                        "not running ({})",
                        other.chars().take(40).collect::<String>()
                    ),
                ),
            };
            board.set(Part::Sshd, status, message, Some(figure));
        }
        // `quire serve` on its own: there is no sshd of ours to speak of.
        Ok(_) => board.clear(Part::Sshd),
        Err(error) => {
            tracing::error!("health: {}: {error}", path.display());
            board.set(
                Part::Sshd,
                Status::Degraded,
                "the status file of `quire init` cannot be read",
                None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn told(board: &HealthBoard, part: Part) -> Option<(Status, String)> {
        board
            .readings()
            .into_iter()
            .find(|r| r.part == part)
            .map(|r| (r.status, r.message))
    }

    #[test]
    fn sshd_is_what_init_says() {
        let folder = tempfile::tempdir().unwrap();
        let (path, board) = (
            folder.path().join("status.json"),
            HealthBoard::new(Clock::default()),
        );
        sshd(&board, &path);
        assert_eq!(told(&board, Part::Sshd), None);
        for (text, status) in [
            (
                r#"{"children":{"sshd":{"pid":7,"state":"running","restarts":2,"last_exit":null},"serve":{"state":"running"}}}"#,
                Status::Ok,
            ),
            (r#"{"children":{"sshd":{"state":"waiting"}}}"#, Status::Down),
            (r#"{"children":"#, Status::Degraded),
        ] {
            std::fs::write(&path, text).unwrap();
            sshd(&board, &path);
            assert_eq!(told(&board, Part::Sshd).unwrap().0, status, "{text}");
        }
        std::fs::write(&path, r#"{"children":{}}"#).unwrap();
        sshd(&board, &path);
        assert_eq!(told(&board, Part::Sshd), None);
    }

    #[test]
    fn a_disk_below_the_floor_is_degraded_then_down() {
        let (folder, board) = (
            tempfile::tempdir().unwrap(),
            HealthBoard::new(Clock::default()),
        );
        disk(&board, folder.path(), Floor(0));
        assert_eq!(told(&board, Part::Disk).unwrap().0, Status::Ok);
        let free = free_bytes(folder.path()).unwrap();
        for (floor, status, words) in [
            (free / 3 * 4, Status::Degraded, "runs wait"),
            (u64::MAX, Status::Down, "pushes are refused"),
        ] {
            disk(&board, folder.path(), Floor(floor));
            let (found, message) = told(&board, Part::Disk).unwrap();
            assert!(found == status && message.contains(words), "{message}");
        }
        disk(&board, &folder.path().join("gone"), Floor(0));
        assert_eq!(told(&board, Part::Disk).unwrap().0, Status::Down);
    }
}
