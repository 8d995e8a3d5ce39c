//! What was told of the health of the appliance.

use super::*;
use quire_types::finding::{FindingLevel, FindingPhase};

fn report(number: u8, subject: &str, phase: FindingPhase, level: FindingLevel) -> HealthReport {
    HealthReport {
        id: format!("report-{number}"),
        part: "mirrors".to_owned(),
        subject: subject.to_owned(),
        phase,
        level,
        text: format!("text {number}"),
        began_at_ms: Millis(10 + i64::from(number)),
        at_ms: Millis(100 + i64::from(number)),
    }
}

#[test]
fn a_report_is_in_the_outbox_with_what_it_changes() {
    use FindingLevel::{Degraded, Down};
    use FindingPhase::{Began, Over, Worse};
    let f = fixture();
    let (outbox, findings) = (f.store.outbox(), f.store.health_findings());
    outbox.set_targets(&["hook", "mail"]).unwrap();
    let reports = [
        report(1, "nas", Began, Degraded),
        report(2, "hub", Began, Degraded),
        report(3, "nas", Worse, Down),
        report(4, "hub", Over, Degraded),
    ];
    findings.tell(&reports[..2]).unwrap();
    record(&f.store, "app", &["main"]);
    findings.tell(&reports[2..]).unwrap();
    let told = findings.told().unwrap();
    let expected = ToldFinding {
        part: "mirrors".to_owned(),
        subject: "nas".to_owned(),
        level: Down,
        text: "text 3".to_owned(),
        began_at_ms: Millis(11),
        told_at_ms: Millis(103),
    };
    assert_eq!(told, [expected]);
    // In the order in which they were told, between what else has happened, and as they were then.
    let entries = outbox.next("hook", 100).unwrap();
    let waiting: Vec<Option<HealthReport>> = entries
        .iter()
        .map(|entry| match entry {
            OutboxEntry::Reported { report, .. } => Some(report.clone()),
            OutboxEntry::Ended(_) | OutboxEntry::Pushed(_) => None,
        })
        .collect();
    let [first, second, third, fourth] = reports.clone().map(Some);
    assert_eq!(waiting, [first, second, None, third, fourth]);
    assert_eq!(entries[4].time(), Some(Millis(104)));
    // A report that cannot be written changes no finding, and is not told.
    assert!(findings.tell(&[report(1, "nas", Over, Down)]).is_err());
    assert_eq!(findings.told().unwrap(), told);
    // The reports go with their rows of the outbox, and the findings stay.
    let last = entries.last().unwrap().seq();
    outbox.skipped("hook", last).unwrap();
    outbox.skipped("mail", entries[1].seq()).unwrap();
    assert_eq!(outbox.prune().unwrap(), 2);
    assert_eq!(outbox.next("mail", 100).unwrap().len(), 3);
    outbox.skipped("mail", last).unwrap();
    assert_eq!(outbox.prune().unwrap(), 3);
    let count = |connection: &rusqlite::Connection| {
        let sql = "SELECT count(*) FROM health_reports";
        crate::sql::first(connection, "count", sql, [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(f.store.read(count).unwrap(), Some(0));
    assert_eq!(findings.told().unwrap(), told);
}
