//! The forms in which a secret may turn up in a command's output: as it is, line by line,
//! base64, URL-encoded, JSON-escaped, shell-quoted. Pure.
//!
//! Every form returned has at least [`MIN_REDACTED_CHARS`] characters.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::value::MIN_REDACTED_CHARS;

/// RFC 3986: only unreserved characters stay.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// JavaScript's `encodeURIComponent`.
const COMPONENT: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
/// HTML forms, before a space becomes `+`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b' ');
/// What a path segment keeps.
const PATH: &AsciiSet = &COMPONENT
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Where programs break a line of base64: `base64`(1), PEM.
const BASE64_WIDTHS: [usize; 2] = [76, 64];

/// The longest base64 of which every piece that a line break can leave of it is a form.
const MAX_WRAPPED: usize = 172;

/// All forms of one value, without duplicates, longest first. Empty if the value is too short.
pub(super) fn all(value: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Encodings(Vec::new());
    if !is_long_enough(value) {
        return forms.0;
    }
    let with_line_feeds = Zeroizing::new(value.replace("\r\n", "\n"));
    for text in variants(value).chain(variants(&with_line_feeds)) {
        forms.escaped(text);
        forms.base64(text);
    }
    for line in value.lines() {
        forms.escaped(line);
        forms.escaped(line.trim());
    }
    let mut forms = forms.0;
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

/// A value as it is, and where that is something else, without the white space around it. Nothing but white space is itself only.
fn variants(value: &str) -> impl Iterator<Item = &str> {
    std::iter::once(value)
        .chain(Some(value.trim()).filter(move |trimmed| !trimmed.is_empty() && *trimmed != value))
}

/// What may stand on the second and on later lines of base64 that is broken into lines, wherever in it the
/// value begins: whole lines from its middle, and its end.
pub(super) fn wrapped_base64_lines(value: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Encodings(Vec::new());
    if !is_long_enough(value) {
        return forms.0;
    }
    for encoded in variants(value)
        .flat_map(encoded)
        .filter(|encoded| encoded.len() <= MAX_WRAPPED)
    {
        for width in BASE64_WIDTHS {
            for start in 1..encoded.len().saturating_sub(width) {
                forms.add(encoded[start..start + width].to_owned());
            }
        }
        for cut in 1..encoded.len() {
            forms.add(encoded[cut..].to_owned());
        }
    }
    forms.0
}

/// Base64 in both alphabets at each of the three places where the value can begin in a longer encoded
/// text, without the characters that hold bits of a neighbour, for these differ from text to text.
fn encoded(text: &str) -> Vec<Zeroizing<String>> {
    let mut all = Vec::new();
    for engine in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let bytes = Zeroizing::new([&[0_u8; 2][..before], text.as_bytes()].concat());
            let encoded = Zeroizing::new(engine.encode(&*bytes));
            let (first, last) = ([0, 2, 3][before], bytes.len() * 8 / 6);
            all.push(Zeroizing::new(encoded[first..last].to_owned()));
        }
    }
    all
}

fn is_long_enough(text: &str) -> bool {
    text.chars().count() >= MIN_REDACTED_CHARS
}

struct Encodings(Vec<Zeroizing<String>>);

impl Encodings {
    fn add(&mut self, form: impl Into<Zeroizing<String>>) {
        let form = form.into();
        if is_long_enough(&form) {
            self.0.push(form);
        }
    }

