//! `quire serve`: puts the parts together, starts them in order, and stops them in order.
//!
//! Order of starting: configuration, database (copied and migrated where due), event socket, web;
//! then, side by side, the intake (drain the spool, compare refs, listen) and the runner (reconcile,
//! then claim). TERM: the web lets its streams go, the runner ends what it drives, the intake
//! finishes what it holds.

mod parts;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Loaded};
use crate::housekeeping::{self, Housekeeping, Kept};
use crate::intake::{self, Intake};
use crate::live::Live;
use crate::meter::Meter;
use crate::paths::Paths;
use crate::queue::Queue;
use crate::runner::{self, Runner, RunnerConfig};
use crate::store::{Store, StoreError};
use crate::web::{self, HealthBoard, Part, Status, WebState};

/// How long an address may be in use before that counts as somebody else's server.
const HANDOVER: Duration = Duration::from_secs(2);

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration does not load.
    #[error("the configuration does not load")]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of the operating system was refused.
    #[error("cannot {attempt}")]
    System {
        /// What was attempted.
        attempt: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

fn system(attempt: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServeError {
    move |source| ServeError::System { attempt: attempt.into(), source }
}

/// Runs the server until TERM or INT.
///
/// # Errors
/// It cannot start.
pub fn run(paths: &Paths) -> Result<(), ServeError> {
    parts::start_log();
    let loaded = load(paths)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(1 << 20).build();
    let runtime = runtime.map_err(system("start the runtime"))?;
    let served = runtime.block_on(serve(paths.clone(), loaded.config));
    // A blocking call that hangs (a disk, an engine) must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

fn load(paths: &Paths) -> Result<Loaded, ConfigError> {
    let loaded = Config::load(paths, parts::variable)?;
    for warning in &loaded.warnings {
        tracing::warn!(hint = warning.hint.as_deref().unwrap_or_default(), "configuration: {warning}");
    }
    Ok(loaded)
}

async fn serve(paths: Paths, config: Config) -> Result<(), ServeError> {
    let shutdown = CancellationToken::new();
    // Before anything that takes time: TERM during the start must count.
    let mut signals = Signals::new()?;
    parts::make_folders(&paths).map_err(|(path, source)| system(format!("make {}", path.display()))(source))?;
    parts::tell_push_path(&paths, &config).map_err(system("write what git has to know"))?;
    let clock = Clock::system();
    let store = open(&paths, &clock).await?;
    let instance = store.call(|store| store.instance_id()).await?;
    let live = Live::default();
    let queue = Queue::new(store.clone(), live.clone());
    let meter = Meter::default();
    let web_config = parts::web_config(&config);
    let (keep, kept) = tokio::sync::watch::channel(parts::kept(&config));
    let housekeeping = Housekeeping::new(housekeeping::Parts { paths: paths.clone(), store: store.clone(), live: live.clone(), kept });
    let executors = parts::executors(&config, &instance, &paths);
    let (about, url) = (executors.clone(), web_config.url.clone());
    let intake = Intake::new(paths.clone(), store.clone(), queue.clone(), meter.clone(), housekeeping.clone(), about, url);
    let (reload, runner_config) = tokio::sync::watch::channel(Arc::new(parts::runner_config(&config)));
    let program = std::env::current_exe().map_err(system("find the quire binary"))?;
    let runner = Runner::new(runner::Parts {
        store: store.clone(),
        queue: queue.clone(),
        live: live.clone(),
        meter: meter.clone(),
        paths: paths.clone(),
        executors: executors.clone(),
        program,
        config: runner_config,
    });

    let socket = bound(async || intake::bind(&paths.socket())).await;
    let socket = socket.map_err(system(format!("listen on {}", paths.socket().display())))?;
    let attach = bound(async || intake::bind(&paths.attach_socket())).await;
    let attach = attach.map_err(system(format!("listen on {}", paths.attach_socket().display())))?;
    let address = parts::listen_address(&config);
    let listener = bound(async || TcpListener::bind(&address).await).await.map_err(system(format!("listen on {address}")))?;
    let health = HealthBoard::new(clock.clone());
    health.set(Part::Config, Status::Ok, parts::loaded(), None);
    let state =
        WebState { store, paths: paths.clone(), live, clock, config: web_config, queue, meter: meter.clone(), health: health.clone() };
    parts::note_endpoint(&paths, address, &state.config.url).map_err(system("note where the server listens"))?;
    tracing::info!(%address, "listening");

    let work = async {
        tokio::join!(
            web::watch(state.clone(), shutdown.child_token()),
            async {
                let router = web::router(state.clone());
                if let Err(error) = web::serve(listener, router, shutdown.child_token(), parts::web_limits(&config)).await {
                    tracing::error!(%error, "the web ended");
                }
            },
            async {
                intake.drain().await;
                intake.compare_refs(state.store.is_fresh()).await;
                health.set(Part::EventSocket, Status::Ok, "listening", None);
                let watched = shutdown.run_until_cancelled(watch::intake(&intake, &health));
                tokio::join!(intake.clone().run(socket, shutdown.child_token()), watched);
            },
            async {
                shutdown.run_until_cancelled(watch::engine(&executors, &health, &meter)).await;
            },
            runner.attend(attach, shutdown.child_token()),
            runner.clone().run(shutdown.clone()),
            housekeeping.run(shutdown.child_token()),
        );
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            () = &mut work => return Ok(()),
            signal = signals.next() => match signal {
                Signal::Stop => {
                    if !shutdown.is_cancelled() {
                        tracing::info!("stopping");
                        shutdown.cancel();
                    }
                }
                Signal::Reload => reload_config(&paths, &reload, &keep, &health),
            },
        }
    }
}

/// Binds an address, and waits a little for one that is in use: a server that was killed while it started a
/// child leaves, until that child executes its program, one more process that holds the server's sockets.
async fn bound<T>(attempt: impl AsyncFn() -> std::io::Result<T>) -> std::io::Result<T> {
    let deadline = tokio::time::Instant::now() + HANDOVER;
    loop {
        match attempt().await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
}

async fn open(paths: &Paths, clock: &Clock) -> Result<Store, StoreError> {
    let (database, backups, clock) = (paths.database(), paths.backups(), clock.clone());
    let journal = parts::journal();
    // A migration may take long; it must not hold the thread that hears signals.
    let opened = tokio::task::spawn_blocking(move || Store::open(&database, &backups, journal, clock));
    opened.await.unwrap_or(Err(StoreError::Interrupted))
}

/// Replaces what can be replaced while runs go on; what cannot is said.
fn reload_config(paths: &Paths, reload: &Sender<Arc<RunnerConfig>>, keep: &Sender<Kept>, health: &HealthBoard) {
    match load(paths) {
        Ok(loaded) => {
            if let Err(error) = parts::tell_push_path(paths, &loaded.config) {
                tracing::error!(%error, "cannot write what git has to know");
            }
            keep.send_replace(parts::kept(&loaded.config));
            reload.send_replace(Arc::new(parts::runner_config(&loaded.config)));
            health.set(Part::Config, Status::Ok, parts::loaded(), None);
            tracing::info!("configuration reloaded; changes of :http, :ssh, :ci :executor and :ci :engine need a restart");
        }
        Err(error) => {
            health.set(
                Part::Config,
                Status::Degraded,
                "the changed configuration does not load; the old one is in force, the log says why",
                None,
            );
            tracing::error!(error = &error as &dyn std::error::Error, "the configuration does not load; the old one stays in force");
            for diagnostic in error.diagnostics() {
                tracing::error!(hint = diagnostic.hint.as_deref().unwrap_or_default(), "configuration: {diagnostic}");
            }
        }
    }
}

enum Signal {
    Stop,
    Reload,
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        let hear = |kind| signal(kind).map_err(system("hear signals"));
        Ok(Self { term: hear(SignalKind::terminate())?, int: hear(SignalKind::interrupt())?, hup: hear(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}
