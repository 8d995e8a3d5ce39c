//! The checks of what quire and its users have outside: the receivers of notifications, the certificate, the time zone.

use jiff::tz::TimeZone;
use quire_types::base_url::BaseUrl;
use quire_types::clock::{Clock, Millis};
use quire_types::http_url::HttpUrl;

use super::finding::DoctorFinding;
use crate::notify::Notifications;
use crate::part_problem::PartProblem;
use crate::published_certificate::{CertificateTimes, SeenCertificate, look};

pub(super) async fn examine(notifications: &Notifications, url: &BaseUrl) -> Vec<DoctorFinding> {
    let mut findings = vec![time_zone(std::env::var("TZ").ok().as_deref())];
    findings.extend(receivers(notifications).await);
    let url: Option<HttpUrl> = url.url.parse().ok();
    if let Some(url) = url.filter(HttpUrl::is_tls) {
        let seen = look(&url).await;
        findings.push(certificate(&url, &seen, Clock::system().now()));
    }
    findings
}

/// Whether the receivers of notifications can be reached.
async fn receivers(notifications: &Notifications) -> Vec<DoctorFinding> {
    let part = "notifications";
    let (problems, count) = notifications.reach_all().await;
    let advice = "correct the target; `notify test TARGET` sends a message";
    let failed = |problem: &PartProblem| DoctorFinding::failed(part, problem.text.clone(), advice);
    let mut findings: Vec<_> = problems.iter().map(failed).collect();
    // What is known of a target whose receiver is reached now. Of others this is the consequence of what was just found.
    let known = notifications.problems().await.unwrap_or_default();
    let is_found =
        |known: &PartProblem| problems.iter().any(|found| found.subject == known.subject);
    let known = known.into_iter().filter(|known| !is_found(known));
    findings.extend(known.map(|known| DoctorFinding::of_problem(part, known.text)));
    if findings.is_empty() && count > 0 {
        let text = match count {
            1 => "the receiver of 1 target can be reached".to_owned(),
            count => format!("the receivers of {count} targets can be reached"),
        };
        findings.push(DoctorFinding::ok(part, text));
    }
    findings
}

fn certificate(url: &HttpUrl, seen: &SeenCertificate, now: Millis) -> DoctorFinding {
    let (part, origin) = ("certificate", url.origin());
    let renew = "renew it, and see why the program that renews certificates did not";
    let judged = |times: &CertificateTimes, note: &str| {
        let text = format!(
            "the certificate of {origin} is valid until {}{note}",
            times.until
        );
        match times.is_due(now) {
            true => DoctorFinding::warning(part, text, renew),
            false => DoctorFinding::ok(part, text),
        }
    };
    match seen {
        SeenCertificate::Valid(times) => judged(times, ""),
        SeenCertificate::UnknownIssuer(times) => {
            judged(times, "; this system does not know its issuer")
        }
        SeenCertificate::Invalid(problem) => DoctorFinding::failed(
            part,
            format!("clients do not accept the certificate of {origin}: {problem}"),
            "give the proxy in front of quire a certificate for this name",
        ),
        // Many networks do not lead from inside to the address that clients outside use.
        SeenCertificate::NoAnswer(problem) => DoctorFinding::warning(
            part,
            format!("{origin} cannot be looked at from here: {problem}"),
            "nothing needs to be done if clients reach it",
        ),
    }
}

/// In which time zone schedules are due. `name` is the value of `TZ`.
fn time_zone(name: Option<&str>) -> DoctorFinding {
    let part = "time zone";
    let name = name.map(|name| name.trim_start_matches(':'));
    match name.filter(|name| !name.is_empty()) {
        Some(name) if TimeZone::get(name).is_err() && TimeZone::posix(name).is_err() => {
            DoctorFinding::failed(
                part,
                format!("`{name}` is no known time zone, so schedules are due by UTC"),
                "set TZ in the environment to a name such as Europe/Berlin, and restart the container",
            )
        }
        Some(name) => DoctorFinding::ok(part, format!("schedules are due by the time of {name}")),
        None => {
            let zone = TimeZone::system();
            let zone = zone.iana_name().unwrap_or("UTC");
            DoctorFinding::ok(part, format!("schedules are due by the time of {zone}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn time_zones_and_what_is_none() {
        for (name, grade, words) in [
            (
                Some("Europe/Berlin"),
                Grade::Ok,
                "the time of Europe/Berlin",
            ),
            (Some(":UTC"), Grade::Ok, "the time of UTC"),
            (
                Some("CET-1CEST,M3.5.0,M10.5.0/3"),
                Grade::Ok,
                "the time of CET-1",
            ),
            (
                Some("Europe/Berln"),
                Grade::Failed,
                "`Europe/Berln` is no known",
            ),
            (None, Grade::Ok, "the time of "),
        ] {
            let found = time_zone(name);
            assert_eq!(found.grade, grade, "{found:?}");
            assert!(found.text.contains(words), "{found:?}");
        }
    }

    #[test]
    fn what_is_seen_of_a_certificate_is_a_finding() {
        let url: HttpUrl = "https://git.example.org/".parse().unwrap();
        let day = 24 * 3600 * 1000;
        let times = CertificateTimes {
            from: Millis(0),
            until: Millis(90 * day),
        };
        let at = |seen: SeenCertificate, days: i64| certificate(&url, &seen, Millis(days * day));
        let findings = [
            at(SeenCertificate::Valid(times), 10),
            at(SeenCertificate::Valid(times), 85),
            at(SeenCertificate::UnknownIssuer(times), 10),
            at(SeenCertificate::Invalid("it is expired".to_owned()), 100),
            at(
                SeenCertificate::NoAnswer("connection refused".to_owned()),
                10,
            ),
        ];
        let lines = findings.map(|found| {
            let advice = found.advice.unwrap_or_default();
            format!("{}: {} [{advice}]", found.grade.as_str(), found.text)
        });
        insta::assert_snapshot!(lines.join("\n"));
    }
}
