//! Webhooks: a POST request with a signed JSON document.
//!
//! Headers and signature are those of Standard Webhooks (<https://www.standardwebhooks.com>): the HMAC-SHA-256 of
//! `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::http_target::HttpTarget;
use super::webhook_document;
use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::{SecretReader, UrlReader};
use quire_types::secret::{Redactor, Secret};

/// Begins a key that is base64 text, as Standard Webhooks writes keys.
const BASE64_KEY_PREFIX: &str = "whsec_";

#[derive(Clone)]
pub struct WebhookTarget {
    pub url: UrlReader,
    /// The key of the signature.
    pub key: Option<SecretReader>,
}

impl WebhookTarget {
    fn read_key(&self) -> Result<Option<Secret>, String> {
        self.key.as_ref().map(|read| read()).transpose()
    }
}

impl HttpTarget for WebhookTarget {
    fn check(&self) -> Result<(), String> {
        self.url.read()?;
        self.read_key().map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let body = webhook_document::render(message, redactor);
        let timestamp = message.sent_at.0.div_euclid(1000);
        let key = self.read_key()?;
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

/// `v1,` and the signature in base64.
fn signature(key: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Result<String, String> {
    let bytes = match key.expose().strip_prefix(BASE64_KEY_PREFIX) {
        Some(text) => zeroize::Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| {
            format!("the secret `key` begins with {BASE64_KEY_PREFIX} and is no base64 after that")
        })?),
        None => zeroize::Zeroizing::new(key.expose().as_bytes().to_vec()),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&bytes).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(format!(
        "v1,{}",
        STANDARD.encode(mac.finalize().into_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let sign = |key: &str| {
            signature(
                &Secret::new(key.to_owned()),
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                b"{\"test\": 2432232314}",
            )
        };
        assert_eq!(
            sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_ne!(sign("a plain key"), sign("another key"));
        insta::assert_snapshot!(sign("whsec_?").unwrap_err(), @"the secret `key` begins with whsec_ and is no base64 after that");
    }
}
