//! Webhooks: a POST request with a signed JSON document.
//!
//! Headers and signature are those of Standard Webhooks (<https://www.standardwebhooks.com>).

use super::http_target::HttpTarget;
use super::webhook_document;
use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::{SecretReader, UrlReader, read_optional};
use crate::webhook_signature::signature;
use quire_types::secret::Redactor;

#[derive(Clone)]
pub struct WebhookTarget {
    pub url: UrlReader,
    /// The key of the signature.
    pub key: Option<SecretReader>,
}

impl HttpTarget for WebhookTarget {
    fn check(&self) -> Result<(), String> {
        self.url.read()?;
        read_optional(self.key.as_ref()).map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let body = webhook_document::render(message, redactor);
        let timestamp = message.sent_at.0.div_euclid(1000);
        let key = read_optional(self.key.as_ref())?;
        let signature = key.map(|key| signature(&key, &message.id, timestamp, &body));
        let mut request = OutgoingRequest::post(self.url.read()?, body)
            .header("webhook-id", &message.id)?
            .header("webhook-timestamp", &timestamp.to_string())?;
        if let Some(signature) = signature {
            request = request.header("webhook-signature", &signature?)?;
        }
        Ok(request)
    }
}
