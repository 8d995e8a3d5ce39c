//! A target of any kind.

use super::gotify::GotifyTarget;
use super::http_target::HttpTarget;
use super::matrix::MatrixTarget;
use super::ntfy::NtfyTarget;
use super::slack::SlackTarget;
use super::webhook::WebhookTarget;
use crate::notify::delivery_error::DeliveryError;
use crate::notify::message::Message;
use quire_runtime::blocking::run_blocking;
use quire_types::network::Network;
use quire_types::secret::Redactor;

/// How a target is told.
#[derive(Clone)]
pub enum TargetService {
    Webhook(WebhookTarget),
    Ntfy(NtfyTarget),
    Gotify(GotifyTarget),
    Slack(SlackTarget),
    Matrix(MatrixTarget),
}

impl TargetService {
    fn http(&self) -> &dyn HttpTarget {
        match self {
            Self::Webhook(target) => target,
            Self::Ntfy(target) => target,
            Self::Gotify(target) => target,
            Self::Slack(target) => target,
            Self::Matrix(target) => target,
        }
    }

    /// What is wrong with the settings or with a secret that they name. Blocks.
    pub(in crate::notify) fn check(&self) -> Result<(), String> {
        self.http().check()
    }

    /// Sends a message. Returns once the receiver has confirmed it.
    pub(in crate::notify) async fn send(
        &self,
        message: &Message,
        redactor: &Redactor,
        allowed: &[Network],
    ) -> Result<(), DeliveryError> {
        let (target, message, known) = (self.clone(), message.clone(), redactor.clone());
        let request = run_blocking(move || target.http().request(&message, &known))
            .await?
            .map_err(DeliveryError::Settings)?;
        request.send(redactor, allowed).await
    }
}
