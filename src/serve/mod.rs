//! `quire serve`: puts the parts together, starts them in order, and stops them in order.
//!
//! Order of starting: configuration, the web's address (which says `starting` from here on), database (copied and
//! migrated where due), names (renames that were begun), event socket, web; then, side by side, the intake (drain the spool,
//! compare refs, listen) and the runner (reconcile,
//! then claim). TERM: the web lets its streams go, the runner ends what it drives, the intake
//! finishes what it holds.

mod parts;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::Sender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Loaded};
use crate::housekeeping::{self, Housekeeping, Kept};
use crate::intake::{self, Intake};
use crate::live::Live;
use crate::meter::Meter;
use crate::paths::Paths;
use crate::proc;
use crate::queue::Queue;
use crate::renaming::Renaming;
use crate::runner::{self, Runner, RunnerConfig};
use crate::store::{Store, StoreError};
use crate::web::{self, Door, HealthBoard, Part, Status, WebState};

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
    move |source| ServeError::System {
        attempt: attempt.into(),
        source,
    }
}

/// Runs the server until TERM or INT.
///
/// # Errors
/// It cannot start.
pub fn run(paths: &Paths) -> Result<(), ServeError> {
    proc::bound_heap();
    parts::start_log();
    let loaded = load(paths)?;
    let (runtime, web) = (runtime("work")?, runtime("web")?);
    let served = runtime.block_on(serve(paths.clone(), loaded.config, web.handle().clone()));
    // A blocking call that hangs (a disk, an engine) must not keep the process.
    web.shutdown_timeout(Duration::from_millis(200));
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

/// The web has threads of its own: logs are written by those of the work, and where a disk hangs so do they. Health
/// is answered all the same.
fn runtime(name: &str) -> Result<tokio::runtime::Runtime, ServeError> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(1 << 20)
        .thread_name(name)
        .build();
    built.map_err(system("start the threads"))
}

fn load(paths: &Paths) -> Result<Loaded, ConfigError> {
    let loaded = Config::load(paths, parts::variable)?;
    for warning in &loaded.warnings {
        tracing::warn!(
            hint = warning.hint.as_deref().unwrap_or_default(),
            "configuration: {warning}"
        );
    }
    Ok(loaded)
}

async fn serve(paths: Paths, config: Config, web_runtime: Handle) -> Result<(), ServeError> {
    let shutdown = CancellationToken::new();
    // Before anything that takes time: TERM during the start must count.
    let mut signals = Signals::new()?;
    parts::make_folders(&paths)
        .map_err(|(path, source)| system(format!("make {}", path.display()))(source))?;
    parts::tell_push_path(&paths, &config).map_err(system("write what git has to know"))?;
    let clock = Clock::system();
    let health = HealthBoard::new(clock.clone());
    health.set(Part::Config, Status::Ok, parts::loaded(), None);
    let web_config = parts::web_config(&config);
    let address = parts::listen_address(&config);
    let listener = bound(async || TcpListener::bind(&address).await)
        .await
        .map_err(system(format!("listen on {address}")))?;
    parts::note_endpoint(&paths, address, &web_config.url)
        .map_err(system("note where the server listens"))?;
    tracing::info!(%address, "listening");
    // Who asks meanwhile hears that it is starting: a migration may take long.
    let door = Door::new(health.clone());
    let limits = parts::web_limits(&config);
    let (listener, router, stop) = (
        listener
            .into_std()
            .map_err(system(format!("listen on {address}")))?,
        door.router(),
        shutdown.child_token(),
    );
    let web = AbortOnDropHandle::new(web_runtime.spawn(async move {
        // Heard by the threads that it is served by.
        web::serve(TcpListener::from_std(listener)?, router, stop, limits).await
    }));
    let store = open(&paths, &clock).await?;
    let instance = store.call(|store| store.instance_id()).await?;
    parts::note_instance(&paths, &instance).map_err(system("note which instance this is"))?;
    let live = Live::default();
    let queue = Queue::new(store.clone(), live.clone());
    let renaming = Renaming::new(&paths, store.clone());
    settle_names(&renaming).await;
    let meter = Meter::default();
    let (keep, kept) = tokio::sync::watch::channel(parts::kept(&config));
    let executors = parts::executors(&config, &instance, &paths);
    let housekeeping = Housekeeping::new(housekeeping::Parts {
        paths: paths.clone(),
        store: store.clone(),
        live: live.clone(),
        executors: executors.clone(),
        kept,
    });
    let (about, url) = (executors.clone(), web_config.url.clone());
    let intake = Intake::new(
        paths.clone(),
        store.clone(),
        queue.clone(),
        meter.clone(),
        housekeeping.clone(),
        about,
        url,
    );
    let (reload, runner_config) =
        tokio::sync::watch::channel(Arc::new(parts::runner_config(&config)));
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
    let attach = attach.map_err(system(format!(
        "listen on {}",
        paths.attach_socket().display()
    )))?;
    let state = WebState {
        store,
        paths: paths.clone(),
        live,
        clock,
        config: web_config,
        queue,
        meter: meter.clone(),
        health: health.clone(),
    };

    // Each a task of its own: what waits for a slow disk or a silent engine holds up nothing else.
    let mut work = JoinSet::new();
    door.open(web::router(state.clone()));
    work.spawn(async move {
        match web.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the web ended"),
            Err(error) => tracing::error!(%error, "internal error: the web broke off"),
        }
    });
    work.spawn(take_events(
        intake,
        socket,
        health.clone(),
        shutdown.clone(),
    ));
    let (attending, stop) = (runner.clone(), shutdown.child_token());
    work.spawn(async move { attending.attend(attach, stop).await });
    work.spawn(runner.run(shutdown.clone()));
    work.spawn(renaming.keep(state.queue.clone(), shutdown.child_token()));
    work.spawn_on(web::watch(state, shutdown.child_token()), &web_runtime);
    let (stop, board, looked_after) = (shutdown.clone(), health.clone(), housekeeping.clone());
    work.spawn(async move {
        let watched = async {
            tokio::join!(
                watch::engine(&executors, &board, &meter),
                watch::upkeep(&looked_after, &board)
            )
        };
        stop.run_until_cancelled(watched).await;
    });
    work.spawn(housekeeping.run(shutdown.child_token()));
    loop {
        tokio::select! {
            ended = work.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(())) => {}
                // A fault of ours: init starts all of it again, which puts right what this leaves.
                Some(Err(error)) => return Err(system("go on: a part of the server broke off")(std::io::Error::other(error))),
            },
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

