//! Matrix: an event `m.room.message` in a room (<https://spec.matrix.org/latest/client-server-api/#sending-events-to-a-room>).
//!
//! The id of the message is that of the transaction, so the homeserver itself ignores a message that comes twice.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::escape::escape_markup;
use super::http_target::HttpTarget;
use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::SecretReader;
use crate::notify::summary::Summary;
use crate::notify::urgency::Urgency;
use hyper::Method;
use quire_types::http_url::HttpUrl;
use quire_types::secret::Redactor;

#[derive(Clone)]
pub struct MatrixTarget {
    /// The URL of the homeserver.
    pub url: HttpUrl,
    pub room: String,
    /// The access token of a user who is in the room.
    pub token: SecretReader,
}

impl HttpTarget for MatrixTarget {
    fn check(&self) -> Result<(), String> {
        (self.token)().map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let token = (self.token)()?;
        let summary = Summary::new(message, redactor);
        // Clients show no notification for an `m.notice`.
        let kind = match summary.urgency {
            Urgency::Failed => "m.text",
            Urgency::Fixed | Urgency::Other => "m.notice",
        };
        let body = json!({
            "msgtype": kind,
            "body": format!("{}\n\n{}\n\n{}", summary.short_title(), summary.short_details(), summary.url),
            "format": "org.matrix.custom.html",
            "formatted_body": html(&summary),
            // Otherwise clients look for the names of users in the text.
            "m.mentions": {},
        });
        let path = format!(
            "_matrix/client/v3/rooms/{}/send/m.room.message/{}",
            utf8_percent_encode(&self.room, NON_ALPHANUMERIC),
            message.id
        );
        OutgoingRequest::new(
            Method::PUT,
            self.url.join(&path),
            body.to_string().into_bytes(),
        )
        .bearer(&token)
    }
}

fn html(summary: &Summary) -> String {
    let (facts, failed_jobs) = summary.shortened();
    let title = escape_markup(&summary.short_title());
    let mut text = format!(
        "<a href=\"{}\"><strong><font color=\"{colour}\" data-mx-color=\"{colour}\">{title}</font></strong></a>",
        escape_markup(&summary.url).replace('"', "&quot;"),
        colour = summary.urgency.colour(),
    );
    for fact in facts {
        text += &format!("<br>{}", escape_markup(&fact));
    }
    for job in failed_jobs {
        text += &format!("<br>{}", escape_markup(&job.heading));
        if !job.lines.is_empty() {
            let lines = escape_markup(&job.lines.join("\n"));
            text += &format!("<pre><code>{lines}\n</code></pre>");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::outgoing_request::sample::{reader, shown};

    #[test]
    fn requests_to_matrix() {
        let target = MatrixTarget {
            url: "https://matrix.example.org".parse().unwrap(),
            room: "!id:example.org".to_owned(),
            token: reader("syt_1234567890"),
        };
        insta::assert_snapshot!(shown(&target));
    }
}
