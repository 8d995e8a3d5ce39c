//! The server: started in order, run until a stop is requested, stopped in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use quire_config::Config;
use quire_executor::Executor;
use quire_git::Git;
use quire_runtime::changes::ChangeNotifier;
use quire_server::backup::ScheduledBackups;
use quire_server::control::attach::AttachServer;
use quire_server::control::server::{self as control, ControlServer};
use quire_server::doctor::Doctor;
use quire_server::findings::Findings;
use quire_server::forge::configuration::record_reload;
use quire_server::health_watch::HealthWatcher;
use quire_server::housekeeping::{Housekeeping, HousekeepingDeps};
use quire_server::intake::Intake;
use quire_server::landing::{LandingDeps, LandingService};
use quire_server::metrics::Metrics;
use quire_server::queue::Queue;
use quire_server::rename::Renamer;
use quire_server::runner::{self, Runner};
use quire_server::secrets::StoredSecrets;
use quire_server::sequence::{SequenceError, SequenceFile};
use quire_store::{Store, StoreError};
use quire_types::base_url::BaseUrl;
use quire_types::clock::Clock;
use quire_types::paths::Paths;
use quire_web::{Component, HealthRegistry, StartupGate, Status, WebConfig, WebState};

use super::bind::bind_with_retry;
use super::certificate_health::certificate;
use super::error::{ServeError, system};
use super::health_findings::tell_findings;
use super::outside::OutsideParts;
use super::reload::{ConfigReload, StartConfig, report_start};
use super::signals::{ServerSignals, SignalRequest};
use super::{executors, first_doctor, health_probes, program_file, runtime_files, wiring};
use quire_types::error_chain::with_sources;

/// How often the file of the database is compared with the one that is open.
const DATABASE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A server that has started.
pub(super) struct Server {
    /// The tasks of its parts. What waits for a slow disk or a silent engine holds up nothing else.
    tasks: JoinSet<()>,
    signals: ServerSignals,
    reload: Arc<ConfigReload>,
    shutdown: CancellationToken,
    /// Ends when the database was removed or replaced.
    database_lost: AbortOnDropHandle<StoreError>,
    store: Store,
}

impl Server {
    /// Loads the configuration again, which nothing but a signal asked for.
    async fn reload_by_signal(&self) {
        let report = self.reload.reload();
        let record = move |store: &Store| record_reload(store, &report);
        if let Err(error) = self.store.call(record).await {
            tracing::error!(%error, "cannot record the reload in the log of operations");
        }
    }

