//! HTTP requests to receivers, and what their answers mean. Redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};

use super::delivery_error::DeliveryError;
use crate::addresses::ReachableAddresses;
use crate::outgoing::{
    ConnectionError, KeptConnection, OpenConnection, PROGRAM_NAME, error_words, read_answer,
};
use quire_types::http_url::HttpUrl;
use quire_types::secret::{Redactor, Secret};

/// The longest delay that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The connection to a receiver.
pub(super) type MessageConnection = KeptConnection<Full<Bytes>>;

/// A request with a JSON body.
pub(super) struct OutgoingRequest {
    method: Method,
    url: HttpUrl,
    headers: HeaderMap,
    body: Vec<u8>,
    unknown_object: UnknownObject,
}

/// What it means that a receiver does not know what a message is about (404 or 422).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownObject {
    /// The address or the message is wrong.
    Wrong,
    /// The receiver may know it soon.
    Expected,
    /// The receiver has had the time to learn of it.
    Final,
}

impl OutgoingRequest {
    pub(super) fn post(url: HttpUrl, body: Vec<u8>) -> Self {
        Self::new(Method::POST, url, body)
    }

    pub(super) fn new(method: Method, url: HttpUrl, body: Vec<u8>) -> Self {
        let headers = [
            (USER_AGENT, HeaderValue::from_static(PROGRAM_NAME)),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        Self {
            method,
            url,
            headers: headers.into_iter().collect(),
            body,
            unknown_object: UnknownObject::Wrong,
        }
    }

    /// Says what an answer means that does not know the object of the message.
    pub(super) fn unknown_object(mut self, meaning: UnknownObject) -> Self {
        self.unknown_object = meaning;
        self
    }

    /// Adds a header. The value is in no message, since it may be a secret.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Result<Self, String> {
        let name = HeaderName::from_static(name);
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            format!("the value of the header `{name}` has characters that no header can have")
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Adds a token as `Authorization: Bearer`.
    pub(super) fn bearer(self, token: &Secret) -> Result<Self, String> {
        let value = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
        self.header("authorization", &value)
    }

    /// Connects to the receiver, and sends nothing.
    pub(super) async fn reach(self, allowed: ReachableAddresses<'_>) -> Result<(), DeliveryError> {
        let opened: Result<OpenConnection<Full<Bytes>>, ConnectionError> =
            OpenConnection::open(&self.url, allowed).await;
        Ok(opened.map(drop)?)
    }

    /// Sends it, over the kept connection if possible. Returns once the receiver has confirmed it.
    pub(super) async fn send(
        self,
        connection: &mut MessageConnection,
        redactor: &Redactor,
        allowed: ReachableAddresses<'_>,
    ) -> Result<(), DeliveryError> {
        let Self {
            method,
            url,
            headers,
            body,
            unknown_object,
        } = self;
        let mut request = Request::builder()
            .method(method)
            .uri(url.path_and_query())
            .header(HOST, url.authority())
            .body(Full::new(Bytes::from(body)))?;
        request.headers_mut().extend(headers);
        let (open, response) = connection.send(|| request.clone(), &url, allowed).await?;
        if !response.status().is_success() {
            return judge(response, &url, redactor, unknown_object).await;
        }
        // Only after a whole answer can the next request follow.
        if read_answer(response.into_body()).await.is_some() {
            connection.keep(open);
        }
        Ok(())
    }
}

/// What an answer means that is no success.
async fn judge(
    response: Response<Incoming>,
    url: &HttpUrl,
    redactor: &Redactor,
    unknown_object: UnknownObject,
) -> Result<(), DeliveryError> {
    let status = response.status();
    let origin = url.origin();
    if status.is_redirection() {
        return Err(DeliveryError::Redirected { origin });
    }
    let asked_delay = asked_delay(&response);
    // The status is the answer; what explains it may be missing.
    let text = read_answer(response.into_body()).await.unwrap_or_default();
    let retry_after = asked_delay.or_else(|| asked_delay_of_matrix(&text));
    let words = error_words(&String::from_utf8_lossy(&text), url, redactor);
    let answer = format!("{status}{words}");
    Err(match is_final(status, unknown_object) {
        true => DeliveryError::Refused { origin, answer },
        false => DeliveryError::Answered {
            origin,
            answer,
            retry_after,
        },
    })
}

/// Whether the receiver would answer the same to another attempt.
fn is_final(status: StatusCode, unknown_object: UnknownObject) -> bool {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => true,
        StatusCode::UNPROCESSABLE_ENTITY => unknown_object != UnknownObject::Expected,
        StatusCode::NOT_FOUND => unknown_object == UnknownObject::Final,
        _ => false,
    }
}

