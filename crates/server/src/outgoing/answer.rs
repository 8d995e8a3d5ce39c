//! What an answer says that is no success, for a message: short, printable and without secrets.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;

use quire_types::http_url::HttpUrl;
use quire_types::secret::{Redactor, Secret};
use quire_types::text::first_line;

/// How much of an answer is read, in bytes.
const MAX_ANSWER: usize = 4096;
/// How much of an answer an error message quotes, in characters.
const MAX_QUOTED_ANSWER: usize = 120;

/// The beginning of a server's answer for a message, without any secret.
pub(crate) fn quote(answer: &str, redactor: &Redactor) -> String {
    first_line(&redactor.redact_text(answer), MAX_QUOTED_ANSWER)
}

/// The whole body of an answer; `None` if it is not short, or is cut off.
pub(crate) async fn read_answer<B>(body: B) -> Option<Bytes>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    body.map(|body| body.to_bytes()).ok()
}

/// What a server said about a request to this URL, to be put behind the status: `: words`, or nothing.
pub(crate) fn error_words(words: &str, url: &HttpUrl, redactor: &Redactor) -> String {
    // The path may be a secret although the configuration has it as it is.
    let path = Secret::new(url.path_and_query().to_owned());
    let path = Redactor::new([("url", &path)]);
    let text = path.redact_text(&redactor.redact_text(words));
    match quote(&text, redactor) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    }
}
