//! The server of the control socket: one JSON request in, one JSON response out. Every byte that
//! arrives is untrusted input.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache_requests;
use super::import_requests::import_repo;
use super::program::send_program;
use super::protocol::{
    CacheEntry, ComponentProblem, ControlRequest, ControlResponse, MirrorSyncResult, ReloadReport,
};
use super::send_response::{IO_TIMEOUT, send_response};
use crate::doctor::{Doctor, DoctorFinding};
use crate::hooks::Hooks;
use crate::housekeeping::Housekeeping;
use crate::intake::Intake;
use crate::mirror::{MirrorService, SyncedMirror};
use crate::notify::Notifications;
use crate::part_problem::PartProblem;
use crate::queue::Queue;
use quire_executor::{Executor, ExecutorError};
use quire_runtime::blocking::run_blocking;
use quire_store::{Store, StoreError};
use quire_types::error_chain::with_sources;

/// The part that the check of everything looks at by itself.
const NOTIFICATIONS: &str = "notifications";
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 4096;
/// How many connections are served at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 256;

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

/// Answers requests with the parts of the running server that each concerns.
pub struct ControlServer {
    pub intake: Intake,
    pub queue: Queue,
    pub store: Store,
    pub housekeeping: Housekeeping,
    pub notifications: Notifications,
    pub doctor: Arc<Doctor>,
    pub mirrors: MirrorService,
    pub hooks: Hooks,
    /// Loads the configuration again.
    pub reload: Arc<dyn Fn() -> ReloadReport + Send + Sync>,
    /// The program itself, opened by a user who may read it.
    pub program: Option<Arc<File>>,
    /// The first one executes new runs; the others may still hold caches of earlier runs.
    pub executors: Vec<Arc<dyn Executor>>,
}

