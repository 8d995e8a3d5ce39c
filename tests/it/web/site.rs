//! An appliance's web on a loopback port, with a volume of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use quire_config::StrangerAccess;
use quire_runtime::changes::ChangeNotifier;
use quire_server::forge::{Forge, Notifier};
use quire_server::hooks::{Hooks, HooksDeps};
use quire_server::metrics::Metrics;
use quire_server::queue::Queue;
use quire_server::repo_settings::RepoSettingsReader;
use quire_server::sequence::SequenceFile;
use quire_store::{Journal, Store};
use quire_testkit::Response;
use quire_types::clock::{Clock, Millis};
use quire_types::paths::Paths;
use quire_web::{
    Component, ConnectionLimits, HealthRegistry, SignInMethod, Status, StrangerLimits,
    StrangerSettings, WebConfig, WebState, router, serve,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Events, send};
use super::seed::Seed;

/// A moment in 2026.
pub(crate) const NOW: Millis = Millis(1_785_000_000_000);

/// The key that tests sign in with.
pub(crate) const LAPTOP: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw laptop\n";

pub(crate) struct Site {
    pub(crate) state: WebState,
    pub(crate) seed: Seed,
    pub(crate) address: SocketAddr,
    pub(crate) cookie: Option<String>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<std::io::Result<()>>>,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn start(auth: SignInMethod) -> Self {
        let clock = Clock::manual(Arc::new(AtomicI64::new(NOW.0)));
        Self::with(auth, clock, ConnectionLimits::default()).await
    }

    /// Strangers see all of public repositories, as often as they ask.
    pub(crate) async fn without_stranger_limits() -> Self {
        let strangers = StrangerSettings {
            access: StrangerAccess::All,
            limits: StrangerLimits {
                burst: u32::MAX,
                processor_time: Duration::from_secs(3600),
                ..StrangerLimits::default()
            },
        };
        let clock = Clock::manual(Arc::new(AtomicI64::new(NOW.0)));
        let limits = ConnectionLimits::default();
        Self::with_strangers(SignInMethod::Ssh, clock, limits, strangers).await
    }

    pub(crate) async fn with(auth: SignInMethod, clock: Clock, limits: ConnectionLimits) -> Self {
        Self::with_strangers(auth, clock, limits, StrangerSettings::default()).await
    }

    pub(crate) async fn with_strangers(
        auth: SignInMethod,
        clock: Clock,
        limits: ConnectionLimits,
        strangers: StrangerSettings,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        std::fs::create_dir_all(paths.repos()).unwrap();
        std::fs::create_dir_all(paths.runtime()).unwrap();
        let health = HealthRegistry::new(clock.clone());
        let config = WebConfig {
            url: "http://quire.test".to_owned(),
            auth,
            ssh_user: "git".to_owned(),
            ssh_host: "git.home.example".to_owned(),
            ssh_port: 2222,
            host_is_configured: true,
            strangers,
        };
        let store = Store::open(
            &paths.database(),
            &paths.backups(),
            Journal::Wal,
            clock.clone(),
        )
        .unwrap();
        let live = ChangeNotifier::default();
        let queue = Queue::new(
            store.clone(),
            live.clone(),
            SequenceFile::new(&paths, "test"),
        );
        let seed = Seed::new(&paths, &store);
        seed.keys(LAPTOP);
        let metrics = Arc::<Metrics>::default();
        let notifier = Notifier::Server {
            queue: queue.clone(),
            changes: live.clone(),
        };
        let hooks = Hooks::new(HooksDeps {
            forge: Forge::in_server(paths.clone(), store.clone(), notifier),
            settings: watch::Sender::new(Arc::default()).subscribe(),
            metrics: metrics.clone(),
        });
        let state = WebState {
            store,
            repo_settings: RepoSettingsReader::new(paths.clone()),
            paths,
            live,
            clock,
            config,
            hooks,
            queue,
            metrics,
            health,
            commit: env!("QUIRE_COMMIT"),
        };
        let (address, shutdown, task) = listen(&state, "127.0.0.1:0", limits).await;
        Self {
            state,
            seed,
            address,
            cookie: None,
            shutdown,
            task: Some(task),
            _folder: folder,
        }
    }

    /// Stops the server and starts it on the same port, as a restart of the appliance does.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let (_, shutdown, task) = listen(
            &self.state,
            &self.address.to_string(),
            ConnectionLimits::default(),
        )
        .await;
        (self.shutdown, self.task) = (shutdown, Some(task));
    }

    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap().unwrap();
        }
    }

    pub(crate) fn healthy(&self) {
        self.state.health.set(
            Component::Database,
            Status::Ok,
            "readable and writable",
            None,
        );
        self.state
            .health
            .set(Component::EventSocket, Status::Ok, "bound", None);
    }

    /// Signs in with the key: later requests carry the session.
    pub(crate) async fn sign_in(&mut self) {
        self.sign_in_as("laptop").await;
    }

    pub(crate) async fn sign_in_as(&mut self, name: &str) {
        let token = self.seed.login_link(name, NOW.plus(300_000));
        self.cookie = None;
        let answer = self
            .send(
                "POST",
                &format!("/login/{token}"),
                &[("Origin", "http://quire.test")],
            )
            .await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        self.cookie = Some(answer.cookies()[0].split(';').next().unwrap().to_owned());
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut headers = headers.to_vec();
        headers.extend(self.cookie.as_deref().map(|c| ("Cookie", c)));
        send(self.address, method, path, &headers).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(
            "GET",
            path,
            &[("Accept", "text/html,application/xhtml+xml")],
        )
        .await
    }

    pub(crate) async fn json(&self, path: &str) -> Response {
        self.send("GET", path, &[("Accept", "application/json")])
            .await
    }

    pub(crate) async fn events(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let mut headers = headers.to_vec();
        headers.extend(self.cookie.as_deref().map(|c| ("Cookie", c)));
        Events::open(self.address, path, &headers).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn listen(
    state: &WebState,
    address: &str,
    limits: ConnectionLimits,
) -> (
    SocketAddr,
    CancellationToken,
    JoinHandle<std::io::Result<()>>,
) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(
        listener,
        router(state.clone()),
        shutdown.clone(),
        limits,
    ));
    (address, shutdown, task)
}