    /// Starts all parts. Health is answered (`starting`) from the moment that the address is bound.
    pub(super) async fn start(
        paths: &Paths,
        start: &StartConfig,
        web_runtime: &Handle,
    ) -> Result<Self, ServeError> {
        let config = &start.loaded.config;
        let shutdown = CancellationToken::new();
        // Before everything that takes time: a TERM during the start must count.
        let signals = ServerSignals::install()?;
        runtime_files::create_folders(paths).map_err(|(path, source)| {
            system(format!("create the folder {}", path.display()))(source)
        })?;
        runtime_files::write_push_limits(paths, config)
            .map_err(system("write the limits of pushes"))?;
        runtime_files::write_secrets_key_location(paths)
            .map_err(system("write where the keys of secrets are"))?;
        let clock = Clock::system();
        let health = HealthRegistry::new(clock.clone());
        report_start(&health, start);
        wiring::warn_about_open_pages(config);
        let web =
            WebTask::start(paths, config, &health, web_runtime, shutdown.child_token()).await?;
        let store = open_store(paths, &clock).await?;
        let instance = store.call(|store| store.instance().id()).await?;
        runtime_files::write_instance(paths, &instance)
            .map_err(system("write the id of this instance"))?;
        hold_older_copy(paths, &store, &instance).await?;
        let database_lost = watch_database(store.clone());
        let renamer = Renamer::new(paths, store.clone());
        finish_renames(&renamer).await;
        let reload = Arc::new(ConfigReload::new(
            paths,
            &start.loaded,
            &health,
            StoredSecrets::new(paths, store.clone()),
        ));
        let parts = ServerParts::new(
            paths,
            config,
            store.clone(),
            &instance,
            &reload,
            &wiring::base_url(config),
        )?;
        let sockets = Sockets::bind(paths).await?;
        let state = WebState {
            store: parts.store.clone(),
            paths: paths.clone(),
            repo_settings: parts.outside.repo_settings.clone(),
            live: parts.live.clone(),
            clock,
            config: web.config,
            hooks: parts.outside.hooks.clone(),
            queue: parts.queue.clone(),
            metrics: parts.metrics.clone(),
            health: health.clone(),
            commit: env!("QUIRE_COMMIT"),
        };
        web.gate.set_router(quire_web::router(state.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(log_end_of_web(web.task));
        tasks.spawn_on(quire_web::watch(state, shutdown.child_token()), web_runtime);
        tasks.spawn(renamer.run(parts.queue.clone(), shutdown.child_token()));
        parts.spawn(&mut tasks, sockets, health, &shutdown);
        Ok(Self {
            tasks,
            signals,
            reload,
            shutdown,
            database_lost,
            store,
        })
    }

    /// Runs until a stop is requested and all parts have ended.
    pub(super) async fn run(mut self) -> Result<(), ServeError> {
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    None => {
                        // A copy of the one file has everything then. If this fails, the write-ahead log still has
                        // what the file lacks, and the next start reads both.
                        if let Err(error) = self.store.call(Store::checkpoint).await {
                            tracing::warn!(error = with_sources(&error), "the write-ahead log stays beside the database");
                        }
                        return Ok(());
                    }
                    Some(Ok(())) => {}
                    // A bug. `init` restarts the server, which recovers from what this leaves behind.
                    Some(Err(error)) => {
                        let attempt = "continue: internal error: a part of the server has ended unexpectedly";
                        return Err(system(attempt)(io::Error::other(error)));
                    }
                },
                Ok(error) = &mut self.database_lost => return Err(error.into()),
                signal = self.signals.next() => match signal {
                    SignalRequest::Stop => {
                        if !self.shutdown.is_cancelled() {
                            tracing::info!("stopping");
                            self.shutdown.cancel();
                        }
                    }
                    SignalRequest::Reload => self.reload_by_signal().await,
                },
            }
        }
    }
}

/// The web server, which answers `starting` until the gate is opened.
struct WebTask {
    config: WebConfig,
    gate: StartupGate,
    task: AbortOnDropHandle<io::Result<()>>,
}

impl WebTask {
    async fn start(
        paths: &Paths,
        config: &Config,
        health: &HealthRegistry,
        runtime: &Handle,
        stop: CancellationToken,
    ) -> Result<Self, ServeError> {
        let web_config = wiring::web_config(config);
        let address = wiring::listen_address(config);
        let listener = bind_with_retry(async || TcpListener::bind(&address).await)
            .await
            .and_then(TcpListener::into_std)
            .map_err(system(format!("listen on {address}")))?;
        runtime_files::write_server_address(paths, address, &wiring::base_url(config))
            .map_err(system("write the address of the server"))?;
        tracing::info!(%address, "listening");
        let gate = StartupGate::new(health.clone());
        let router = gate.router();
        let limits = wiring::web_limits(config);
        let task = runtime.spawn(async move {
            // Registered with the runtime whose threads serve it.
            quire_web::serve(TcpListener::from_std(listener)?, router, stop, limits).await
        });
        Ok(Self {
            config: web_config,
            gate,
            task: AbortOnDropHandle::new(task),
        })
    }
}

async fn log_end_of_web(task: AbortOnDropHandle<io::Result<()>>) {
    match task.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the web server has ended with an error"),
        Err(error) => {
            tracing::error!(%error, "internal error: the web server has ended unexpectedly");
        }
    }
}

/// The parts that work on the database.
struct ServerParts {
    store: Store,
    queue: Queue,
    live: ChangeNotifier,
    metrics: Arc<Metrics>,
    executors: Vec<Arc<dyn Executor>>,
    /// The address of the engine.
    engine: String,
    housekeeping: Housekeeping,
    outside: OutsideParts,
    intake: Intake,
    landing: LandingService,
    runner: Runner,
    backups: ScheduledBackups,
    doctor: Arc<Doctor>,
    reload: Arc<ConfigReload>,
}