    /// The text and what quoting makes of it.
    fn escaped(&mut self, text: &str) {
        if !is_long_enough(text) {
            return;
        }
        self.add(text.to_owned());
        if text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            return;
        }
        self.url(text);
        self.json(text);
        self.shell(text);
    }

    fn url(&mut self, text: &str) {
        for set in [UNRESERVED, COMPONENT, PATH, NON_ALPHANUMERIC] {
            let encoded = Zeroizing::new(utf8_percent_encode(text, set).to_string());
            self.add(lower_hex(&encoded));
            self.add(encoded);
        }
        let form = Zeroizing::new(
            utf8_percent_encode(text, FORM)
                .to_string()
                .replace(' ', "+"),
        );
        self.add(lower_hex(&form));
        self.add(form);
    }

    fn json(&mut self, text: &str) {
        for (ascii, html, slash) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (true, false, true),
        ] {
            self.add(json_escaped(text, ascii, html, slash));
        }
    }

    fn shell(&mut self, text: &str) {
        self.add(text.replace('\'', r"'\''"));
        self.add(text.replace('\'', r#"'"'"'"#));
        self.add(with_backslashes(text, |c| {
            matches!(c, '"' | '\\' | '$' | '`')
        }));
        self.add(with_backslashes(text, |c| {
            !c.is_alphanumeric()
                && !matches!(c, '-' | '_' | '.' | '/' | ':' | '=' | '@' | '%' | '+' | ',')
        }));
        // bash's $'…', as `printf %q` and `set -x` write what holds control characters.
        let dollar = Zeroizing::new(with_backslashes(text, |c| matches!(c, '\'' | '\\')));
        self.add(
            dollar
                .replace('\n', r"\n")
                .replace('\t', r"\t")
                .replace('\r', r"\r"),
        );
    }

    /// Base64 in both alphabets: whole, with and without padding; at each of the three places
    /// where the value can begin in a longer encoded text; and broken into lines.
    fn base64(&mut self, text: &str) {
        if !is_long_enough(text) {
            return;
        }
        for engine in [&STANDARD, &URL_SAFE] {
            let padded = Zeroizing::new(engine.encode(text));
            let plain = padded.trim_end_matches('=');
            self.add(plain.to_owned());
            for width in BASE64_WIDTHS {
                for line in padded
                    .as_bytes()
                    .chunks(width)
                    .filter(|_| padded.len() > width)
                {
                    self.add(String::from_utf8_lossy(line).into_owned());
                }
            }
            self.add(padded);
        }
        for encoded in encoded(text) {
            // Of one that is broken into lines the first has its beginning, however much of it.
            for cut in (1..encoded.len()).filter(|_| encoded.len() <= MAX_WRAPPED) {
                self.add(encoded[..cut].to_owned());
            }
            self.add(encoded);
        }
    }
}

/// `%2F` → `%2f`.
fn lower_hex(encoded: &str) -> String {
    let mut lower = String::with_capacity(encoded.len());
    let mut digits = 0;
    for c in encoded.chars() {
        lower.push(if digits > 0 {
            c.to_ascii_lowercase()
        } else {
            c
        });
        digits = if c == '%' {
            2_u8
        } else {
            digits.saturating_sub(1)
        };
    }
    lower
}

fn with_backslashes(text: &str, needs: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if needs(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A JSON string's inside. `ascii`: as Python's `json` writes it; `html`: as Go's; `slash`: as PHP's.
fn json_escaped(text: &str, ascii: bool, html: bool, slash: bool) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '/' if slash => escaped.push_str("\\/"),
            c if c < ' ' || (html && matches!(c, '<' | '>' | '&')) || (ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) {
        assert!(
            all(value).iter().any(|f| f.as_str() == form),
            "{value:?} as {form:?}"
        );
    }

    #[test]
    fn quoting() {
        has("pa ss/w0rd", "pa%20ss%2Fw0rd");
        has("pa ss/w0rd", "pa%20ss%2fw0rd");
        has("pa ss/w0rd", "pa+ss%2Fw0rd");
        has("pa ss/w0rd", r"pa\ ss/w0rd");
        has("pa ss/w0rd", r"pa ss\/w0rd");
        has("tab\tquote\"x", r#"tab\tquote\"x"#);
        has("it's a secret", r"it'\''s a secret");
        has("it's a secret", r#"it'"'"'s a secret"#);
        has("geheim-ü€😀", r"geheim-\u00fc\u20ac\ud83d\ude00");
        has("a<b>c&d12", r"a\u003cb\u003ec\u0026d12");
        has("$HOME`x`\\12", r"\$HOME\`x\`\\12");
        has("line one\nline2", r"line one\nline2");
    }

    #[test]
    fn lines_of_eight_and_more() {
        let forms = all("-----BEGIN KEY-----\r\nAbCdEfGhIj\nshort\n");
        assert!(forms.iter().any(|f| f.as_str() == "AbCdEfGhIj"));
        assert!(forms.iter().any(|f| f.as_str() == "-----BEGIN KEY-----"));
        assert!(!forms.iter().any(|f| f.as_str() == "short"));
        assert!(
            forms
                .windows(2)
                .all(|w| w[0].len() >= w[1].len() && w[0] != w[1])
        );
    }

    #[test]
    fn too_short_has_no_forms() {
        assert!(all("1234567").is_empty() && all("").is_empty());
    }

    #[test]
    fn white_space_is_itself_only() {
        assert!(
            all("   \n\n\n \n")
                .iter()
                .any(|form| form.as_str() == "   \n\n\n \n")
        );
        assert!(
            all("        x")
                .iter()
                .any(|form| form.as_str() == "        x")
        );
    }

    #[test]
    fn base64_is_found_on_every_line_that_it_is_broken_into() {
        let value = "a-secret-of-several-words-that-is-longer-than-one-line-of-base64-can-be?";
        let forms: Vec<_> = all(value)
            .into_iter()
            .chain(wrapped_base64_lines(value))
            .collect();
        for (before, width) in
            (0..120).flat_map(|before| BASE64_WIDTHS.map(|width| (before, width)))
        {
            let text = STANDARD.encode(["x".repeat(before).as_str(), value, "y"].concat());
            // The characters that hold bits of the value alone.
            let (first, last) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
            for line in (0..text.len()).step_by(width) {
                let piece = text
                    .get(line.max(first)..(line + width).min(last))
                    .unwrap_or_default();
                let known = piece.len() < MIN_REDACTED_CHARS
                    || forms.iter().any(|form| form.as_str() == piece);
                assert!(known, "{piece} of a line of {width}, after {before}");
            }
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        for value in [
            "p\u{fe}ssw0rd>?",
            "12345678",
            "123456789",
            "1234567890",
            &"long/+".repeat(40),
        ] {
            for before in 0..4 {
                for after in 0..4 {
                    for engine in [&STANDARD, &URL_SAFE] {
                        let text = engine.encode(
                            [
                                "x".repeat(before).as_str(),
                                value,
                                "y".repeat(after).as_str(),
                            ]
                            .concat(),
                        );
                        let best = all(value)
                            .iter()
                            .filter(|f| text.contains(f.as_str()))
                            .map(|f| f.len())
                            .max()
                            .unwrap_or(0);
                        assert!(
                            best * 6 / 8 + 2 >= value.len(),
                            "{value} {before} {after}: {best}"
                        );
                    }
                }
            }
        }
    }
}
