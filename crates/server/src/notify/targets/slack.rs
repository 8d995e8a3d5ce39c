//! Slack: an incoming webhook with one attachment, which Mattermost and Discord (its URL with `/slack`) understand too.
//!
//! An attachment has a colour and needs no permissions. Blocks, which Slack itself prefers, are understood by Slack alone.

use serde_json::json;

use super::escape::escape_markup;
use super::http_target::HttpTarget;
use crate::notify::message::Message;
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::UrlReader;
use crate::notify::summary::Summary;
use quire_types::secret::Redactor;

#[derive(Clone)]
pub struct SlackTarget {
    pub url: UrlReader,
}

impl HttpTarget for SlackTarget {
    fn check(&self) -> Result<(), String> {
        self.url.read().map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let url = self.url.read()?;
        let summary = Summary::new(message, redactor);
        let title = escape_markup(&summary.short_title());
        let body = json!({
            "attachments": [{
                "fallback": title,
                "color": summary.urgency.colour(),
                "title": title,
                "title_link": summary.url,
                "text": details(&summary),
                "mrkdwn_in": ["text"],
            }],
        });
        Ok(OutgoingRequest::post(url, body.to_string().into_bytes()))
    }
}

fn details(summary: &Summary) -> String {
    let (facts, failed_jobs) = summary.shortened();
    let mut text = escape_markup(&facts.join("\n"));
    for job in failed_jobs {
        text += &format!("\n{}", escape_markup(&job.heading));
        if !job.lines.is_empty() {
            text += &format!("\n```\n{}\n```", code(&job.lines.join("\n")));
        }
    }
    text
}

/// Text inside of a block of code, which three backticks would end: zero-width spaces separate them.
fn code(text: &str) -> String {
    escape_markup(text).replace("```", "`\u{200b}`\u{200b}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::outgoing_request::sample::{reader, shown};

    #[test]
    fn requests_to_slack() {
        let target = SlackTarget {
            url: UrlReader::Secret(reader("https://hooks.example.org/services/T0/B0/x")),
        };
        insta::assert_snapshot!(shown(&target));
    }

    #[test]
    fn lines_do_not_end_their_block() {
        assert_eq!(
            code("<!channel> ````"),
            "&lt;!channel&gt; `\u{200b}`\u{200b}``"
        );
    }
}