impl ServerParts {
    fn new(
        paths: &Paths,
        config: &Config,
        store: Store,
        instance: &str,
        reload: &Arc<ConfigReload>,
        url: &BaseUrl,
    ) -> Result<Self, ServeError> {
        let live = ChangeNotifier::default();
        let sequence = SequenceFile::new(paths, instance);
        let queue = Queue::new(store.clone(), live.clone(), sequence);
        let metrics = Arc::<Metrics>::default();
        let findings = Findings::default();
        let executors = executors::of_config(config, instance, paths);
        let housekeeping = Housekeeping::new(HousekeepingDeps {
            paths: paths.clone(),
            store: store.clone(),
            changes: live.clone(),
            executors: executors.clone(),
            limits: reload.retention(),
            findings: findings.clone(),
            metrics: metrics.clone(),
        });
        let git = Git::new(paths);
        let intake = Intake::new(
            git.clone(),
            store.clone(),
            queue.clone(),
            metrics.clone(),
            findings.clone(),
            url.clone(),
            reload.intake_settings(),
        );
        let parts = (&store, &queue, &live);
        let outside = OutsideParts::new(paths, parts, &intake, reload, (&metrics, &findings));
        let landing = LandingService::new(LandingDeps {
            paths: paths.clone(),
            store: store.clone(),
            git: git.clone(),
            intake: intake.clone(),
            changes: live.clone(),
            findings: findings.clone(),
        });
        let program = std::env::current_exe().map_err(system("find the quire binary"))?;
        let plan = reload.backup_plan();
        let backups = ScheduledBackups::new(store.clone(), instance, program.clone(), plan);
        let doctor = first_doctor::deps((paths, &store, url), &executors, reload, &outside);
        let doctor = Doctor::new(doctor);
        let runner = Runner::new(runner::RunnerDeps {
            git,
            store: store.clone(),
            queue: queue.clone(),
            live: live.clone(),
            metrics: metrics.clone(),
            paths: paths.clone(),
            executors: executors.clone(),
            program,
            findings,
            repo_settings: outside.repo_settings.clone(),
            config: reload.runner_config(),
        });
        Ok(Self {
            store,
            queue,
            live,
            metrics,
            executors,
            engine: config.ci.engine.clone(),
            housekeeping,
            outside,
            intake,
            landing,
            runner,
            backups,
            doctor: Arc::new(doctor),
            reload: reload.clone(),
        })
    }

    fn spawn(
        self,
        tasks: &mut JoinSet<()>,
        sockets: Sockets,
        health: HealthRegistry,
        shutdown: &CancellationToken,
    ) {
        let (reload, notify_settings) = (self.reload.clone(), self.reload.notify_settings());
        let watcher = HealthWatcher::new(
            self.store.clone(),
            self.live.clone(),
            notify_settings.clone(),
        );
        let control = ControlServer {
            intake: self.intake.clone(),
            queue: self.queue,
            store: self.store.clone(),
            housekeeping: self.housekeeping.clone(),
            notifications: self.outside.notifications.clone(),
            doctor: self.doctor.clone(),
            mirrors: self.outside.mirrors.clone(),
            hooks: self.outside.hooks.clone(),
            reload: Arc::new(move || reload.reload()),
            program: program_file::take().unwrap_or_else(|error| {
                tracing::warn!(%error, "`client` cannot send the program");
                None
            }),
            executors: self.executors.clone(),
        };
        let stop = shutdown.clone();
        tasks.spawn(async move { control.serve(sockets.control, &stop).await });
        let attach = AttachServer {
            store: self.store,
            executors: self.executors.clone(),
            runner: self.runner.clone(),
        };
        tasks.spawn(attach.serve(sockets.attach, shutdown.child_token()));
        tasks.spawn(run_intake(self.intake, health.clone(), shutdown.clone()));
        tasks.spawn(self.landing.run(shutdown.child_token()));
        tasks.spawn(self.runner.run(shutdown.clone()));
        tasks.spawn(self.backups.clone().run(shutdown.child_token()));
        let probed = (self.housekeeping.clone(), self.outside.clone());
        let stop = shutdown.clone();
        tasks.spawn(async move {
            let probes = async {
                tokio::join!(
                    health_probes::engine(&self.executors, &self.engine, &health, &self.metrics),
                    health_probes::upkeep(&probed.0, &health),
                    health_probes::notifications(&probed.1.notifications, &health),
                    health_probes::mirrors(&probed.1.mirrors, &health),
                    health_probes::hooks(&probed.1.hooks, &health),
                    health_probes::doctor(&self.doctor, &health),
                    self.doctor.examine_first_start(first_doctor::delay()),
                    health_probes::backups(&self.backups, &health),
                    certificate(notify_settings, self.backups.clock(), &health),
                    tell_findings(watcher, &health)
                )
            };
            stop.run_until_cancelled(probes).await;
        });
        tasks.spawn(self.housekeeping.run(shutdown.child_token()));
        let outside = self.outside;
        tasks.spawn(outside.notifications.run(shutdown.child_token()));
        tasks.spawn(outside.mirrors.run(shutdown.child_token()));
        tasks.spawn(outside.settings_watch.run(shutdown.child_token()));
    }
}

