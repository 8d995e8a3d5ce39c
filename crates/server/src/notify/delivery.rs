//! One attempt to deliver a message.

use std::time::Duration;

use super::delivery_context::DeliveryContext;
use super::delivery_error::{ATTEMPT_TIMEOUT, DeliveryError};
use super::deps::NotifyDeps;
use super::message::Message;
use super::outgoing_request::MessageConnection;
use super::settings::NotifySettings;
use super::targets::TargetService;
use crate::addresses::{AddressRange, ReachableAddresses};
use quire_runtime::blocking::run_blocking;
use quire_types::secret::Redactor;

/// How long it may take to reach a receiver: a person waits for it.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a receiver as [`deliver`] does, and sends nothing.
pub(super) async fn reach(
    deps: &NotifyDeps,
    message: &Message,
    service: &TargetService,
    settings: &NotifySettings,
) -> Result<(), DeliveryError> {
    let attempt = async {
        let read = settings.redactor.clone();
        let redactor = run_blocking(move || read()).await?;
        service
            .reach(message, context(deps, settings, &redactor))
            .await
    };
    tokio::time::timeout(REACH_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(DeliveryError::TimedOut))
}

fn context<'a>(
    deps: &'a NotifyDeps,
    settings: &'a NotifySettings,
    redactor: &'a Redactor,
) -> DeliveryContext<'a> {
    DeliveryContext {
        git: &deps.git,
        changes: &deps.changes,
        redactor,
        allowed: ReachableAddresses {
            range: AddressRange::Private,
            allowed: &settings.allowed_networks,
        },
    }
}

/// Makes one attempt, over the kept connection if that is possible. Returns once the receiver has confirmed the message.
pub(super) async fn deliver(
    deps: &NotifyDeps,
    message: &Message,
    service: &TargetService,
    settings: &NotifySettings,
    connection: &mut MessageConnection,
) -> Result<(), DeliveryError> {
    let attempt = async {
        let read = settings.redactor.clone();
        let redactor = run_blocking(move || read()).await?;
        let context = context(deps, settings, &redactor);
        service.send(message, connection, context).await
    };
    tokio::time::timeout(ATTEMPT_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(DeliveryError::TimedOut))
}
