//! Submission of mail to a server.
//!
//! ```text
//! connect ─┬─ smtps://: TLS ────────────────────────────┐
//!          ├─ smtp://: greeting, EHLO, STARTTLS, TLS ───┼─► EHLO, AUTH ──► MAIL, RCPT, DATA ──► accepted
//!          └─ smtp:// and :starttls false: no TLS ──────┘       │                 │
//!                                        any refusal: again later         4xx: again later, 5xx: refused
//! ```
//! The connection and TLS are those of all notifications, so addresses are checked and certificates are judged in one
//! way. lettre speaks SMTP over them.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use hyper::body::Bytes;
use lettre::address::Envelope;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use tokio::net::TcpStream;

use super::greeted_stream::GreetedStream;
use super::starttls::start_tls;
use crate::addresses::ReachableAddresses;
use crate::notify::delivery_error::DeliveryError;
use crate::outgoing::{connect, quote, secure};
use quire_types::secret::Redactor;
use quire_types::smtp_url::SmtpUrl;
use quire_types::text::single_line;

const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// How long the server may take to end a connection after it has accepted a mail.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A mail server, and who quire is to it.
pub(super) struct SmtpServer {
    pub(super) url: SmtpUrl,
    /// Whether a connection that begins without TLS must switch to it; otherwise it stays without.
    pub(super) starttls: bool,
    pub(super) credentials: Option<Credentials>,
}

/// A mail that is ready to be sent.
pub(super) struct OutgoingMail {
    pub(super) envelope: Envelope,
    pub(super) text: Bytes,
}

impl SmtpServer {
    /// Submits a mail. Returns once the server has accepted it for all recipients.
    pub(super) async fn submit(
        &self,
        mail: &OutgoingMail,
        redactor: &Redactor,
        allowed: ReachableAddresses<'_>,
    ) -> Result<(), DeliveryError> {
        let mut connection = self.log_in(redactor, allowed).await?;
        let sent = connection.send(&mail.envelope, &mail.text).await;
        sent.map_err(|error| self.failure(&error, Phase::Mail, redactor))?;
        // The mail is accepted, whatever the server says to the end of the connection.
        let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(())
    }

    /// Connects to the server and logs in.
    pub(super) async fn reach(
        &self,
        redactor: &Redactor,
        allowed: ReachableAddresses<'_>,
    ) -> Result<(), DeliveryError> {
        let mut connection = self.log_in(redactor, allowed).await?;
        let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(())
    }

    async fn log_in(
        &self,
        redactor: &Redactor,
        allowed: ReachableAddresses<'_>,
    ) -> Result<AsyncSmtpConnection, DeliveryError> {
        let failure = |error| self.failure(&error, Phase::Login, redactor);
        let stream = connect(self.url.host(), self.url.port(), allowed).await?;
        let hello = hello(&stream);
        let stream = if self.url.is_implicit_tls() {
            GreetedStream::new(secure(stream, self.url.host()).await?)
        } else if self.starttls {
            start_tls(stream, &self.url, &hello, redactor).await?
        } else {
            GreetedStream::new(Box::new(stream))
        };
        let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello)
            .await
            .map_err(failure)?;
        if let Some(credentials) = &self.credentials {
            let server = connection.server_info();
            if server.get_auth_mechanism(&MECHANISMS).is_none() {
                return Err(DeliveryError::NoPasswords {
                    server: self.url.to_string(),
                });
            }
            let accepted = connection.auth(&MECHANISMS, credentials).await;
            accepted.map_err(failure)?;
        }
        Ok(connection)
    }

    fn failure(&self, error: &smtp::Error, phase: Phase, redactor: &Redactor) -> DeliveryError {
        let server = self.url.to_string();
        let Some(code) = error.status() else {
            return DeliveryError::Smtp {
                server,
                problem: quote(&error.to_string(), redactor),
            };
        };
        let words = error.source().map(ToString::to_string).unwrap_or_default();
        let answer = quote(&format!("{code} {}", single_line(&words)), redactor);
        match phase {
            Phase::Mail if error.is_permanent() => DeliveryError::Refused {
                origin: server,
                answer,
            },
            // What is refused before the mail is not the mail, so another attempt with it is of use.
            Phase::Mail | Phase::Login => DeliveryError::Answered {
                origin: server,
                answer,
                retry_after: None,
            },
        }
    }
}

/// What a refusal is about.
#[derive(Clone, Copy)]
enum Phase {
    /// The greeting, EHLO and AUTH.
    Login,
    /// MAIL, RCPT and DATA.
    Mail,
}

/// The name of this machine in EHLO: its address on this connection, since it need not have a name that others know.
fn hello(stream: &TcpStream) -> ClientId {
    let address = stream.local_addr().map(|address| address.ip());
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
        Err(_) => ClientId::default(),
    }
}
