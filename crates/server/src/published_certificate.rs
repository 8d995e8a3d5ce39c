//! The certificate with which the published address of the appliance answers: a proxy in front of quire has it, and clients see it first if
//! it was not renewed.
//!
//! The address is connected to as a client would, but nothing is sent over the connection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls_roots::system_roots;
use quire_runtime::blocking::run_blocking;
use quire_types::clock::Millis;
use quire_types::http_url::HttpUrl;
use quire_types::sync::lock;

/// How long it may take to see the certificate.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// A certificate has to be renewed before this part of its lifetime is left, and this long before its end at most. Programs that
/// renew certificates do so when a third is left.
const RENEWED_AT: i64 = 6;
const MAX_NOTICE_MS: i64 = 14 * 24 * 3600 * 1000;
/// Every certificate has expired by then: 9999-12-31.
const FAR_FUTURE: Duration = Duration::from_secs(253_402_214_400);

/// What was seen at the published address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenCertificate {
    /// No answer with TLS came. Clients may reach the address nevertheless.
    NoAnswer(String),
    /// What clients would accept.
    Valid(CertificateTimes),
    /// What the authorities of this system have not issued; clients may trust its issuer.
    UnknownIssuer(CertificateTimes),
    /// What no client accepts, and why.
    Invalid(String),
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateTimes {
    pub from: Millis,
    pub until: Millis,
}

impl CertificateTimes {
    /// Whether it should have been renewed by now.
    #[must_use]
    pub fn is_due(self, now: Millis) -> bool {
        let lifetime = self.until.0.saturating_sub(self.from.0);
        let notice = (lifetime / RENEWED_AT).min(MAX_NOTICE_MS);
        now >= self.until.plus(notice.saturating_neg())
    }
}

/// Looks at the certificate at a URL, which is one of `https`.
pub async fn look(url: &HttpUrl) -> SeenCertificate {
    match tokio::time::timeout(LOOK_TIMEOUT, handshake(url)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(problem)) => SeenCertificate::NoAnswer(problem),
        Err(_) => SeenCertificate::NoAnswer("there was no answer".to_owned()),
    }
}

async fn handshake(url: &HttpUrl) -> Result<SeenCertificate, String> {
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| error.to_string())?;
    let witness = Arc::new(
        run_blocking(Witness::new)
            .await
            .map_err(text)?
            .map_err(text)?,
    );
    let config = ClientConfig::builder_with_provider(witness.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    let stream = TcpStream::connect((url.host(), url.port())).await;
    let connector = TlsConnector::from(Arc::new(config));
    let ended = connector.connect(name, stream.map_err(text)?).await;
    let seen = lock(&witness.seen).take();
    // An end without a certificate is that of a server without TLS.
    seen.ok_or_else(|| ended.map_or_else(text, |_| "no certificate was shown".to_owned()))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Judges the certificate of a server as a client does, and remembers what it saw.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    judge: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<SeenCertificate>>,
}

impl Witness {
    /// Blocks.
    fn new() -> Result<Self, VerifierBuilderError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(system_roots());
        let judge = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
        Ok(Self {
            judge: judge.build()?,
            provider,
            seen: Mutex::default(),
        })
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let at = |time| {
            let judge = &self.judge;
            judge.verify_server_cert(certificate, intermediates, name, ocsp, time)
        };
        let verdict = at(now);
        let times = times(
            at(UnixTime::since_unix_epoch(Duration::ZERO)),
            at(UnixTime::since_unix_epoch(FAR_FUTURE)),
        );
        // Without a known issuer the name was not looked at.
        let named = || verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
        let judged = match &verdict {
            Ok(_) => Ok(true),
            Err(error) if is_unknown_issuer(error) => named().map(|()| false),
            Err(error) => Err(error.clone()),
        };
        *lock(&self.seen) = Some(match (judged, times) {
            (Ok(true), Some(times)) => SeenCertificate::Valid(times),
            (Ok(false), Some(times)) => SeenCertificate::UnknownIssuer(times),
            (Err(error), _) => SeenCertificate::Invalid(error.to_string()),
            (Ok(_), None) => SeenCertificate::Invalid("its times cannot be read".to_owned()),
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let judge = &self.judge;
        judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let judge = &self.judge;
        judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn is_unknown_issuer(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    )
}

/// The times of a certificate, from the verdicts at the beginning and at the end of time: they name them, and are made before the issuer is
/// looked for.
fn times(
    first: Result<ServerCertVerified, Error>,
    last: Result<ServerCertVerified, Error>,
) -> Option<CertificateTimes> {
    use CertificateError::{ExpiredContext, NotValidYetContext};
    match (first, last) {
        (
            Err(Error::InvalidCertificate(NotValidYetContext { not_before, .. })),
            Err(Error::InvalidCertificate(ExpiredContext { not_after, .. })),
        ) => Some(CertificateTimes {
            from: millis(not_before)?,
            until: millis(not_after)?,
        }),
        _ => None,
    }
}

fn millis(time: UnixTime) -> Option<Millis> {
    let millis = i64::try_from(time.as_secs()).ok()?.checked_mul(1000)?;
    Some(Millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_to_be_renewed_in_time() {
        const DAY_MS: i64 = 24 * 3600 * 1000;
        // How many days before its end a certificate of so many days is due.
        let due = |lifetime: i64| {
            let times = CertificateTimes {
                from: Millis(0),
                until: Millis(lifetime * DAY_MS),
            };
            (0..=lifetime)
                .rev()
                .find(|left| times.is_due(Millis((lifetime - left) * DAY_MS)))
        };
        assert_eq!(
            [6, 45, 90, 397].map(due),
            [Some(1), Some(7), Some(14), Some(14)]
        );
    }
}
