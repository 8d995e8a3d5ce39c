//! What handlers share: the configuration of the web, the handles it works with, and the limits of
//! live streams. It knows no route and no page.

use std::sync::Arc;
use std::time::Duration;

use quire_git::read::{BlameCache, ReadPool};
use quire_highlight::HighlightCache;
use quire_runtime::changes::ChangeNotifier;
use quire_server::hooks::Hooks;
use quire_server::metrics::Metrics;
use quire_server::queue::Queue;
use quire_server::repo_settings::RepoSettingsReader;
use quire_store::Store;
use quire_types::clock::Clock;
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::url_host::host_in_url;

use super::error::WebError;
use super::health_registry::HealthRegistry;
use super::kept_bodies::KeptBodies;
use super::keys::Keys;
use super::places::{Place, Places};
use super::strangers::{StrangerSettings, Strangers};
use super::visibility::Visibilities;

/// How people prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInMethod {
    /// By a one-time link that `ssh git@host login` prints.
    Ssh,
    /// Not at all: every client that uses one of the names of the appliance is signed in.
    Open,
}

/// What the web needs to know of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// The public base URL, without a slash at its end: `https://git.example.org`.
    pub url: String,
    /// How people sign in.
    pub auth: SignInMethod,
    /// User for clone URLs and commands: `git`, or natively the user who started the appliance.
    pub ssh_user: String,
    /// Host name for clone URLs and commands.
    pub ssh_host: String,
    /// Port for clone URLs and commands.
    pub ssh_port: u16,
    /// Whether the host is configured. Otherwise readers are shown the one by which they reached the appliance.
    pub host_is_configured: bool,
    /// What clients that are not signed in may see and use.
    pub strangers: StrangerSettings,
}

impl WebConfig {
    /// The URL that a repository is cloned from and pushed to.
    #[must_use]
    pub fn clone_url(&self, repo: &RepoName) -> String {
        self.ssh_url(&format!("{repo}.git"))
    }

    pub(super) fn ssh_url(&self, path: &str) -> String {
        let (user, host) = (&self.ssh_user, host_in_url(&self.ssh_host));
        match self.ssh_port {
            22 => format!("ssh://{user}@{host}/{path}"),
            port => format!("ssh://{user}@{host}:{port}/{path}"),
        }
    }

    /// The command that prints a sign-in link.
    #[must_use]
    pub fn login_command(&self) -> String {
        self.ssh_command("login")
    }

    pub(super) fn ssh_command(&self, command: &str) -> String {
        match self.ssh_port {
            22 => format!("ssh {}@{} {command}", self.ssh_user, self.ssh_host),
            port => format!(
                "ssh -p {port} {}@{} {command}",
                self.ssh_user, self.ssh_host
            ),
        }
    }

    pub(super) fn is_https(&self) -> bool {
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
    /// What repositories say in their settings.
    pub repo_settings: RepoSettingsReader,
    /// Wake-ups.
    pub live: ChangeNotifier,
    /// The time.
    pub clock: Clock,
    /// The configuration.
    pub config: WebConfig,
    /// Incoming webhooks.
    pub hooks: Hooks,
    /// The queue, to wake the runner.
    pub queue: Queue,
    /// What the other parts have counted.
    pub metrics: Arc<Metrics>,
    /// Results of the background checks.
    pub health: HealthRegistry,
    /// The commit that the binary was built from, or `unknown`.
    pub commit: &'static str,
}

/// How many processes of git run at once for clients over HTTP.
const MAX_GIT_PROCESSES: usize = 4;
/// How many archives and patches are written at once.
const MAX_DOWNLOADS: usize = 4;
/// How many live streams there may be at once.
const MAX_FOLLOWERS: usize = 256;
/// The state that handlers share.
pub(super) struct App {
    pub(super) web: WebState,
    pub(super) keys: Keys,
    /// Reads repositories.
    pub(super) reading: ReadPool,
    /// Clients that are not signed in.
    pub(super) strangers: Strangers,
    /// What repositories show to strangers.
    pub(super) visibilities: Visibilities,
    /// Processes of git that may run for clients at once.
    pub(super) git_processes: Places,
    /// Bodies of pages that were rendered once.
    pub(super) bodies: Arc<KeptBodies>,
    /// Where lines of files come from.
    pub(super) blames: Arc<BlameCache>,
    /// Colours of files.
    pub(super) highlights: Arc<HighlightCache>,
    /// Archives and patches that may be written at once.
    pub(super) downloads: Places,
    pub(super) followers: Places,
    /// Held by the live stream that is reading: they read one after the other.
    pub(super) read_lock: Arc<tokio::sync::Mutex<()>>,
}

impl App {
    pub(super) fn new(web: WebState) -> Self {
        let keys = Keys::new(web.paths.clone());
        let limits = web.config.strangers.limits;
        let strangers = Strangers::new(&limits, web.clock.clone(), web.metrics.clone());
        Self {
            visibilities: Visibilities::new(web.repo_settings.clone(), &strangers.observer),
            strangers,
            web,
            keys,
            reading: ReadPool::default(),
            git_processes: Places::new(MAX_GIT_PROCESSES, limits.git_processes),
            bodies: Arc::default(),
            blames: Arc::default(),
            highlights: Arc::default(),
            downloads: Places::new(MAX_DOWNLOADS, limits.downloads),
            followers: Places::new(MAX_FOLLOWERS, limits.followers),
            read_lock: Arc::default(),
        }
    }

    /// Waits for one of some places; a stranger waits for a shorter time.
    pub(super) async fn place(
        &self,
        places: &Places,
        is_stranger: bool,
        max_wait: Duration,
    ) -> Result<Place, WebError> {
        let max_wait = match is_stranger {
            true => max_wait.min(self.web.config.strangers.limits.max_wait),
            false => max_wait,
        };
        match places.take(is_stranger, max_wait).await {
            Some(place) => Ok(place),
            None if is_stranger => Err(self.strangers.busy().into()),
            None => Err(WebError::Slow),
        }
    }

    /// How many live streams are open.
    pub(super) fn follower_count(&self) -> usize {
        self.followers.held()
    }
}

/// The extractor of the state in a handler.
pub(super) type SharedApp = axum::extract::State<Arc<App>>;
