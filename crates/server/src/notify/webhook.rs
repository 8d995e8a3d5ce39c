//! Webhooks: a POST request with a signed JSON document.
//!
//! Headers and signature are those of Standard Webhooks (<https://www.standardwebhooks.com>): the HMAC-SHA-256 of
//! `id.timestamp.body`. Redirects are not followed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{IoStream, connect, secure};
use super::delivery_error::DeliveryError;
use super::document;
use super::message::Message;
use super::settings::WebhookTarget;
use quire_runtime::blocking::run_blocking;
use quire_types::http_url::HttpUrl;
use quire_types::network::Network;
use quire_types::secret::{Redactor, Secret};
use quire_types::text::first_line;

/// How much of an answer is read, in bytes.
const MAX_ANSWER: usize = 4096;
/// How much of an answer an error message quotes, in characters.
const MAX_QUOTED_ANSWER: usize = 120;
/// The longest delay that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Begins a key that is base64 text, as Standard Webhooks writes keys.
const BASE64_KEY_PREFIX: &str = "whsec_";

/// Sends a message.
pub(super) async fn send(
    message: &Message,
    target: &WebhookTarget,
    redactor: &Redactor,
    allowed: &[Network],
) -> Result<(), DeliveryError> {
    let read = target.clone();
    let (url, key) = run_blocking(move || Ok((read.read_url()?, read.read_key()?)))
        .await?
        .map_err(DeliveryError::Settings)?;
    let body = document::render(message, redactor);
    let timestamp = message.sent_at.0.div_euclid(1000);
    let mut request = Request::post(url.path_and_query())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("quire/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", timestamp);
    if let Some(key) = key {
        let signature =
            signature(&key, &message.id, timestamp, &body).map_err(DeliveryError::Settings)?;
        request = request.header("webhook-signature", signature);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let stream = connect(url.host(), url.port(), allowed).await?;
    let stream: Box<dyn IoStream> = if url.is_tls() {
        secure(stream, url.host()).await?
    } else {
        Box::new(stream)
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await?;
    judge(response, &url, redactor).await
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

/// What an answer means.
async fn judge(
    response: Response<Incoming>,
    url: &HttpUrl,
    redactor: &Redactor,
) -> Result<(), DeliveryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let origin = url.origin();
    if status.is_redirection() {
        return Err(DeliveryError::Redirected { origin });
    }
    let retry_after = retry_after(&response);
    // The status is the answer; what explains it may be missing.
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    let text = body.map(|body| body.to_bytes()).unwrap_or_default();
    let text = redactor.redact_text(&String::from_utf8_lossy(&text));
    let quoted = match first_line(&text, MAX_QUOTED_ANSWER) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    };
    let answer = format!("{status}{quoted}");
    Err(match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => DeliveryError::Refused { origin, answer },
        _ => DeliveryError::Answered {
            origin,
            answer,
            retry_after,
        },
    })
}

/// The header `Retry-After`: seconds, or a date.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()?
        }
    };
    Some(asked.min(MAX_RETRY_AFTER))
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

    #[test]
    fn delays_that_receivers_ask_for_are_limited() {
        let of = |text: &str| {
            let response = Response::builder()
                .header(RETRY_AFTER, text)
                .body(())
                .unwrap();
            retry_after(&response).map(|delay| delay.as_secs())
        };
        let dates = [
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Wed, 21 Oct 2099 07:28:00 GMT",
        ];
        assert_eq!(dates.map(of), [None, Some(3600)]);
        assert_eq!(
            ["120", " 5 ", "99999", "-1", "soon", ""].map(of),
            [Some(120), Some(5), Some(3600), None, None, None]
        );
    }
}