/// The local sockets, which the hook and commands connect to.
struct Sockets {
    control: UnixListener,
    attach: UnixListener,
}

impl Sockets {
    async fn bind(paths: &Paths) -> Result<Self, ServeError> {
        let bind = async |path: std::path::PathBuf| {
            bind_with_retry(async || control::bind(&path))
                .await
                .map_err(system(format!("listen on {}", path.display())))
        };
        Ok(Self {
            control: bind(paths.control_socket()).await?,
            attach: bind(paths.attach_socket()).await?,
        })
    }
}

/// Records the events of the spool, compares refs, and then repeats both at intervals. The control socket
/// answers pushes meanwhile, so that a repository that hangs does not affect the others.
async fn run_intake(intake: Intake, health: HealthRegistry, stop: CancellationToken) {
    let catch_up = async {
        let drained = intake.drain().await;
        intake.compare_refs().await;
        intake.compare_marked(&drained).await;
    };
    stop.run_until_cancelled(catch_up).await;
    health.set(Component::EventSocket, Status::Ok, "listening", None);
    tokio::join!(
        intake.poll(&stop),
        stop.run_until_cancelled(health_probes::intake(&intake, &health))
    );
}

/// Completes interrupted renames, removals and restores, before a repository or its runs are looked up by name.
async fn finish_renames(renamer: &Renamer) {
    let renamer = renamer.clone();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || renamer.finish_pending()).await {
        tracing::error!(
            error = with_sources(&error),
            "a rename, removal or restore cannot be completed yet; it will be retried"
        );
    }
}

/// Waits until the database was removed or replaced. The server must not go on then: what it writes would be lost.
fn watch_database(store: Store) -> AbortOnDropHandle<StoreError> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(DATABASE_CHECK_INTERVAL).await;
            if let Err(error) = store.call(Store::check_file).await {
                return error;
            }
        }
    }))
}

/// Holds all runs if the database is an older copy of the one that was in use.
async fn hold_older_copy(paths: &Paths, store: &Store, instance: &str) -> Result<(), ServeError> {
    let file = SequenceFile::new(paths, instance);
    let compared = store
        .call(move |store| Ok(file.hold_older_copy(store)))
        .await?;
    match compared {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "the database is an older copy of the one that was in use; nothing runs until `reconcile --adopt` or `reconcile --run` decides"
        ),
        Err(SequenceError::Store(error)) => return Err(error.into()),
        Err(error) => tracing::error!(
            error = with_sources(&error),
            "cannot tell whether the database is an older copy"
        ),
    }
    Ok(())
}

async fn open_store(paths: &Paths, clock: &Clock) -> Result<Store, StoreError> {
    let database = paths.database();
    let backups = paths.backups();
    let journal = wiring::journal();
    let clock = clock.clone();
    // A migration may take long; it must not block the thread that handles signals.
    let opened =
        tokio::task::spawn_blocking(move || Store::open(&database, &backups, journal, clock));
    opened.await.unwrap_or(Err(StoreError::Interrupted))
}
