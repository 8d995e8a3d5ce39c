//! `doctor`: checks everything that a push, a run and a page need, by using it, and says what to do about each fault.
//!
//! The health checks look at the same parts every few seconds, so they can only ask cheap questions. These checks
//! read every page of the database, let git check repositories, and start a container as a run does.

mod access;
mod canary;
mod disk;
mod finding;
mod nodes;
mod outside;
mod report;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use quire_executor::Executor;
use quire_store::Store;
use quire_types::base_url::BaseUrl;
use quire_types::clock::Clock;
use quire_types::init_status::InitStatus;
use quire_types::paths::Paths;
use tokio::sync::{Mutex, watch};

use crate::notify::Notifications;
use crate::runner::RunnerConfig;

use canary::{CanaryImage, CanaryRun, ENGINE_ADVICE};
use disk::MeasuredParts;
pub use finding::{DoctorFinding, Grade};
pub use report::DoctorReport;

/// Checks the appliance on request, and once after the first start of a volume. Two requests at the same time are answered one
/// after the other.
pub struct Doctor {
    deps: DoctorDeps,
    turn: Mutex<()>,
    newest: watch::Sender<Option<DoctorReport>>,
}

/// The parts of the server that are checked.
pub struct DoctorDeps {
    pub paths: Paths,
    pub store: Store,
    /// The one that executes new runs.
    pub executor: Option<Arc<dyn Executor>>,
    pub config: watch::Receiver<Arc<RunnerConfig>>,
    /// What links begin with.
    pub url: BaseUrl,
    pub notifications: Notifications,
}

impl Doctor {
    #[must_use]
    pub fn new(deps: DoctorDeps) -> Self {
        let newest = DoctorReport::read(&deps.paths).unwrap_or_else(|error| {
            tracing::warn!(%error, "the newest result of `doctor` cannot be read");
            None
        });
        Self {
            deps,
            turn: Mutex::default(),
            newest: watch::Sender::new(newest),
        }
    }

    /// The newest result, which later ones replace; `None` until there is one.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Option<DoctorReport>> {
        self.newest.subscribe()
    }

    /// Checks everything. Takes seconds, or longer if an image is pulled first.
    pub async fn examine(&self) -> Vec<DoctorFinding> {
        self.examine_with(CanaryImage::MayBePulled).await
    }

    /// Checks everything if this was never done on this volume, `delay` after the start: what is wrong with an installation is said
    /// without a request. Nothing is pulled for it, so of several nodes only the appliance's own is tried. A server that was
    /// started without `quire init` does not do this.
    pub async fn examine_first_start(&self, delay: Duration) {
        if self.newest.borrow().is_some() {
            return;
        }
        tokio::time::sleep(delay).await;
        let is_appliance = matches!(
            InitStatus::read(&self.deps.paths.init_status()),
            Ok(Some(_))
        );
        if is_appliance && self.newest.borrow().is_none() {
            let findings = self.examine_with(CanaryImage::IfPresent).await;
            for failed in findings.iter().filter(|found| found.grade == Grade::Failed) {
                let advice = failed.advice.as_deref().unwrap_or_default();
                tracing::warn!(part = failed.part, advice, "doctor: {}", failed.text);
            }
        }
    }

    async fn examine_with(&self, image: CanaryImage) -> Vec<DoctorFinding> {
        let _turn = self.turn.lock().await;
        let findings = self.findings(image).await;
        let report = DoctorReport {
            examined_at: Clock::system().now(),
            findings,
        };
        if let Err(error) = report.write(&self.deps.paths) {
            tracing::warn!(%error, "the result of `doctor` cannot be kept");
        }
        let findings = report.findings.clone();
        self.newest.send_replace(Some(report));
        findings
    }

    async fn findings(&self, image: CanaryImage) -> Vec<DoctorFinding> {
        let deps = &self.deps;
        let mut findings = storage::examine(&deps.paths).await;
        let measured = MeasuredParts {
            paths: &deps.paths,
            store: &deps.store,
            executor: deps.executor.as_deref(),
        };
        findings.insert(1, disk::examine(&measured).await);
        findings.extend(access::examine(&deps.paths, &deps.url).await);
        findings.extend(outside::examine(&deps.notifications, &deps.url).await);
        if let Some(executor) = &deps.executor {
            let config = deps.config.borrow().clone();
            let run = CanaryRun::new(executor, &deps.paths, &config);
            findings.extend(match run.nodes(image).await {
                Ok(nodes) if nodes.is_empty() => run.findings(None, ENGINE_ADVICE).await,
                Ok(nodes) => nodes::examine(&run, &nodes, image).await,
                Err(finding) => vec![finding],
            });
        }
        findings
    }
}

impl DoctorFinding {
    /// A problem that another part of the server has noticed by itself. Its text names the cause.
    #[must_use]
    pub fn of_problem(part: &str, text: String) -> Self {
        Self::warning(part, text, advice_for(part))
    }
}

/// What to do about a problem with a part, which names its cause.
fn advice_for(part: &str) -> &'static str {
    match part {
        "schedules" => "correct the pipeline; `quire ci check` shows its errors",
        "notifications" => "correct the target; `notify test TARGET` shows whether it works",
        "mirrors" => {
            "correct what the other side complains about; `mirror sync REPO` tries again at once"
        }
        "repositories" => {
            "correct the settings of the repository if they are named; otherwise check its files on the volume"
        }
        _ => "it is retried by itself; `gc` retries it now",
    }
}
