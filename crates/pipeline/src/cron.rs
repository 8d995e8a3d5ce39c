//! Computes when a schedule is due: the five fields of a crontab line, in the time zone of the
//! appliance.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use quire_types::clock::Millis;
use quire_types::text::excerpt_name;

const MAX_SCHEDULE_BYTES: usize = 200;

/// The names of the fields and their values.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 (0 and 7 are Sunday) or SUN-SAT"),
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error(
        "`{0}` is not a valid schedule: write five fields (minute, hour, day of the month, month, day of the week), such as 0 3 * * *"
    )]
    Malformed(String),
    #[error(
        "the schedule is missing: write five fields (minute, hour, day of the month, month, day of the week), such as 0 3 * * *"
    )]
    Missing,
    #[error(
        "`{schedule}` is not a valid schedule: `{field}` is not a valid {what}; write {range}, *, a list (1,2), a range (1-5) or a step (*/10)"
    )]
    Field {
        schedule: String,
        /// The field as written.
        field: String,
        /// The name of the field.
        what: &'static str,
        /// The values of the field.
        range: &'static str,
    },
    #[error("`{0}` is never due: no date matches it")]
    Never(String),
}

/// A schedule: minute, hour, day of the month, month, day of the week.
///
/// With an hour such as `3` or `9-17` it follows the wall clock: if daylight saving time skips the
/// hour it is due right after the gap, and if it repeats the hour, only the first time. With `*` or
/// `*/2` as its hour it follows elapsed time, through both. If the day of the month and the day of
/// the week are both given, one of them has to match, as in cron.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    fields: Crontab,
    any_hour: bool,
}

impl CronSchedule {
    /// # Errors
    /// Fails if the text is not a schedule, or is never due.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let excerpt = || excerpt_name(text);
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        if fields.is_empty() && text.len() <= MAX_SCHEDULE_BYTES {
            return Err(CronError::Missing);
        }
        if text.len() > MAX_SCHEDULE_BYTES || fields.len() != FIELDS.len() {
            return Err(CronError::Malformed(excerpt()));
        }
        for (at, (what, range)) in FIELDS.into_iter().enumerate() {
            let mut alone = ["*"; 5];
            alone[at] = fields[at];
            if !is_portable(fields[at]) || parse_crontab(&alone).is_none() {
                return Err(CronError::Field {
                    schedule: excerpt(),
                    field: fields[at].to_owned(),
                    what,
                    range,
                });
            }
        }
        let parsed = parse_crontab(&fields).ok_or_else(|| CronError::Malformed(excerpt()))?;
        let schedule = Self {
            fields: parsed,
            any_hour: fields[1].starts_with('*'),
        };
        match schedule.next_naive(DateTime::constant(2024, 3, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(schedule),
            None => Err(CronError::Never(excerpt())),
        }
    }

    /// The first time after `after` at which the schedule is due. `None` if that is more than four
    /// years away.
    #[must_use]
    pub fn next_after(&self, after: Millis, zone: &TimeZone) -> Option<Millis> {
        let after = Timestamp::from_millisecond(after.0).ok()?;
        let next = if self.any_hour {
            self.next_elapsed(after, zone)?
        } else {
            self.next_wall_clock(after, zone)?
        };
        Some(Millis(next.as_millisecond()))
    }

    /// The next due time by the wall clock: a repeated time counts once, a skipped time counts after
    /// the gap.
    fn next_wall_clock(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut shown = zone.to_datetime(after);
        loop {
            shown = self.next_naive(shown)?;
            let next = zone.to_timestamp(shown).ok()?;
            if next > after {
                return Some(next);
            }
        }
    }

    /// The next due time by elapsed time: between two changes of the UTC offset, every minute that
    /// matches.
    fn next_elapsed(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut changes = zone.following(after).map(|change| change.timestamp());
        let (mut from, mut include) = (after, None);
        loop {
            let until = changes.next();
            let offset = zone.to_offset(include.unwrap_or(from)).to_time_zone();
            let shown = offset.to_datetime(from);
            let next = offset.to_timestamp(self.next_naive(shown)?).ok()?;
            match until {
                Some(until) if next >= until => {
                    // One millisecond before the change, so that the minute of the change counts.
                    (from, include) = (
                        Timestamp::from_millisecond(until.as_millisecond().checked_sub(1)?).ok()?,
                        Some(until),
                    );
                }
                _ => return Some(next),
            }
        }
    }

    /// The next matching minute, ignoring time zones.
    fn next_naive(&self, from: DateTime) -> Option<DateTime> {
        let from = TimeZone::UTC.to_timestamp(from).ok()?;
        self.fields
            .find_next(MakeTimestamp(from))
            .ok()
            .map(|next| next.datetime())
    }
}

/// Whether a field uses only syntax that every cron supports. `cronexpr` accepts more, such as `L`.
fn is_portable(field: &str) -> bool {
    let names = "SUN MON TUE WED THU FRI SAT JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC";
    let is_value = |part: &str| {
        part == "*"
            || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
            || (part.len() == 3 && names.contains(&part.to_ascii_uppercase()))
    };
    field.split([',', '-', '/']).all(is_value)
}

