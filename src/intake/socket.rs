//! The event socket: one JSON line in, one JSON line out. Whatever arrives here is foreign.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Intake, caches};
use crate::run::event::{Finding, SocketAnswer, SocketRequest};

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 4096;
/// How long a client may take to say what it wants, and to hear the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 256;

/// Binds the socket, replacing one that a crash left behind.
///
/// # Errors
/// The folder cannot be written, or another server listens there.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(
            ErrorKind::AddrInUse,
            format!("another quire serves {}", path.display()),
        ));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers clients until told to stop; those in hand are answered to the end.
pub(super) async fn serve(intake: &Intake, listener: UnixListener, stop: &CancellationToken) {
    let tracker = TaskTracker::new();
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener)).await {
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let intake = intake.clone();
        tracker.spawn(async move {
            if let Err(error) = serve_one(&intake, accepted).await {
                tracing::debug!(%error, "a client of the event socket went away");
            }
            drop(place);
        });
    }
    tracker.close();
    let _ = tokio::time::timeout(PATIENCE, tracker.wait()).await;
}

/// Accepts; out of descriptors it waits instead of spinning.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "the event socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(intake: &Intake, stream: UnixStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST));
    tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice(&line) {
        Ok(request) => answer(intake, request).await,
        Err(error) => SocketAnswer::Error {
            message: format!("not a request: {error}"),
        },
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    tokio::time::timeout(PATIENCE, writer.write_all(&text)).await??;
    writer.shutdown().await
}

async fn answer(intake: &Intake, request: SocketRequest) -> SocketAnswer {
    match request {
        SocketRequest::Taken { event } => match intake.take(event).await {
            Ok(taken) => SocketAnswer::Runs {
                runs: taken.runs,
                notes: taken.notes,
            },
            Err(error) => {
                tracing::error!(%event, error = &error as &dyn std::error::Error, "an event could not be taken; it stays in the spool");
                SocketAnswer::Error {
                    message: "the event could not be recorded now; it is kept and tried again"
                        .to_owned(),
                }
            }
        },
        SocketRequest::Caches { repo } => caches::answer(
            caches::list_in_full(&intake.0.store, &intake.0.executors, repo.as_ref()).await,
        ),
        SocketRequest::ClearCaches { repo, name } => {
            caches::answer(caches::clear(&intake.0.executors, &repo, name.as_deref()).await)
        }
        SocketRequest::Wake => {
            intake.0.queue.wake();
            SocketAnswer::Ok
        }
        SocketRequest::Findings => match intake.0.housekeeping.findings().await {
            Ok(found) => {
                let of = |part: &str, texts: Vec<String>| {
                    texts
                        .into_iter()
                        .map(|text| Finding {
                            part: part.to_owned(),
                            text,
                        })
                        .collect::<Vec<_>>()
                };
                SocketAnswer::Findings {
                    findings: [
                        of("maintenance", found.maintenance),
                        of("schedules", found.schedules),
                    ]
                    .concat(),
                }
            }
            Err(error) => SocketAnswer::Error {
                message: error.to_string(),
            },
        },
        SocketRequest::Housekeep => SocketAnswer::Freed(intake.0.housekeeping.round().await),
    }
}
