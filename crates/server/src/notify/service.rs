//! Notifications of the server: one worker for each target of the configuration in force.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::delivery::{deliver, reach};
use super::deps::NotifyDeps;
use super::message::{Message, MessageEvent};
use super::outgoing_request::MessageConnection;
use super::settings::{NotifySettings, TargetConfig};
use super::worker::{self, POLL_INTERVAL};
use crate::part_problem::PartProblem;
use crate::workers::Workers;
use quire_runtime::blocking::run_blocking;
use quire_store::{Store, StoreError, TargetProgress};
use quire_types::error_chain::{chain, with_sources};

/// How many receivers are connected to at the same time when all are.
const MAX_REACHED_AT_ONCE: usize = 8;

/// A handle to the notifications. Cheap to clone.
#[derive(Clone)]
pub struct Notifications {
    deps: Arc<NotifyDeps>,
}

/// Why a test of a target failed.
#[derive(Debug, thiserror::Error)]
pub enum NotificationTestError {
    #[error("the configuration has no target `{name}`{}", known(targets))]
    NoTarget { name: String, targets: Vec<String> },
    #[error("{0}")]
    Failed(String),
}

fn known(targets: &[String]) -> String {
    match targets {
        [] => "; :notify {:targets …} in the configuration adds one".to_owned(),
        targets => format!("; its targets are {}", targets.join(", ")),
    }
}

impl Notifications {
    #[must_use]
    pub fn new(deps: NotifyDeps) -> Self {
        Self {
            deps: Arc::new(deps),
        }
    }

    /// Runs until `stop` is cancelled. Deliveries that are cut off are made again after the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut settings = self.deps.settings.clone();
        let mut workers = Workers::default();
        loop {
            let current = settings.borrow_and_update().clone();
            let names: Vec<String> = current.targets.keys().cloned().collect();
            match self.record_targets(names.clone()).await {
                Ok(()) => {
                    workers.ensure(names, |name| worker::run(self.deps.clone(), name));
                }
                Err(error) => {
                    tracing::error!(
                        error = with_sources(&error),
                        "cannot record the targets of notifications"
                    );
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // What made them fail may have been corrected.
                    if let Err(error) = self.deps.store.call(|store| store.outbox().retry_now()).await {
                        tracing::error!(error = with_sources(&error), "failed notifications are retried later");
                    }
                }
            }
        }
    }

    async fn record_targets(&self, names: Vec<String>) -> Result<(), StoreError> {
        let record = move |store: &Store| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            store.outbox().set_targets(&names)?;
            store.outbox().prune().map(drop)
        };
        self.deps.store.call(record).await
    }

    /// Sends a test message to a target, and returns once it is delivered.
    pub async fn test(&self, name: &str) -> Result<(), NotificationTestError> {
        let settings = self.deps.settings.borrow().clone();
        let Some(target) = settings.targets.get(name) else {
            return Err(NotificationTestError::NoTarget {
                name: name.to_owned(),
                targets: settings.targets.keys().cloned().collect(),
            });
        };
        let failed = |problem: &str| NotificationTestError::Failed(target.problem(name, problem));
        let (_, service) = target
            .settings
            .as_ref()
            .map_err(|problem| failed(problem))?;
        let message = self.test_message(&settings);
        let mut connection = MessageConnection::default();
        deliver(&self.deps, &message, service, &settings, &mut connection)
            .await
            .map_err(|error| failed(&chain(&error)))
    }

    /// Connects to the receiver of each target, a few at a time, and sends nothing. Returns what is wrong by the names of targets, and the
    /// number of targets that have a receiver.
    pub async fn reach_all(&self) -> (Vec<PartProblem>, usize) {
        let settings = self.deps.settings.borrow().clone();
        let message = self.test_message(&settings);
        let reach_one = async |(name, target): (&String, &TargetConfig)| {
            let reached = match &target.settings {
                Err(problem) => Err(problem.clone()),
                Ok((_, service)) => reach(&self.deps, &message, service, &settings)
                    .await
                    .map_err(|error| chain(&error)),
            };
            let problem = reached.err()?;
            Some(PartProblem::new(name, target.problem(name, &problem)))
        };
        let attempts = settings.targets.iter().map(reach_one);
        let found = stream::iter(attempts).buffered(MAX_REACHED_AT_ONCE);
        let problems = found.filter_map(std::future::ready).collect().await;
        let targets = settings.targets.values();
        let has_receiver = |target: &&TargetConfig| {
            let service = target.settings.as_ref().ok();
            service.is_none_or(|(_, service)| service.has_receiver())
        };
        (problems, targets.filter(has_receiver).count())
    }

    fn test_message(&self, settings: &NotifySettings) -> Message {
        let now = self.deps.store.clock().now();
        Message {
            id: Uuid::now_v7().to_string(),
            time: now,
            sent_at: now,
            url: settings.url.for_reader(None),
            event: MessageEvent::Test,
        }
    }

    /// What is wrong with targets.
    pub async fn problems(&self) -> Result<Vec<PartProblem>, StoreError> {
        let progress = self
            .deps
            .store
            .call(|store| store.outbox().targets())
            .await?;
        let settings = self.deps.settings.borrow().clone();
        let find = move || {
            let mut problems = Vec::new();
            for (name, target) in &settings.targets {
                let progress = progress.iter().find(|progress| progress.name == *name);
                let problem = match target.check() {
                    Err(problem) => Some(problem),
                    Ok(()) => progress.and_then(problem_sentence),
                };
                let text = problem.map(|problem| target.problem(name, &problem));
                problems.extend(text.map(|text| PartProblem::new(name, text)));
            }
            problems
        };
        Ok(run_blocking(find).await.unwrap_or_default())
    }
}

/// What is wrong with the delivery to a target; `None` if nothing is.
fn problem_sentence(progress: &TargetProgress) -> Option<String> {
    let problem = progress.problem.as_deref()?;
    Some(match progress.failures {
        _ if progress.waiting == 0 => format!("the last message was given up: {problem}"),
        1 => format!("an attempt failed and will be repeated: {problem}"),
        failures => format!("{failures} attempts in a row failed: {problem}"),
    })
}
