//! Receives the requests of incoming webhooks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::credentials::HookCredentials;
use super::parameters::{BodyError, parameters};
use super::rate_limit::RateLimits;
use super::settings::{HookSettings, HookTarget, HooksSettings};
use crate::forge::runs::{HookStart, start_by_hook};
use crate::forge::{Forge, ForgeError};
use crate::metrics::Metrics;
use crate::part_problem::PartProblem;
use quire_config::with_place;
use quire_runtime::blocking::run_blocking;
use quire_store::HookDelivery;
use quire_types::names::JobName;
use quire_types::run::Run;
use quire_types::secret::Secret;
use quire_types::token::new_token;

/// The longest id of a delivery, in bytes.
const MAX_DELIVERY: usize = 255;

/// What incoming webhooks need from the rest of the server.
pub struct HooksDeps {
    pub forge: Forge,
    /// Replaced when the configuration is reloaded.
    pub settings: watch::Receiver<Arc<HooksSettings>>,
    pub metrics: Arc<Metrics>,
}

/// A handle to the incoming webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Hooks {
    shared: Arc<HooksShared>,
}

struct HooksShared {
    deps: HooksDeps,
    limits: RateLimits,
    /// Verified against if there is no such webhook, so that the work is the same.
    no_secret: Secret,
}

/// A request to a webhook.
#[derive(Debug, Clone)]
pub struct HookRequest {
    pub name: String,
    pub credentials: HookCredentials,
    /// The id that the sender gave the delivery.
    pub delivery: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// A request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedHook {
    pub run: Run,
    /// Whether an earlier delivery with the same id has started the run.
    pub is_repeated: bool,
}

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No such webhook, or not its secret: an answer does not tell which.
    #[error("there is no such webhook, or this is not its secret")]
    Denied,
    #[error(
        "the id of the delivery is longer than {MAX_DELIVERY} bytes, or has other than printable ASCII characters"
    )]
    Delivery,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the webhook accepts no more requests for now")]
    TooMany { retry_after: Duration },
    #[error(transparent)]
    Forge(#[from] ForgeError),
}

impl Hooks {
    #[must_use]
    pub fn new(deps: HooksDeps) -> Self {
        // Whether it is random or, without random bytes, empty: no webhook has it, so nothing that it proves is accepted.
        let random = new_token().map_or_else(|_| String::new(), |(token, _)| token);
        Self {
            shared: Arc::new(HooksShared {
                deps,
                limits: RateLimits::default(),
                no_secret: Secret::new(random),
            }),
        }
    }

    /// Accepts a request. Its run is in the queue, on the disk, before this returns.
    pub async fn receive(&self, request: HookRequest) -> Result<AcceptedHook, HookError> {
        let received = self.try_receive(request).await;
        let metrics = &self.shared.deps.metrics;
        let count = match &received {
            Ok(_) => &metrics.hooks_accepted,
            Err(_) => &metrics.hooks_refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        received
    }

    async fn try_receive(&self, request: HookRequest) -> Result<AcceptedHook, HookError> {
        let deps = &self.shared.deps;
        let settings = deps.settings.borrow().clone();
        let hook = settings.hooks.get(&request.name);
        let target = hook.and_then(|hook| hook.target.as_ref().ok());
        let secret = self.secret(target).await;
        let now = deps.forge.store()?.clock().now();
        let proved = request.credentials.prove(
            secret.as_ref().unwrap_or(&self.shared.no_secret),
            &request.body,
            now,
        );
        let (Some(target), Some(_), true) = (target, secret, proved) else {
            return Err(HookError::Denied);
        };
        let name: JobName = request.name.parse().map_err(|_| HookError::Denied)?;
        let delivery = HookDelivery {
            hook: request.name.clone(),
            delivery: request.delivery.clone().filter(|id| !id.is_empty()),
        };
        check_delivery(&delivery)?;
        let params = parameters(
            request.content_type.as_deref(),
            delivery.delivery.as_deref(),
            &request.body,
        )?;
        let is_known = self.is_known(&delivery).await?;
        if !is_known
            && let Err(retry_after) = self
                .shared
                .limits
                .take(&request.name, target.per_minute, now)
        {
            return Err(HookError::TooMany { retry_after });
        }
        let start = HookStart {
            hook: name,
            repo: target.repo.clone(),
            ref_name: target.ref_name.clone(),
            params,
            delivery,
        };
        let (run, is_repeated) = start_by_hook(&deps.forge, start).await?;
        Ok(AcceptedHook { run, is_repeated })
    }

    async fn is_known(&self, delivery: &HookDelivery) -> Result<bool, HookError> {
        let store = self.shared.deps.forge.store()?;
        let delivery = delivery.clone();
        let find = move |store: &quire_store::Store| store.hook_deliveries().run_of(&delivery);
        let found = store.call(find).await.map_err(ForgeError::from)?;
        Ok(found.is_some())
    }

    /// The secret of a webhook, if it can be read.
    async fn secret(&self, target: Option<&HookTarget>) -> Option<Secret> {
        let read = target?.secret.clone();
        let secret = run_blocking(move || read()).await.ok()?;
        secret
            .inspect_err(|problem| {
                tracing::error!(problem, "the secret of a webhook cannot be read")
            })
            .ok()
    }

    /// What is wrong with webhooks.
    pub async fn problems(&self) -> Vec<PartProblem> {
        let settings = self.shared.deps.settings.borrow().clone();
        let find = move || {
            let hooks = settings.hooks.iter();
            let problem = |(name, hook): (&String, &HookSettings)| {
                let text = sentence(name, hook, &problem_of(hook)?);
                Some(PartProblem::new(name, text))
            };
            hooks.filter_map(problem).collect()
        };
        run_blocking(find).await.unwrap_or_default()
    }
}

fn problem_of(hook: &HookSettings) -> Option<String> {
    match &hook.target {
        Err(problem) => Some(problem.clone()),
        Ok(target) => (target.secret)().err(),
    }
}

fn sentence(name: &str, hook: &HookSettings, problem: &str) -> String {
    let sentence = format!("webhook `{name}`: {problem}");
    with_place(hook.location.as_deref(), sentence)
}

fn check_delivery(delivery: &HookDelivery) -> Result<(), HookError> {
    let is_id =
        |id: &String| id.len() <= MAX_DELIVERY && id.bytes().all(|byte| byte.is_ascii_graphic());
    match &delivery.delivery {
        Some(id) if !is_id(id) => Err(HookError::Delivery),
        _ => Ok(()),
    }
}
