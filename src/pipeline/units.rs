//! Sizes and CPU counts as people write them: `2g`, `0.5`.

/// Bytes of a size: `512`, `64k`, `2g`, `2GB`, `2GiB`. Units are powers of 1024; none is bytes.
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

/// A size in the largest unit that it is a whole number of.
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

/// Thousandths of CPUs: `2`, `0.5`, `1.25`.
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

/// CPUs as [`parse_cpus`] reads them.
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
        fn what_is_shown_is_read(bytes: u64, milli: u32, text in ".{0,12}") {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
            prop_assert_eq!(parse_cpus(&format_cpus(milli.into())), Some(milli.into()));
            let _ = (parse_size(&text), parse_cpus(&text));
        }
    }
}
