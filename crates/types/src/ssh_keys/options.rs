//! The options of a line: which are accepted, and what they restrict.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::address_list::AddressList;
use super::error::KeyLineError;
use super::limits::KeyLimits;
use super::quoting::{quoted_value, split_list};
use crate::clock::Millis;

/// Options that restrict who can connect, or forbid what quire does not offer anyway. sshd ignores a
/// whole line with an option that it does not know.
const SUPPORTED_OPTIONS: [&str; 15] = [
    "cert-authority",
    "command",
    "expiry-time",
    "from",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-verify-required",
    "no-x11-forwarding",
    "principals",
    "restrict",
    "touch-required",
    "verify-required",
];

/// Options that sshd knows, but that have no effect under the configuration of quire's sshd.
const OPTIONS_WITHOUT_EFFECT: [&str; 9] = [
    "agent-forwarding",
    "environment",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "pty",
    "tunnel",
    "user-rc",
    "x11-forwarding",
];

/// What the options of a line restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyOptions {
    /// The key signs certificates, and cannot connect itself.
    pub(super) is_authority: bool,
    /// The last moment at which the key can connect.
    pub(super) valid_until: Option<Millis>,
    /// The addresses from which it can connect.
    pub(super) from: Option<AddressList>,
    /// The names of which a certificate needs one.
    pub(super) principals: Option<Vec<String>>,
    /// What it may do.
    pub(super) limits: KeyLimits,
}

impl KeyOptions {
    /// Parses the first word of a line that does not begin with a key type; empty if there are no options.
    pub(super) fn parse(text: &str) -> Result<Self, KeyLineError> {
        let mut options = Self::default();
        if text.is_empty() {
            return Ok(options);
        }
        for option in split_list(text).ok_or(KeyLineError::UnclosedQuote)? {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            let name = name.to_ascii_lowercase();
            check_name(&name)?;
            options.take(&name, value.unwrap_or_default())?;
        }
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), KeyLineError> {
        let quoted = |name| quoted_value(value).ok_or(KeyLineError::UnquotedValue(name));
        match name {
            "cert-authority" => self.is_authority = true,
            "command" if !self.limits.is_full() => {
                return Err(KeyLineError::RepeatedOption("command"));
            }
            "command" => {
                self.limits = quoted_value(value)
                    .and_then(|command| KeyLimits::from_command(&command))
                    .ok_or(KeyLineError::CommandOption)?;
            }
            "expiry-time" => {
                let time = parse_time(&quoted("expiry-time")?).ok_or(KeyLineError::ExpiryTime)?;
                // Of several the earliest counts, as for sshd.
                self.valid_until = Some(self.valid_until.map_or(time, |known| known.min(time)));
            }
            "from" if self.from.is_some() => return Err(KeyLineError::RepeatedOption("from")),
            "from" => self.from = Some(AddressList::parse(&quoted("from")?)?),
            "principals" if self.principals.is_some() => {
                return Err(KeyLineError::RepeatedOption("principals"));
            }
            "principals" => {
                let names = quoted("principals")?;
                self.principals = Some(names.split(',').map(str::to_owned).collect());
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), KeyLineError> {
    if SUPPORTED_OPTIONS.contains(&name) {
        Ok(())
    } else if OPTIONS_WITHOUT_EFFECT.contains(&name) {
        Err(KeyLineError::OptionWithoutEffect(name.to_owned()))
    } else {
        Err(KeyLineError::UnknownOption)
    }
}

/// `YYYYMMDD[HHMM[SS]][Z|UTC]`: in the time zone of the system (`TZ`) unless it ends in `Z` or `UTC`.
fn parse_time(text: &str) -> Option<Millis> {
    let digits = text.strip_suffix('Z').or_else(|| text.strip_suffix("UTC"));
    let zone = match digits {
        Some(_) => TimeZone::UTC,
        None => TimeZone::system(),
    };
    let digits = digits.unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize, length: usize| -> Option<i8> {
        digits
            .get(at..at + length)
            .map_or(Some(0), |part| part.parse().ok())
    };
    let year = digits.get(..4)?.parse().ok()?;
    let time = DateTime::new(
        year,
        part(4, 2)?,
        part(6, 2)?,
        part(8, 2)?,
        part(10, 2)?,
        part(12, 2)?,
        0,
    );
    let zoned = time.ok()?.to_zoned(zone).ok()?;
    Some(Millis(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_times_as_sshd_reads_them() {
        for (text, expected) in [
            ("20260725Z", "2026-07-25T00:00:00.000Z"),
            ("202607251330Z", "2026-07-25T13:30:00.000Z"),
            ("20260725133001UTC", "2026-07-25T13:30:01.000Z"),
        ] {
            assert_eq!(parse_time(text).unwrap().to_string(), expected);
        }
        for text in [
            "",
            "Z",
            "2026",
            "20261301Z",
            "20260230Z",
            "2026072513Z",
            "+2260725Z",
            "202607252430Z",
            "20260725 Z",
            "2026-07-25",
            "20260725z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        // Without a zone it is the system's time, whichever that is here: within a day of UTC.
        let (local, utc) = (
            parse_time("20260725").unwrap(),
            parse_time("20260725Z").unwrap(),
        );
        assert!(local.0.abs_diff(utc.0) <= 24 * 60 * 60 * 1000);
    }

    #[test]
    fn of_several_expiry_times_the_earliest_counts() {
        let options =
            KeyOptions::parse("expiry-time=\"20270101Z\",expiry-time=\"20260101Z\",restrict")
                .unwrap();
        assert_eq!(options.valid_until, parse_time("20260101Z"));
    }
}
