//! The end of a key: as people write it, and as the option `expiry-time` has it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock::Millis;

/// Reads a day, `2027-12-31`, whose end in UTC is meant, or a time as RFC 3339 has it. `None` if it is neither.
#[must_use]
pub fn parse_end(text: &str) -> Option<Millis> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(Millis(time.as_millisecond()));
    }
    // A date with a time but no zone would otherwise pass for a day.
    let is_day = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let day: Date = text.parse().ok().filter(|_| is_day)?;
    let end = day.at(23, 59, 59, 0).to_zoned(TimeZone::UTC).ok()?;
    Some(Millis(end.timestamp().as_millisecond()))
}

/// The option `expiry-time` with this end.
#[must_use]
pub fn expiry_option(end: Millis) -> Option<String> {
    let time = Timestamp::from_millisecond(end.0).ok()?;
    Some(format!(
        "expiry-time=\"{}Z\"",
        time.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S")
    ))
}

#[cfg(test)]
mod tests {
    use super::super::FileKey;
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";

    #[test]
    fn an_end_is_written_as_sshd_reads_it() {
        for (text, expected) in [
            ("2027-12-31", "2027-12-31T23:59:59.000Z"),
            ("2027-12-31T12:30:00Z", "2027-12-31T12:30:00.000Z"),
            ("2027-12-31T12:30:00+02:00", "2027-12-31T10:30:00.000Z"),
        ] {
            let end = parse_end(text).unwrap();
            assert_eq!(end.to_string(), expected);
            let line = format!("{} {KEY}", expiry_option(end).unwrap());
            assert_eq!(FileKey::parse(&line).unwrap().valid_until, Some(end));
        }
        for text in [
            "",
            "2027",
            "2027-13-01",
            "31.12.2027",
            "2027-12-31T12:30",
            "soon",
        ] {
            assert_eq!(parse_end(text), None, "{text}");
        }
    }
}
