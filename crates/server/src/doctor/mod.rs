//! `doctor`: checks everything that a push, a run and a page need, by using it, and says what to do about each fault.
//!
//! The health checks look at the same parts every few seconds, so they can only ask cheap questions. These checks
//! read every page of the database, let git check repositories, and start a container as a run does.

mod access;
mod canary;
mod finding;
mod storage;

use std::sync::Arc;

use quire_executor::Executor;
use quire_types::base_url::BaseUrl;
use quire_types::paths::Paths;
use tokio::sync::{Mutex, watch};

use crate::runner::RunnerConfig;

pub use finding::{DoctorFinding, Grade};

/// Checks the appliance on request. Two requests at the same time are answered one after the other.
pub struct Doctor {
    deps: DoctorDeps,
    turn: Mutex<()>,
}

/// The parts of the server that are checked.
pub struct DoctorDeps {
    pub paths: Paths,
    /// The one that executes new runs.
    pub executor: Option<Arc<dyn Executor>>,
    pub config: watch::Receiver<Arc<RunnerConfig>>,
    /// What links begin with.
    pub url: BaseUrl,
}

impl Doctor {
    #[must_use]
    pub fn new(deps: DoctorDeps) -> Self {
        Self {
            deps,
            turn: Mutex::default(),
        }
    }

    /// Checks everything. Takes seconds, or longer if an image is pulled first.
    pub async fn examine(&self) -> Vec<DoctorFinding> {
        let _turn = self.turn.lock().await;
        let deps = &self.deps;
        let mut findings = storage::examine(&deps.paths).await;
        findings.extend(access::examine(&deps.paths, &deps.url).await);
        if let Some(executor) = &deps.executor {
            let config = deps.config.borrow().clone();
            findings.extend(canary::examine(executor, &deps.paths, &config).await);
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
        "repositories" => "check the repository's files on the volume",
        _ => "it is retried by itself; `gc` retries it now",
    }
}
