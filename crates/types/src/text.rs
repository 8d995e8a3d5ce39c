//! Text for people: untrusted text made safe to print, durations and sizes.

/// Whether a character changes the direction of the text around it, or ends a line. So it can make a text
/// look like another one.
#[must_use]
pub fn reorders_text(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether a character must not reach a terminal, a page or a name.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || reorders_text(c)
}

/// Replaces every control character by U+FFFD, so that the text changes no terminal and its reader sees that something was there.
#[must_use]
pub fn sanitize(text: &str) -> String {
    text.chars()
        .map(|c| if is_unprintable(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Replaces every control character by a space, so that the text stays on one line and changes no terminal.
#[must_use]
pub fn single_line(text: &str) -> String {
    text.chars()
        .map(|c| if is_unprintable(c) { ' ' } else { c })
        .collect()
}

/// The first `max_chars` characters of an untrusted text, sanitized; `…` follows if it is longer.
#[must_use]
pub fn excerpt(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => sanitize(&text[..end]) + "…",
        None => sanitize(text),
    }
}

/// Shortens an untrusted name for a message; sanitized.
#[must_use]
pub fn excerpt_name(name: &str) -> String {
    excerpt(name, 60)
}

/// A text without the byte order mark and the carriage returns at line ends that editors on Windows write.
#[must_use]
pub fn with_unix_line_ends(text: String) -> String {
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    if text.contains("\r\n") {
        text.replace("\r\n", "\n")
    } else {
        text
    }
}

/// The first line of a text that is not blank, without the white space around it, shortened to `max_chars`
/// characters and sanitized; `…` follows if anything was cut off.
#[must_use]
pub fn first_line(text: &str, max_chars: usize) -> String {
    let mut lines = text.trim().lines();
    let line = lines.next().unwrap_or_default();
    let shown = excerpt(line.trim_end(), max_chars);
    if lines.next().is_some() && !shown.ends_with('…') {
        shown + "…"
    } else {
        shown
    }
}

/// Formats a duration for a person in its one or two largest units: `1.5 s`, `2 min 3 s`.
#[must_use]
pub fn format_elapsed(millis: u64) -> String {
    let seconds = millis.saturating_add(500) / 1000;
    match millis {
        0..950 => format!("{millis} ms"),
        950..9_950 => format!("{}.{} s", (millis + 50) / 1000, (millis + 50) % 1000 / 100),
        9_950..59_500 => format!("{seconds} s"),
        59_500..3_599_500 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_599_500..86_399_500 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Formats a number of bytes: `512 B`, `1.4 KiB`, `20 GiB`.
#[must_use]
pub fn format_bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut whole, mut rest, mut unit) = (count / 1024, count % 1024, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (rest, whole, unit) = (whole % 1024, whole / 1024, unit + 1);
    }
    if whole < 10 {
        format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit])
    } else {
        format!("{whole} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            sanitize("a\u{1b}[m\tb\u{9b}"),
            "a\u{fffd}[m\u{fffd}b\u{fffd}"
        );
        assert_eq!(single_line("one\ntwo\u{7}"), "one two ");
        assert_eq!(sanitize("main\u{202e}gpj"), "main\u{fffd}gpj");
    }

    #[test]
    fn an_excerpt_says_that_it_was_cut() {
        assert_eq!(excerpt("äbc", 3), "äbc");
        assert_eq!(excerpt("äb\ncd", 3), "äb\u{fffd}…");
        assert_eq!(excerpt("", 0), "");
    }

    #[test]
    fn a_first_line_says_that_more_follows() {
        for (text, shown) in [
            ("make", "make"),
            ("make\n", "make"),
            ("make\ntest", "make…"),
            ("\n \n  make \n", "make"),
            ("\r\nmake\r\ntest", "make…"),
            ("a long one\nand more", "a lo…"),
            ("", ""),
        ] {
            assert_eq!(first_line(text, 4), shown, "{text:?}");
        }
    }

    #[test]
    fn texts_from_windows_are_accepted() {
        for (text, read) in [
            ("\u{feff}a\r\nb\r\n", "a\nb\n"),
            ("a\rb\n", "a\rb\n"),
            ("a\u{feff}", "a\u{feff}"),
        ] {
            assert_eq!(with_unix_line_ends(text.to_owned()), read, "{text:?}");
        }
    }

    #[test]
    fn durations_for_people() {
        for (millis, text) in [
            (0, "0 ms"),
            (949, "949 ms"),
            (950, "1.0 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_999, "1 min 0 s"),
            (72_400, "1 min 12 s"),
            (3_600_000, "1 h 0 min"),
            (86_399_499, "23 h 59 min"),
            (86_399_500, "1 d 0 h"),
            (200_000_000, "2 d 7 h"),
        ] {
            assert_eq!(format_elapsed(millis), text);
        }
        assert!(!format_elapsed(u64::MAX).is_empty());
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1500, "1.4 KiB"),
            (1 << 30, "1.0 GiB"),
            (20 << 30, "20 GiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