fn parse_crontab(fields: &[&str]) -> Option<Crontab> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(&fields.join(" "), options).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = CronSchedule::parse(schedule).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at = Millis(after.parse::<Timestamp>().unwrap().as_millisecond());
        let mut found = Vec::new();
        for _ in 0..count {
            at = schedule.next_after(at, &zone).unwrap();
            found.push(
                Timestamp::from_millisecond(at.0)
                    .unwrap()
                    .to_zoned(zone.clone())
                    .strftime("%m-%d %H:%M %:z")
                    .to_string(),
            );
        }
        found
    }

    #[test]
    fn schedules_are_due_at_matching_times() {
        assert_eq!(
            all("0 3 * * *", "UTC", "2026-11-21T03:00:00Z", 2),
            ["11-22 03:00 +00:00", "11-23 03:00 +00:00"]
        );
        assert_eq!(
            all("*/20 9-10 * * MON-fri", "UTC", "2026-11-20T10:30:00Z", 2),
            ["11-20 10:40 +00:00", "11-23 09:00 +00:00"]
        );
        assert_eq!(
            all("0 0 29 2 *", "UTC", "2026-11-21T00:00:00Z", 1),
            ["02-29 00:00 +00:00"]
        );
        // Either the day of the month or that of the week.
        assert_eq!(
            all("0 0 1 * 7", "UTC", "2026-11-21T00:00:00Z", 3),
            [
                "11-22 00:00 +00:00",
                "11-29 00:00 +00:00",
                "12-01 00:00 +00:00"
            ]
        );
        assert_eq!(
            all("0 3 * * *", "Asia/Tokyo", "2026-11-21T00:00:00Z", 1),
            ["11-22 03:00 +09:00"]
        );
    }

    #[test]
    fn a_fixed_hour_is_due_once_a_day_across_clock_changes() {
        let spring = [
            "03-28 02:30 +01:00",
            "03-29 03:30 +02:00",
            "03-30 02:30 +02:00",
        ];
        assert_eq!(
            all("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            spring
        );
        let autumn = [
            "10-24 02:30 +02:00",
            "10-25 02:30 +02:00",
            "10-26 02:30 +01:00",
        ];
        assert_eq!(
            all("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3),
            autumn
        );
        // Asked within the repeated hour, too.
        assert_eq!(
            all("45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
            ["10-26 02:45 +01:00"]
        );
    }

    #[test]
    fn an_hourly_schedule_follows_elapsed_time() {
        let autumn = [
            "10-25 01:00 +02:00",
            "10-25 02:00 +02:00",
            "10-25 02:00 +01:00",
            "10-25 03:00 +01:00",
        ];
        assert_eq!(
            all("0 * * * *", "Europe/Berlin", "2026-10-24T22:30:00Z", 4),
            autumn
        );
        let spring = [
            "03-29 01:30 +01:00",
            "03-29 03:00 +02:00",
            "03-29 03:30 +02:00",
        ];
        assert_eq!(
            all("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
            spring
        );
    }

    #[test]
    fn errors_name_the_invalid_field() {
        assert!(matches!(CronSchedule::parse(""), Err(CronError::Missing)));
        for text in [
            "* * * *",
            "* * * * * *",
            "@daily",
            "0 3 * * * Europe/Berlin",
            &"0".repeat(300),
        ] {
            assert!(
                matches!(CronSchedule::parse(text), Err(CronError::Malformed(_))),
                "{text}"
            );
        }
        for (text, wrong) in [
            ("60 * * * *", "minute"),
            ("0 24 * * *", "hour"),
            ("0 0 0 * *", "day of the month"),
            ("0 0 L * *", "day of the month"),
            ("0 0 15W * *", "day of the month"),
            ("0 0 * 13 *", "month"),
            ("0 0 * MON *", "month"),
            ("0 0 * * 8", "day of the week"),
            ("0 0 * * 5#3", "day of the week"),
            ("H 0 * * *", "minute"),
            ("*/0 * * * *", "minute"),
            ("5-1 * * * *", "minute"),
            ("1,,2 * * * *", "minute"),
            ("ü * * * *", "minute"),
        ] {
            match CronSchedule::parse(text) {
                Err(CronError::Field { what, .. }) => assert_eq!(what, wrong, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(
            CronSchedule::parse("0 0 30 2 *"),
            Err(CronError::Never(_))
        ));
        let message = CronSchedule::parse("0 25 * * *").unwrap_err().to_string();
        assert_eq!(
            message,
            "`0 25 * * *` is not a valid schedule: `25` is not a valid hour; write 0-23, *, a list (1,2), a range (1-5) or a step (*/10)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn due_times_increase_and_no_text_panics(text in "[0-9*,/ -]{0,20}|\\PC{0,20}", at in -1i64 << 44..1i64 << 44, zone in 0..3usize) {
            let zone = TimeZone::get(["UTC", "Europe/Berlin", "Australia/Lord_Howe"][zone]).unwrap();
            if let Ok(schedule) = CronSchedule::parse(&text)
                && let Some(next) = schedule.next_after(Millis(at), &zone)
            {
                prop_assert!(next > Millis(at));
                prop_assert_eq!(next.0 % 60_000, 0);
            }
        }

        #[test]
        fn due_times_are_at_most_one_period_away(minute in 0..60u32, hour in 0..24u32, at in 0i64..1i64 << 41) {
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let hourly = CronSchedule::parse(&format!("{minute} * * * *")).unwrap();
            let next = hourly.next_after(Millis(at), &zone).unwrap();
            prop_assert!(next.since(Millis(at)) <= 3_600_000);
            let daily = CronSchedule::parse(&format!("{minute} {hour} * * *")).unwrap();
            let next = daily.next_after(Millis(at), &zone).unwrap();
            prop_assert!(next.since(Millis(at)) <= 25 * 3_600_000);
        }
    }
}
