//! ntfy: a message as JSON, sent to the server of a topic (<https://docs.ntfy.sh/publish/#publish-as-json>).

use serde_json::json;

use super::http_target::HttpTarget;
use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::{SecretReader, UrlReader, read_optional};
use crate::notify::summary::Summary;
use crate::notify::urgency::Urgency;
use quire_types::http_url::HttpUrl;
use quire_types::secret::{Redactor, Secret};

#[derive(Clone)]
pub struct NtfyTarget {
    /// The URL of the topic.
    pub url: UrlReader,
    pub token: Option<SecretReader>,
}

impl NtfyTarget {
    /// The server, the topic and the token.
    fn read(&self) -> Result<(HttpUrl, String, Option<Secret>), String> {
        let url = self.url.read()?;
        let (server, topic) = url
            .split_last_name()
            .ok_or("the value of the secret `url` is not the URL of a topic such as `https://ntfy.sh/topic`")?;
        let token = read_optional(self.token.as_ref())?;
        Ok((server, topic.to_owned(), token))
    }
}

impl HttpTarget for NtfyTarget {
    fn check(&self) -> Result<(), String> {
        self.read().map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let (server, topic, token) = self.read()?;
        let summary = Summary::new(message, redactor);
        let (priority, tags): (u8, &[&str]) = match summary.urgency {
            Urgency::Failed => (4, &["x"]),
            Urgency::Fixed => (3, &["white_check_mark"]),
            Urgency::Other => (3, &[]),
        };
        let body = json!({
            "topic": topic,
            "title": summary.short_title(),
            "message": summary.short_details(),
            "priority": priority,
            "tags": tags,
            "click": summary.url,
        });
        let request = OutgoingRequest::post(server, body.to_string().into_bytes());
        match token {
            Some(token) => request.bearer(&token),
            None => Ok(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::outgoing_request::sample::{reader, shown};

    #[test]
    fn requests_to_ntfy() {
        let mut target = NtfyTarget {
            url: UrlReader::Plain("https://ntfy.example.org/alerts".parse().unwrap()),
            token: Some(reader("tk_1234567890")),
        };
        let failed = shown(&target);
        target.token = None;
        target.url = UrlReader::Secret(reader("https://example.org/ntfy/topic"));
        assert!(shown(&target).starts_with("POST https://example.org/ntfy/\n"));
        insta::assert_snapshot!(failed);
        target.url = UrlReader::Secret(reader("https://ntfy.example.org"));
        insta::assert_snapshot!(target.check().unwrap_err(), @"the value of the secret `url` is not the URL of a topic such as `https://ntfy.sh/topic`");
    }
}
