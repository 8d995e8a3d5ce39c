//! One attempt to deliver a message.

use super::delivery_context::DeliveryContext;
use super::delivery_error::{ATTEMPT_TIMEOUT, DeliveryError};
use super::deps::NotifyDeps;
use super::kept_connection::KeptConnection;
use super::message::Message;
use super::settings::NotifySettings;
use super::targets::TargetService;
use quire_runtime::blocking::run_blocking;

/// Makes one attempt, over the kept connection if that is possible. Returns once the receiver has confirmed the message.
pub(super) async fn deliver(
    deps: &NotifyDeps,
    message: &Message,
    service: &TargetService,
    settings: &NotifySettings,
    connection: &mut KeptConnection,
) -> Result<(), DeliveryError> {
    let attempt = async {
        let read = settings.redactor.clone();
        let redactor = run_blocking(move || read()).await?;
        let context = DeliveryContext {
            git: &deps.git,
            changes: &deps.changes,
            redactor: &redactor,
            allowed: &settings.allowed_networks,
        };
        service.send(message, connection, context).await
    };
    tokio::time::timeout(ATTEMPT_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(DeliveryError::TimedOut))
}
