//! The web: pages, live streams, health and metrics. All routes stand in [`router`].
//!
//! Pages read the store and the log files and render them; what is live follows the wake-ups of
//! [`Live`] and reads again. Nothing here starts a process or talks to Docker. What a path or
//! query names is parsed into the types of `names` before anything is looked up.
//!
//! ```text
//! finish (headers, errors as pages, time limit)
//!   ├── health, metrics, assets, login        for everybody
//!   └── guard (session) ── pages, streams, cancel and retry
//! ```

mod ansi;
mod artifacts;
mod assets;
mod changes;
mod checks;
mod door;
mod error;
mod health;
mod home;
mod host;
mod html;
mod keys;
mod log;
mod metrics;
mod page;
mod peers;
mod run;
mod runs;
mod server;
mod session;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::live::Live;
use crate::meter::Meter;
use crate::names::RepoName;
use crate::paths::Paths;
use crate::queue::Queue;
use crate::store::Store;

pub use checks::watch;
pub use door::Door;
pub use error::WebError;
pub use health::{Figure, HealthBoard, Overall, Part, Status};
pub use peers::Uncounted;
pub use server::{Limits, serve};

/// How people prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// By a one-time link that `ssh git@host login` prints.
    Ssh,
    /// Not at all: whoever reaches the port, by one of its own names, is signed in.
    Open,
}

/// What the web needs to know of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// The public base URL, without a slash at its end: `https://git.example.org`.
    pub url: String,
    /// How people sign in.
    pub auth: Auth,
    /// User for clone URLs and commands: `git`, or natively whoever started the appliance.
    pub ssh_user: String,
    /// Host name for clone URLs and commands.
    pub ssh_host: String,
    /// Port for clone URLs and commands.
    pub ssh_port: u16,
}

impl WebConfig {
    /// The URL that a repository is cloned from and pushed to.
    #[must_use]
    pub fn clone_url(&self, repo: &RepoName) -> String {
        self.ssh_url(&format!("{repo}.git"))
    }

    fn ssh_url(&self, path: &str) -> String {
        match self.ssh_port {
            22 => format!("ssh://{}@{}/{path}", self.ssh_user, self.ssh_host),
            port => format!("ssh://{}@{}:{port}/{path}", self.ssh_user, self.ssh_host),
        }
    }

    /// The command that prints a sign-in link.
    #[must_use]
    pub fn login_command(&self) -> String {
        self.ssh_command("login")
    }

    fn ssh_command(&self, command: &str) -> String {
        match self.ssh_port {
            22 => format!("ssh {}@{} {command}", self.ssh_user, self.ssh_host),
            port => format!(
                "ssh -p {port} {}@{} {command}",
                self.ssh_user, self.ssh_host
            ),
        }
    }

    fn is_https(&self) -> bool {
        self.url.starts_with("https://")
    }
}

/// Everything the web works with. Cloning it is cheap.
#[derive(Clone)]
pub struct WebState {
    /// The database.
    pub store: Store,
    /// Where things lie.
    pub paths: Paths,
    /// Wake-ups.
    pub live: Live,
    /// The time.
    pub clock: Clock,
    /// The configuration.
    pub config: WebConfig,
    /// The queue, to wake the runner.
    pub queue: Queue,
    /// What the other parts have counted.
    pub meter: Meter,
    /// Results of the background checks.
    pub health: HealthBoard,
}

/// How many live streams there may be at once.
const MAX_FOLLOWERS: usize = 256;
/// The largest request body. No page sends one; forms carry all in their path.
const MAX_BODY_BYTES: usize = 16 << 10;

/// The state that handlers share.
struct App {
    web: WebState,
    keys: keys::Keys,
    followers: Arc<Semaphore>,
    /// Whose turn it is among those who follow runs live.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl App {
    /// How many live streams there are.
    fn follower_count(&self) -> usize {
        MAX_FOLLOWERS - self.followers.available_permits().min(MAX_FOLLOWERS)
    }
}

type Shared = axum::extract::State<Arc<App>>;

/// All routes.
pub fn router(state: WebState) -> Router {
    let keys = keys::Keys::new(state.paths.clone());
    let app = Arc::new(App {
        web: state,
        keys,
        followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
        turn: Arc::default(),
    });
    let guarded = Router::new()
        .route("/", get(home::page))
        .route("/events", get(stream::states))
        .route("/runs", get(runs::all))
        .route("/runs/{id}", get(run::page))
        .route("/runs/{id}/events", get(stream::run))
        .route("/runs/{id}/log.txt", get(log::raw))
        .route("/runs/{id}/artifacts/{*name}", get(artifacts::download))
        .route("/runs/{id}/cancel", post(run::cancel))
        .route("/runs/{id}/release", post(run::release))
        .route("/runs/{id}/retry", post(run::retry))
        .route("/runs/{id}/retry-failed", post(run::retry_failed))
        .route("/-/health", get(health::page))
        .route("/logout", post(session::logout))
        .fallback(get(runs::of_repository))
        .layer(from_fn_with_state(app.clone(), session::guard));
    let open = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/livez", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/login", get(session::explain))
        .route("/login/{token}", get(session::offer).post(session::accept))
        .route("/assets/{name}", get(assets::serve))
        .route("/robots.txt", get(assets::robots));
    guarded
        .merge(open)
        .layer(from_fn_with_state(app.clone(), session::same_origin_only))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(app.clone(), page::finish))
        .with_state(app)
}
