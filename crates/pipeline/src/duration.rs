//! Parses and formats durations such as `90s`, `10m`, `1h30m`, `2d` and `500ms`.

use quire_types::text::excerpt_name;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{0}` is not a valid duration: write it like 90s, 10m or 1h30m")]
    Malformed(String),
    #[error("the duration `{0}` is out of range: it must be between 1ms and 366d")]
    OutOfRange(String),
}

const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const MAX_MILLIS: u64 = 366 * 86_400_000;

/// Parses a duration to milliseconds. Its units go from large to small, each at most once.
pub fn parse_duration(text: &str) -> Result<u64, DurationError> {
    let excerpt = || excerpt_name(text);
    let malformed = || DurationError::Malformed(excerpt());
    let out_of_range = || DurationError::OutOfRange(excerpt());
    let mut rest = text;
    let mut total = 0u64;
    let mut last_scale = u64::MAX;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_lowercase)
            .count();
        let unit = &rest[digits..digits + letters];
        let (_, scale) = *UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(malformed)?;
        if digits == 0 || scale >= last_scale {
            return Err(malformed());
        }
        let count: u64 = rest[..digits].parse().map_err(|_| out_of_range())?;
        total = count
            .checked_mul(scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(out_of_range)?;
        last_scale = scale;
        rest = &rest[digits + letters..];
    }
    if total == 0 || total > MAX_MILLIS {
        Err(out_of_range())
    } else {
        Ok(total)
    }
}

/// Formats a duration so that [`parse_duration`] returns it.
#[must_use]
pub fn format_duration(millis: u64) -> String {
    let mut rest = millis;
    let mut text = String::new();
    for (unit, scale) in UNITS.iter().rev() {
        if rest >= *scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    if text.is_empty() {
        "0ms".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("500ms", 500),
            ("1m1ms", 60_001),
        ] {
            assert_eq!(parse_duration(text), Ok(millis), "{text}");
        }
        for text in [
            "", "10", "m", "10x", "1m1h", "1m1m", "-1s", "1.5h", "1 h", "ß", "1mß",
        ] {
            assert!(
                matches!(parse_duration(text), Err(DurationError::Malformed(_))),
                "{text}"
            );
        }
        for text in [
            "0s",
            "367d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(
                matches!(parse_duration(text), Err(DurationError::OutOfRange(_))),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn formatted_durations_are_parsed_back(millis in 1..=MAX_MILLIS) {
            prop_assert_eq!(parse_duration(&format_duration(millis)), Ok(millis));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
