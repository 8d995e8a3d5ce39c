//! When a schedule comes due: the five fields of a crontab line, in the time zone of the appliance.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::Millis;

/// The longest schedule, in bytes.
const MAX_SCHEDULE: usize = 200;

/// The fields, and what each may hold.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 (0 and 7 are Sunday) or SUN-SAT"),
];

/// Why a schedule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "`{0}` is not a schedule: write five fields (minute, hour, day of the month, month, day of the week), such as 0 3 * * *"
    )]
    Malformed(String),
    /// One of the fields.
    #[error(
        "`{schedule}` is not a schedule: `{field}` is no {what}, which is {range}, *, a list (1,2), a range (1-5) or a step (*/10)"
    )]
    Field {
        /// The whole of it.
        schedule: String,
        /// The field as written.
        field: String,
        /// Which one it is.
        what: &'static str,
        /// Its values.
        range: &'static str,
    },
    /// No such date.
    #[error("the schedule `{0}` never comes due: there is no such date")]
    Never(String),
}

/// A schedule: minute, hour, day of the month, month, day of the week.
///
/// With an hour such as `3` or `9-17` it follows the clock on the wall: where summer time skips the
/// hour it comes due right after the gap, and where it repeats the hour, only the first time. With
/// `*` or `*/2` as its hour it follows the time that passes, through both. Where the day of the month
/// and the day of the week are both given, either will do, as cron has it.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    fields: Crontab,
    any_hour: bool,
}

impl CronSchedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// It is none, or never comes due.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let excerpt = || {
            text.chars()
                .take(60)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect::<String>()
        };
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        if text.len() > MAX_SCHEDULE || fields.len() != FIELDS.len() {
            return Err(CronError::Malformed(excerpt()));
        }
        for (at, (what, range)) in FIELDS.into_iter().enumerate() {
            let mut alone = ["*"; 5];
            alone[at] = fields[at];
            if !is_plain(fields[at]) || crontab(&alone).is_none() {
                return Err(CronError::Field {
                    schedule: excerpt(),
                    field: fields[at].to_owned(),
                    what,
                    range,
                });
            }
        }
        let parsed = crontab(&fields).ok_or_else(|| CronError::Malformed(excerpt()))?;
        let schedule = Self {
            fields: parsed,
            any_hour: fields[1].starts_with('*'),
        };
        match schedule.next_on_the_wall(DateTime::constant(2024, 3, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(schedule),
            None => Err(CronError::Never(excerpt())),
        }
    }

    /// The first time after a point at which it comes due in a time zone; `None` where that is more
    /// than four years away.
    #[must_use]
    pub fn next_after(&self, after: Millis, zone: &TimeZone) -> Option<Millis> {
        let after = Timestamp::from_millisecond(after.0).ok()?;
        let next = if self.any_hour {
            self.next_passed(after, zone)?
        } else {
            self.next_shown(after, zone)?
        };
        Some(Millis(next.as_millisecond()))
    }

    /// By the clock on the wall: what it shows twice counts once, what it skips counts after the gap.
    fn next_shown(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut shown = zone.to_datetime(after);
        loop {
            shown = self.next_on_the_wall(shown)?;
            let next = zone.to_timestamp(shown).ok()?;
            if next > after {
                return Some(next);
            }
        }
    }

    /// By the time that passes: between two changes of the clock, every minute that matches.
    fn next_passed(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut changes = zone.following(after).map(|change| change.timestamp());
        let (mut from, mut include) = (after, None);
        loop {
            let until = changes.next();
            let offset = zone.to_offset(include.unwrap_or(from)).to_time_zone();
            let shown = offset.to_datetime(from);
            let next = offset.to_timestamp(self.next_on_the_wall(shown)?).ok()?;
            match until {
                Some(until) if next >= until => {
                    // From a moment before the change, so that the minute it falls on counts.
                    (from, include) = (
                        Timestamp::from_millisecond(until.as_millisecond().checked_sub(1)?).ok()?,
                        Some(until),
                    );
                }
                _ => return Some(next),
            }
        }
    }

    /// The next matching minute, of a clock that nobody ever changes.
    fn next_on_the_wall(&self, shown: DateTime) -> Option<DateTime> {
        let from = TimeZone::UTC.to_timestamp(shown).ok()?;
        self.fields
            .find_next(MakeTimestamp(from))
            .ok()
            .map(|next| next.datetime())
    }
}

/// Whether a field has nothing but what every cron knows.
fn is_plain(field: &str) -> bool {
    let names = "SUN MON TUE WED THU FRI SAT JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC";
    let is_value = |part: &str| {
        part == "*"
            || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
            || (part.len() == 3 && names.contains(&part.to_ascii_uppercase()))
    };
    field.split([',', '-', '/']).all(is_value)
}

fn crontab(fields: &[&str]) -> Option<Crontab> {
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
    fn schedules_come_due() {
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
    fn a_time_of_day_comes_once_a_day_through_summer_time() {
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
    fn an_hourly_schedule_follows_the_time_that_passes() {
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
    fn what_is_no_schedule_is_refused_by_its_field() {
        for text in [
            "",
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
            "`0 25 * * *` is not a schedule: `25` is no hour, which is 0-23, *, a list (1,2), a range (1-5) or a step (*/10)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn time_goes_forward_and_nothing_panics(text in "[0-9*,/ -]{0,20}|\\PC{0,20}", at in -1i64 << 44..1i64 << 44, zone in 0..3usize) {
            let zone = TimeZone::get(["UTC", "Europe/Berlin", "Australia/Lord_Howe"][zone]).unwrap();
            if let Ok(schedule) = CronSchedule::parse(&text)
                && let Some(next) = schedule.next_after(Millis(at), &zone)
            {
                prop_assert!(next > Millis(at));
                prop_assert_eq!(next.0 % 60_000, 0);
            }
        }

        #[test]
        fn each_due_time_matches_the_wall(minute in 0..60u32, hour in 0..24u32, at in 0i64..1i64 << 41) {
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
