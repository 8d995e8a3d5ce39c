//! Parses and formats sizes such as `2g`, and numbers of CPUs such as `0.5`.

/// Parses a size such as `512`, `64k`, `2g`, `2GB` or `2GiB` to bytes. Units are powers of 1024.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Formats a size in the largest unit of which it is a whole number, so that [`parse_size`] returns
/// it.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    match units
        .iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
    {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Parses a number of CPUs such as `2`, `0.5` or `1.25` to thousandths of a CPU.
#[must_use]
pub fn parse_cpus(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(part) || part.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(thousandths)
}

/// Formats a number of CPUs so that [`parse_cpus`] returns it.
#[must_use]
pub fn format_cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1k", 1024),
            ("2g", 2 << 30),
            (" 64 MiB ", 64 << 20),
            ("3TB", 3 << 40),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "g",
            "-1g",
            "+1g",
            "1.5g",
            "1x",
            "2gg",
            "99999999999999999999",
            "99999999999g",
            "1 0",
            "٣g",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn cpus() {
        for (text, milli) in [
            ("2", 2000),
            ("0.5", 500),
            ("1.25", 1250),
            ("0.001", 1),
            ("0", 0),
        ] {
            assert_eq!(parse_cpus(text), Some(milli), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1.2345",
            "-1",
            "1e3",
            "99999999999999999999",
            "18446744073709551615",
        ] {
            assert_eq!(parse_cpus(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn formatted_values_are_parsed_back(bytes: u64, milli: u32, text in ".{0,12}") {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
            prop_assert_eq!(parse_cpus(&format_cpus(milli.into())), Some(milli.into()));
            let _ = (parse_size(&text), parse_cpus(&text));
        }
    }
}