/// Takes what lies in the spool, compares refs, then looks at both now and then. Pushes are answered from the beginning:
/// a repository that hangs is no other's affair.
async fn take_events(
    intake: Intake,
    socket: UnixListener,
    health: HealthBoard,
    stop: CancellationToken,
) {
    let caught_up = async {
        intake.drain().await;
        intake.compare_refs().await;
    };
    let catch_up_and_watch = async {
        stop.run_until_cancelled(caught_up).await;
        health.set(Part::EventSocket, Status::Ok, "listening", None);
        tokio::join!(
            intake.poll(&stop),
            stop.run_until_cancelled(watch::intake(&intake, &health))
        );
    };
    tokio::join!(intake.listen(socket, &stop), catch_up_and_watch);
}

/// Binds an address, and waits a little for one that is in use: a server that was killed while it started a
/// child leaves, until that child executes its program, one more process that holds the server's sockets.
async fn bound<T>(attempt: impl AsyncFn() -> std::io::Result<T>) -> std::io::Result<T> {
    let deadline = tokio::time::Instant::now() + HANDOVER;
    loop {
        match attempt().await {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
}

/// Finishes renames that were begun, before anybody asks for a repository or its runs by name.
async fn settle_names(renaming: &Renaming) {
    let renaming = renaming.clone();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || renaming.settle()).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a rename cannot be finished yet"
        );
    }
}

async fn open(paths: &Paths, clock: &Clock) -> Result<Store, StoreError> {
    let (database, backups, clock) = (paths.database(), paths.backups(), clock.clone());
    let journal = parts::journal();
    // A migration may take long; it must not hold the thread that hears signals.
    let opened =
        tokio::task::spawn_blocking(move || Store::open(&database, &backups, journal, clock));
    opened.await.unwrap_or(Err(StoreError::Interrupted))
}

/// Replaces what can be replaced while runs go on; what cannot is said.
fn reload_config(
    paths: &Paths,
    reload: &Sender<Arc<RunnerConfig>>,
    keep: &Sender<Kept>,
    health: &HealthBoard,
) {
    match load(paths) {
        Ok(loaded) => {
            if let Err(error) = parts::tell_push_path(paths, &loaded.config) {
                tracing::error!(%error, "cannot write what git has to know");
            }
            keep.send_replace(parts::kept(&loaded.config));
            reload.send_replace(Arc::new(parts::runner_config(&loaded.config)));
            health.set(Part::Config, Status::Ok, parts::loaded(), None);
            tracing::info!(
                "configuration reloaded; changes of :http, :ssh, :ci :executor and :ci :engine need a restart"
            );
        }
        Err(error) => {
            health.set(
                Part::Config,
                Status::Degraded,
                "the changed configuration does not load; the old one is in force, the log says why",
                None,
            );
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the configuration does not load; the old one stays in force"
            );
            for diagnostic in error.diagnostics() {
                tracing::error!(
                    hint = diagnostic.hint.as_deref().unwrap_or_default(),
                    "configuration: {diagnostic}"
                );
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
        Ok(Self {
            term: hear(SignalKind::terminate())?,
            int: hear(SignalKind::interrupt())?,
            hup: hear(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}