/// The header `Retry-After`: seconds, or a date.
fn asked_delay<B>(response: &Response<B>) -> Option<Duration> {
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

/// What homeservers of Matrix before version 1.10 say in place of the header.
fn asked_delay_of_matrix(answer: &[u8]) -> Option<Duration> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let delay = Duration::from_millis(answer.get("retry_after_ms")?.as_u64()?);
    Some(delay.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
pub(super) mod sample {
    //! Requests as snapshots show them.

    use std::sync::Arc;

    use super::OutgoingRequest;
    use crate::notify::message::{Message, sample};
    use crate::notify::policy::Reason;
    use crate::notify::readers::SecretReader;
    use crate::notify::targets::HttpTarget;
    use quire_types::run::RunState;

    pub(in crate::notify) fn reader(value: &'static str) -> SecretReader {
        Arc::new(move || Ok(quire_types::secret::Secret::new(value.to_owned())))
    }

    /// The requests of a failed run, of one that is complete again, and of a test.
    pub(in crate::notify) fn shown(target: &dyn HttpTarget) -> String {
        let mut failed = sample::failed();
        let job = &mut failed.run_ended_mut().failed_jobs[0];
        job.lines.push("error: `a<b>` & \"c\" ```".to_owned());
        let mut fixed = sample::failed();
        let event = fixed.run_ended_mut();
        event.reason = Reason::Fixed;
        event.run.state = RunState::Complete;
        event.failed_jobs.clear();
        event.run.message = None;
        event.run.subject = Some("Repair <b> & Größe".to_owned());
        let request = |message: &Message| {
            target.check().unwrap();
            shown_request(&target.request(message, &Default::default()).unwrap())
        };
        [&failed, &fixed, &sample::test()].map(request).join("\n\n")
    }

    pub(in crate::notify) fn shown_request(request: &OutgoingRequest) -> String {
        let mut text = format!(
            "{} {}{}\n",
            request.method,
            request.url.origin(),
            request.url.path_and_query()
        );
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes())
                .replace(env!("CARGO_PKG_VERSION"), "VERSION");
            text += &format!("{name}: {value}\n");
        }
        if request.body.is_empty() {
            return text;
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        text + &serde_json::to_string_pretty(&body).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_does_not_know_is_asked_again_while_it_may_learn_of_it() {
        let finals = |status| {
            [
                UnknownObject::Wrong,
                UnknownObject::Expected,
                UnknownObject::Final,
            ]
            .map(|meaning| is_final(status, meaning))
        };
        assert_eq!(finals(StatusCode::BAD_REQUEST), [true; 3]);
        assert_eq!(finals(StatusCode::UNAUTHORIZED), [false; 3]);
        assert_eq!(finals(StatusCode::NOT_FOUND), [false, false, true]);
        assert_eq!(
            finals(StatusCode::UNPROCESSABLE_ENTITY),
            [true, false, true]
        );
    }

    #[test]
    fn delays_that_receivers_ask_for_are_limited() {
        let of = |text: &str| {
            let response = Response::builder()
                .header(RETRY_AFTER, text)
                .body(())
                .unwrap();
            asked_delay(&response).map(|delay| delay.as_secs())
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
        let of_matrix = |answer: &str| asked_delay_of_matrix(answer.as_bytes());
        assert_eq!(
            of_matrix("{\"errcode\": \"M_LIMIT_EXCEEDED\", \"retry_after_ms\": 1500}"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(["{}", "slow down"].map(of_matrix), [None, None]);
    }
}
