//! The health check of the certificate of the published address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quire_server::notify::NotifySettings;
use quire_server::published_certificate::{CertificateTimes, SeenCertificate, look};
use quire_types::clock::{Clock, Millis};
use quire_types::http_url::HttpUrl;
use quire_types::text::format_elapsed;
use quire_web::{Component, HealthRegistry, Measurement, Status};
use tokio::sync::watch::Receiver;

use super::health_probes::INTERVAL;

/// How often a certificate that is right is looked at, and one that is not, or was not seen.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
const LOOK_AGAIN_INTERVAL: Duration = Duration::from_secs(120);

/// Reports the certificate with which the address of the configuration in force answers.
pub(super) async fn certificate(
    mut settings: Receiver<Arc<NotifySettings>>,
    clock: &Clock,
    health: &HealthRegistry,
) {
    let mut last: Option<(HttpUrl, SeenCertificate, Instant)> = None;
    loop {
        let current = settings.borrow_and_update().clone();
        let url: Option<HttpUrl> = current.url.for_reader(None).parse().ok();
        let now = clock.now();
        let (status, message, figure) = match url.filter(HttpUrl::is_tls) {
            None => {
                last = None;
                let message =
                    "not used: the published address (:http {:url …}) is not one of https";
                (Status::Ok, message.to_owned(), None)
            }
            Some(url) => {
                let seen = match last.take() {
                    Some((of, seen, at)) if of == url && at.elapsed() < pause(&seen, now) => {
                        (of, seen, at)
                    }
                    last => {
                        let known = last.filter(|(of, ..)| *of == url).map(|(_, seen, _)| seen);
                        let seen = or_known(look(&url).await, known);
                        (url.clone(), seen, Instant::now())
                    }
                };
                let found = certificate_health(&url, &seen.1, now);
                last = Some(seen);
                found
            }
        };
        health.set(Component::Certificate, status, message, figure);
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

/// A certificate that cannot be looked at for now is what it was: an answer that is missing does not make it right.
fn or_known(seen: SeenCertificate, known: Option<SeenCertificate>) -> SeenCertificate {
    match (seen, known) {
        (SeenCertificate::NoAnswer(_), Some(known)) => known,
        (seen, _) => seen,
    }
}

fn pause(seen: &SeenCertificate, now: Millis) -> Duration {
    match seen {
        SeenCertificate::Valid(times) | SeenCertificate::UnknownIssuer(times)
            if !times.is_due(now) =>
        {
            LOOK_INTERVAL
        }
        _ => LOOK_AGAIN_INTERVAL,
    }
}

fn certificate_health(
    url: &HttpUrl,
    seen: &SeenCertificate,
    now: Millis,
) -> (Status, String, Option<Measurement>) {
    let origin = url.origin();
    let (times, trusted) = match seen {
        SeenCertificate::NoAnswer(problem) => {
            // Many networks do not lead from inside to the address that clients outside use.
            let message = format!("{origin} cannot be looked at from here: {problem}");
            return (Status::Ok, message, None);
        }
        SeenCertificate::Invalid(problem) => {
            let message = format!("clients do not accept the certificate of {origin}: {problem}");
            return (Status::Degraded, message, None);
        }
        SeenCertificate::Valid(times) => (*times, ""),
        SeenCertificate::UnknownIssuer(times) => (
            *times,
            "; its issuer is not known here, so clients have to trust it themselves",
        ),
    };
    let left = times.until.since(now);
    let figure = Measurement {
        what: "seconds_left",
        value: left / 1000,
    };
    let CertificateTimes { until, .. } = times;
    let (status, hint) = match times.is_due(now) {
        true => (
            Status::Degraded,
            " and was not renewed; check what renews it",
        ),
        false => (Status::Ok, ""),
    };
    let left = format_elapsed(left);
    let message = format!("the certificate of {origin} ends in {left}, at {until}{hint}{trusted}");
    (status, message, Some(figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_certificates() {
        let url = "https://git.example.org".parse().unwrap();
        let day = 24 * 3600 * 1000;
        let times = CertificateTimes {
            from: Millis(0),
            until: Millis(90 * day),
        };
        let unknown = SeenCertificate::UnknownIssuer(times);
        let found = [
            (
                SeenCertificate::NoAnswer("connection refused".to_owned()),
                1,
            ),
            (
                SeenCertificate::Invalid("certificate expired".to_owned()),
                1,
            ),
            (SeenCertificate::Valid(times), 1),
            (SeenCertificate::Valid(times), 77),
            (unknown.clone(), 1),
            (unknown, 91),
        ];
        let said = found.map(|(seen, days)| {
            let now = Millis(days * day);
            let (status, message, _) = certificate_health(&url, &seen, now);
            format!("{}: {message}", status.as_str())
        });
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_certificate_without_an_answer_stays_what_it_was() {
        let no_answer = || SeenCertificate::NoAnswer("timed out".to_owned());
        let invalid = SeenCertificate::Invalid("expired".to_owned());
        let seen = or_known(no_answer(), Some(invalid));
        assert!(matches!(seen, SeenCertificate::Invalid(_)));
        assert!(matches!(
            or_known(no_answer(), None),
            SeenCertificate::NoAnswer(_)
        ));
    }
}