impl ControlServer {
    /// Serves clients until `stop` is cancelled. Requests that were accepted are answered.
    pub async fn serve(self, listener: UnixListener, stop: &CancellationToken) {
        let server = Arc::new(self);
        let tracker = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Some(stream) = stop.run_until_cancelled(accept(&listener)).await {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                break;
            };
            let (server, stop) = (server.clone(), stop.clone());
            tracker.spawn(async move {
                if let Err(error) = server.handle_client(stream, &stop).await {
                    tracing::debug!(%error, "a client of the control socket disconnected");
                }
                drop(permit);
            });
        }
        tracker.close();
        let _ = tokio::time::timeout(IO_TIMEOUT, tracker.wait()).await;
    }

    async fn handle_client(
        &self,
        stream: UnixStream,
        stop: &CancellationToken,
    ) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut line = Vec::new();
        let mut reader = BufReader::new(reader.take(MAX_REQUEST));
        tokio::time::timeout(IO_TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
        let response = match serde_json::from_slice(&line) {
            Ok(ControlRequest::ImportRepo(request)) => {
                let client = (&mut reader, &mut writer);
                let imported = import_repo(&self.mirrors, &request, client);
                match stop.run_until_cancelled(imported).await {
                    Some(response) => response?,
                    None => failed("the server is stopping; the same command goes on from here"),
                }
            }
            Ok(ControlRequest::Program) => {
                send_program(self.program.as_ref(), &mut writer).await?;
                return writer.shutdown().await;
            }
            Ok(request) => self.respond(request).await,
            Err(error) => failed(format!("not a request: {error}")),
        };
        send_response(&mut writer, &response).await?;
        writer.shutdown().await
    }

    async fn respond(&self, request: ControlRequest) -> ControlResponse {
        match request {
            ControlRequest::EventSpooled { event, reached } => {
                match self.intake.take(event, reached).await {
                    Ok(result) => ControlResponse::Runs {
                        runs: result.runs,
                        notes: result.notes,
                    },
                    Err(error) => {
                        tracing::error!(%event, error = with_sources(&error), "cannot record a push event; it stays in the spool");
                        failed(
                            "the push event could not be recorded now; quire keeps it and retries",
                        )
                    }
                }
            }
            ControlRequest::Caches { repo } => caches_response(
                cache_requests::list_with_usage(&self.store, &self.executors, repo.as_ref()).await,
            ),
            ControlRequest::ClearCaches { repo, name } => caches_response(
                cache_requests::clear(&self.store, &self.executors, &repo, name.as_deref()).await,
            ),
            ControlRequest::PushBegun { repo } => {
                if let Some(executor) = self.executors.first() {
                    executor.expect_run(&repo);
                }
                ControlResponse::Ok
            }
            ControlRequest::Wake => {
                self.queue.wake();
                ControlResponse::Ok
            }
            ControlRequest::ListProblems => match self.problems().await {
                Ok(mut problems) => {
                    let report = self.doctor.newest().borrow().clone();
                    let failed = report.map(|report| report.problems());
                    problems.extend(of_part("doctor", failed.unwrap_or_default()));
                    ControlResponse::Problems { problems }
                }
                Err(error) => failed(error.to_string()),
            },
            ControlRequest::Doctor => self.examine().await,
            ControlRequest::TestNotification { target } => {
                match self.notifications.test(&target).await {
                    Ok(()) => ControlResponse::Ok,
                    Err(error) => failed(error.to_string()),
                }
            }
            ControlRequest::SyncMirrors {
                repo,
                name,
                new_host_key,
            } => {
                let synced = self.mirrors.sync(&repo, name.as_deref(), new_host_key);
                match synced.await {
                    Ok(synced) => ControlResponse::Mirrors {
                        mirrors: synced.into_iter().map(sync_result).collect(),
                    },
                    Err(error) => failed(error.to_string()),
                }
            }
            // It was answered before: its progress needs the connection.
            ControlRequest::ImportRepo(_) | ControlRequest::Program => {
                failed("this request needs a connection of its own")
            }
            ControlRequest::Reload => {
                let reload = self.reload.clone();
                match run_blocking(move || reload()).await {
                    Ok(report) => ControlResponse::Reloaded(report),
                    Err(error) => failed(error.to_string()),
                }
            }
            ControlRequest::CollectGarbage => {
                ControlResponse::Collected(self.housekeeping.run_once().await)
            }
        }
    }

    async fn problems(&self) -> Result<Vec<ComponentProblem>, StoreError> {
        let found = self.housekeeping.problems().await?;
        let notifications = self.notifications.problems().await?;
        let mirrors = self.mirrors.problems().await?;
        Ok([
            of_part("maintenance", found.maintenance),
            of_part("schedules", found.schedules),
            of_part("repositories", found.repositories),
            of_part(NOTIFICATIONS, notifications),
            of_part("mirrors", mirrors),
            of_part("webhooks", self.hooks.problems().await),
        ]
        .concat())
    }

    /// Checks everything, and adds what is known to be wrong already. The check says itself what is known of notifications.
    async fn examine(&self) -> ControlResponse {
        let mut findings = self.doctor.examine().await;
        match self.problems().await {
            Ok(problems) => findings.extend(
                problems
                    .into_iter()
                    .filter(|problem| problem.part != NOTIFICATIONS)
                    .map(|problem| DoctorFinding::of_problem(&problem.part, problem.text)),
            ),
            Err(error) => return failed(error.to_string()),
        }
        ControlResponse::Examined { findings }
    }
}

fn of_part(part: &str, problems: Vec<PartProblem>) -> Vec<ComponentProblem> {
    let problem = |problem: PartProblem| ComponentProblem {
        part: part.to_owned(),
        text: problem.text,
    };
    problems.into_iter().map(problem).collect()
}

fn sync_result(synced: SyncedMirror) -> MirrorSyncResult {
    let SyncedMirror { name, problem } = synced;
    MirrorSyncResult { name, problem }
}

fn caches_response(result: Result<Vec<CacheEntry>, ExecutorError>) -> ControlResponse {
    result.map_or_else(
        |error| failed(error.to_string()),
        |caches| ControlResponse::Caches { caches },
    )
}

fn failed(message: impl Into<String>) -> ControlResponse {
    ControlResponse::Error {
        message: message.into(),
    }
}

/// Accepts a connection. Without a free descriptor it waits instead of spinning.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
