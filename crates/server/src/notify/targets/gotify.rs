//! Gotify: a message of an application (<https://gotify.net/docs/pushmsg>, <https://gotify.net/docs/msgextras>).

use serde_json::json;

use super::http_target::HttpTarget;
use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::SecretReader;
use crate::notify::summary::Summary;
use crate::notify::urgency::Urgency;
use quire_types::http_url::HttpUrl;
use quire_types::secret::Redactor;

#[derive(Clone)]
pub struct GotifyTarget {
    /// The URL of the server.
    pub url: HttpUrl,
    /// The token of the application.
    pub token: SecretReader,
}

impl HttpTarget for GotifyTarget {
    fn check(&self) -> Result<(), String> {
        (self.token)().map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let token = (self.token)()?;
        let summary = Summary::new(message, redactor);
        // From 4 on Gotify's clients make a sound, from 8 on they vibrate.
        let priority = match summary.urgency {
            Urgency::Failed => 8,
            Urgency::Fixed | Urgency::Other => 5,
        };
        let body = json!({
            "title": summary.short_title(),
            "message": format!("{}\n\n{}", summary.short_details(), summary.url),
            "priority": priority,
            "extras": {
                "client::display": {"contentType": "text/plain"},
                "client::notification": {"click": {"url": summary.url}},
            },
        });
        OutgoingRequest::post(self.url.join("message"), body.to_string().into_bytes())
            .header("x-gotify-key", token.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::outgoing_request::sample::{reader, shown};

    #[test]
    fn requests_to_gotify() {
        let target = GotifyTarget {
            url: "https://example.org/gotify".parse().unwrap(),
            token: reader("A1234567890"),
        };
        insta::assert_snapshot!(shown(&target));
    }
}
