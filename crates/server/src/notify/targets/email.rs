//! E-mail: a plain message, submitted to a mail server.
//!
//! The messages of one ref of a repository, and those of one finding, are one thread: all of them refer to the same message, which does
//! not exist.

use std::time::{Duration, UNIX_EPOCH};

use hyper::body::Bytes;
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use sha2::{Digest as _, Sha256};

use super::smtp::{OutgoingMail, SmtpServer};
use crate::notify::message::{Message, MessageEvent};
use crate::notify::readers::SecretReader;
use crate::notify::summary::Summary;
use crate::notify::urgency::Urgency;
use quire_types::mail_address::MailAddress;
use quire_types::secret::Redactor;
use quire_types::smtp_url::SmtpUrl;
use quire_types::token::hex;

/// How many digits of a digest name a thread.
const THREAD_DIGITS: usize = 32;

#[derive(Clone)]
pub struct EmailTarget {
    pub to: Vec<MailAddress>,
    pub from: MailAddress,
    pub smtp: SmtpUrl,
    /// Whether a connection that begins without TLS must switch to it; otherwise it stays without.
    pub starttls: bool,
    /// A user, and where the password is.
    pub login: Option<(String, SecretReader)>,
}

impl EmailTarget {
    /// What is wrong with a secret. Blocks.
    pub(super) fn check(&self) -> Result<(), String> {
        self.read_credentials().map(drop)
    }

    fn read_credentials(&self) -> Result<Option<Credentials>, String> {
        let Some((user, read)) = &self.login else {
            return Ok(None);
        };
        let password = read()?.expose().to_owned();
        Ok(Some(Credentials::new(user.clone(), password)))
    }

    /// The server with what it has to know of quire. Blocks.
    pub(super) fn server(&self) -> Result<SmtpServer, String> {
        Ok(SmtpServer {
            url: self.smtp.clone(),
            starttls: self.starttls,
            credentials: self.read_credentials()?,
        })
    }

    /// Makes the mail of a message.
    pub(super) fn mail(
        &self,
        message: &Message,
        redactor: &Redactor,
    ) -> Result<OutgoingMail, String> {
        let summary = Summary::new(message, redactor);
        let domain = self.from.domain();
        let mut builder = lettre::Message::builder()
            .from(mailbox(&self.from)?)
            .subject(summary.short_title())
            .date(UNIX_EPOCH + Duration::from_millis(message.sent_at.0.try_into().unwrap_or(0)))
            .message_id(Some(format!("<{}@{domain}>", message.id)))
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN)
            .raw_header(raw("Auto-Submitted", "auto-generated"));
        for address in &self.to {
            builder = builder.to(mailbox(address)?);
        }
        if let Some(thread) = thread_of(message) {
            let id = format!("<{thread}@{domain}>");
            builder = builder.in_reply_to(id.clone()).references(id);
        }
        let mail = with_urgency(builder, summary.urgency)
            .body(summary.text())
            .map_err(|error| format!("no mail can be made of the message: {error}"))?;
        Ok(OutgoingMail {
            envelope: mail.envelope().clone(),
            text: Bytes::from(mail.formatted()),
        })
    }
}

fn with_urgency(builder: MessageBuilder, urgency: Urgency) -> MessageBuilder {
    match urgency {
        Urgency::Failed => builder.raw_header(raw("Importance", "high")),
        Urgency::Fixed | Urgency::Other => builder,
    }
}

/// A header whose value needs no encoding.
fn raw(name: &'static str, value: &'static str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn mailbox(address: &MailAddress) -> Result<Mailbox, String> {
    let parsed = Address::new(address.local_part(), address.domain());
    let parsed = parsed.map_err(|error| format!("{address} is not an address of mail: {error}"))?;
    Ok(Mailbox::new(address.name().map(str::to_owned), parsed))
}

/// The name of the thread of a run's repository and ref, or of a finding. Such names cannot be part of an id as they are.
fn thread_of(message: &Message) -> Option<String> {
    let about = match &message.event {
        MessageEvent::RunEnded(event) => format!("{}\0{}", event.run.repo, event.run.ref_name),
        // No name of a repository begins with a zero.
        MessageEvent::Health(report) => format!("\0{}\0{}", report.part, report.subject),
        MessageEvent::Test | MessageEvent::Pushed(_) => return None,
    };
    let digest = Sha256::digest(about);
    Some(hex(&digest)[..THREAD_DIGITS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample;
    use crate::notify::policy::Reason;
    use quire_types::finding::FindingPhase;

    fn target() -> EmailTarget {
        EmailTarget {
            to: vec![
                "you@example.com".parse().unwrap(),
                "Größe <them@example.com>".parse().unwrap(),
            ],
            from: "quire <ci@example.org>".parse().unwrap(),
            smtp: "smtps://mail.example.org".parse().unwrap(),
            starttls: true,
            login: None,
        }
    }

    fn mail(message: &Message) -> String {
        let mail = target().mail(message, &Redactor::default()).unwrap();
        let text = String::from_utf8(mail.text.to_vec()).unwrap();
        assert!(
            text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']),
            "{text:?}"
        );
        text.replace("\r\n", "\n")
    }

    #[test]
    fn mails() {
        let mut fixed = sample::failed();
        let event = fixed.run_ended_mut();
        event.reason = Reason::Fixed;
        event.failed_jobs.clear();
        event.run.message = None;
        event.run.subject = Some("Größe prüfen\r\nBcc: mallory@example.org".to_owned());
        let over = sample::health(FindingPhase::Over);
        let mails = [&sample::failed(), &fixed, &sample::test(), &over].map(mail);
        insta::assert_snapshot!(mails.join("\n\n"));
    }

    #[test]
    fn a_thread_is_that_of_a_repository_and_a_ref() {
        let thread = |repo: &str, ref_name: &str| {
            let mut message = sample::failed();
            let run = &mut message.run_ended_mut().run;
            (run.repo, run.ref_name) = (repo.parse().unwrap(), ref_name.parse().unwrap());
            thread_of(&message).unwrap()
        };
        let main = thread("shop", "refs/heads/main");
        assert_eq!(main, thread("shop", "refs/heads/main"));
        assert_ne!(main, thread("shop", "refs/heads/other"));
        assert_ne!(main, thread("other", "refs/heads/main"));
        let [began, over] = [FindingPhase::Began, FindingPhase::Over].map(sample::health);
        assert_eq!(thread_of(&began), thread_of(&over));
        assert_ne!(thread_of(&began), Some(main));
    }
}
