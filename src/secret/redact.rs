//! The redactor: finds known secrets in text and in streams cut anywhere.
//!
//! Where several forms match, the leftmost wins, and of those the longest, so a secret inside
//! another shows the outer one's name. In a whole text the beginning of a secret counts as well
//! where `…` says that it was cut there. A stream holds bytes back only while they could be the
//! beginning of a secret, and never more than the longest form.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::Value;
use zeroize::Zeroizing;

use super::{MIN_REDACTED_CHARS, Secret, forms};

/// How many bytes of a text are looked at to rule out that a form begins there. No form is shorter.
const WINDOW: usize = MIN_REDACTED_CHARS;

/// Replaces the values of secrets by `{{ name }}`. A clone is the same redactor.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Vec<(String, Secret)>>,
    table: RwLock<Arc<Table>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_list()
            .entries(known.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Redactor {
    /// A redactor of these secrets, by name.
    pub fn new<'a, N: Into<String>>(secrets: impl IntoIterator<Item = (N, &'a Secret)>) -> Self {
        let known: Vec<(String, Secret)> = secrets
            .into_iter()
            .map(|(name, secret)| (name.into(), secret.clone()))
            .collect();
        let table = RwLock::new(Arc::new(Table::new(&known)));
        Self(Arc::new(Shared {
            known: Mutex::new(known),
            table,
        }))
    }

    /// Adds a secret. Streams that are open redact it from their next bytes on.
    pub fn add(&self, name: &str, secret: &Secret) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .iter()
            .any(|(n, s)| n == name && s.expose() == secret.expose())
        {
            return;
        }
        known.push((name.to_owned(), secret.clone()));
        let table = Arc::new(Table::new(&known));
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// Names of the secrets that are too short to be redacted.
    #[cfg(test)]
    fn too_short(&self) -> Vec<String> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|(_, secret)| secret.is_too_short())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// A stream to push output through.
    #[must_use]
    pub fn stream(&self) -> RedactStream {
        RedactStream {
            redactor: self.clone(),
            held: Zeroizing::default(),
        }
    }

    /// A whole text, redacted.
    #[must_use]
    pub fn redact_text(&self, text: &str) -> String {
        let table = self.table();
        let text = match table.replace_all(text.as_bytes()) {
            // Forms are whole characters, so what is left of a text is text.
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
            Cow::Borrowed(_) => text.to_owned(),
        };
        table.replace_cut(text)
    }

    /// Whole bytes, redacted.
    #[must_use]
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        self.table().replace_all(bytes)
    }

    /// How much of a text that goes on, but not here, may be kept: without its end where that is the beginning of a
    /// secret, which nobody could know again.
    #[must_use]
    pub fn before_cut(&self, text: &[u8]) -> usize {
        self.table().replace_ready(text).1
    }

    /// A value with every string, key and number in it redacted.
    #[must_use]
    pub fn redact_json(&self, value: Value) -> Value {
        if self.table().is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.redact_text(&text)),
            Value::Array(items) => Value::Array(
                items
                    .into_iter()
                    .map(|item| self.redact_json(item))
                    .collect(),
            ),
            Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (self.redact_text(&key), self.redact_json(value)))
                    .collect(),
            ),
            Value::Number(number) => {
                let text = number.to_string();
                let redacted = self.redact_text(&text);
                if redacted == text {
                    Value::Number(number)
                } else {
                    Value::String(redacted)
                }
            }
            Value::Null | Value::Bool(_) => value,
        }
    }

    fn table(&self) -> Arc<Table> {
        self.0
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One stream of output on its way through a [`Redactor`].
#[derive(Debug)]
pub struct RedactStream {
    redactor: Redactor,
    held: Zeroizing<Vec<u8>>,
}

impl RedactStream {
    /// Takes the next bytes and gives what may be shown now.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let table = self.redactor.table();
        if self.held.is_empty() {
            if table.is_empty() {
                return Cow::Borrowed(bytes);
            }
            let (shown, rest) = table.replace_ready(bytes);
            self.held.extend_from_slice(&bytes[rest..]);
            return shown;
        }
        self.held.extend_from_slice(bytes);
        let (shown, rest) = table.replace_ready(&self.held);
        let shown = shown.into_owned();
        self.held.drain(..rest);
        Cow::Owned(shown)
    }

    /// Gives what was held back: no more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.redactor.table().replace_all(&held).into_owned()
    }

    /// Whether bytes are held back that could be the beginning of a secret.
    #[cfg(test)]
    fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }
}

/// All forms of all secrets, ready to search for.
///
/// A small set of hashes of the forms' first [`WINDOW`] bytes tells at nearly every place of a text
/// that no form begins there; elsewhere the sorted forms are searched. That needs one step a byte,
/// however many secrets there are, takes no time to make, and everything in it can be wiped.
#[derive(Default)]
struct Table {
    /// In rising order of the forms.
    forms: Vec<Form>,
    beginnings: HashSet,
    longest: usize,
}

/// One form, and what stands in its place.
struct Form {
    text: Zeroizing<String>,
    /// Whether it is only one where a line begins.
    continues: bool,
    replacement: Arc<str>,
}

/// Whether a line may begin there; what was before a text is not known.
fn begins_line(text: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_none_or(|before| matches!(text[before], b'\n' | b'\r'))
}

/// A form found in a text.
struct Found<'a> {
    start: usize,
    end: usize,
    replacement: &'a str,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table of {} forms", self.forms.len())
    }
}

impl Table {
    fn new(known: &[(String, Secret)]) -> Self {
        let mut forms: Vec<Form> = Vec::new();
        for (name, secret) in known {
            let replacement: Arc<str> = format!("{{{{ {name} }}}}").into();
            let form = |continues: bool| {
                let replacement = replacement.clone();
                move |text| Form {
                    text,
                    continues,
                    replacement: replacement.clone(),
                }
            };
            forms.extend(forms::of(secret.expose()).into_iter().map(form(false)));
            forms.extend(
                forms::on_later_lines(secret.expose())
                    .into_iter()
                    .map(form(true)),
            );
        }
        // Of two secrets with the same form the one named first gives the name.
        forms.sort_by(|a, b| a.text.cmp(&b.text).then(a.continues.cmp(&b.continues)));
        forms.dedup_by(|later, earlier| later.text == earlier.text);
        let mut beginnings = HashSet::default();
        forms
            .iter()
            .filter_map(|form| form.text.as_bytes().first_chunk())
            .for_each(|window| beginnings.insert(*window));
        let longest = forms.iter().map(|form| form.text.len()).max().unwrap_or(0);
        Self {
            forms,
            beginnings,
            longest,
        }
    }

    fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The first form that begins at or after `from`, and of those the longest.
    fn find(&self, text: &[u8], from: usize) -> Option<Found<'_>> {
        let mut from = from;
        loop {
            let rest = text.get(from..)?;
            let at = rest.windows(WINDOW).position(|window| {
                window
                    .first_chunk()
                    .is_some_and(|window| self.beginnings.contains(*window))
            })?;
            let start = from + at;
            if let Some(form) = self.longest_at(text, start) {
                return Some(Found {
                    start,
                    end: start + form.text.len(),
                    replacement: &form.replacement,
                });
            }
            from = start + 1;
        }
    }

    /// The longest form that stands there.
    fn longest_at(&self, text: &[u8], at: usize) -> Option<&Form> {
        let (text, begins_line) = (&text[at..], begins_line(text, at));
        let after = self
            .forms
            .partition_point(|form| form.text.as_bytes() <= text);
        // Of the forms that begin a text the longest is the last in order.
        let alike = |form: &&Form| form.text.as_bytes()[..WINDOW] == text[..WINDOW];
        self.forms[..after]
            .iter()
            .rev()
            .take_while(alike)
            .find(|form| (begins_line || !form.continues) && text.starts_with(form.text.as_bytes()))
    }

    /// Replaces all matches; no more text follows.
    fn replace_all<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.replace(text, |_| text.len()).0
    }

    /// Replaces the matches that later text cannot change. Gives what may be shown and from where on to hold back.
    fn replace_ready<'a>(&self, text: &'a [u8]) -> (Cow<'a, [u8]>, usize) {
        self.replace(text, |from| self.possible_start(text, from))
    }

    /// Replaces the matches that begin before the place that `hold` gives for what lies behind the last match.
    ///
    /// Where a form may go on beyond the end of the text, that place is its beginning: so a match before it cannot
    /// become longer. A match that reaches across it takes that beginning with it, and the next one counts.
    fn replace<'a>(&self, text: &'a [u8], hold: impl Fn(usize) -> usize) -> (Cow<'a, [u8]>, usize) {
        if self.is_empty() {
            return (Cow::Borrowed(text), text.len());
        }
        let mut shown: Option<Vec<u8>> = None;
        let (mut from, mut end) = (0, hold(0));
        while let Some(found) = self.find(text, from).filter(|found| found.start < end) {
            let shown = shown.get_or_insert_with(|| Vec::with_capacity(text.len()));
            shown.extend_from_slice(&text[from..found.start]);
            shown.extend_from_slice(found.replacement.as_bytes());
            from = found.end;
            if from > end {
                end = hold(from);
            }
        }
        match shown {
            None => (Cow::Borrowed(&text[..end]), end),
            Some(mut shown) => {
                shown.extend_from_slice(&text[from..end]);
                (Cow::Owned(shown), end)
            }
        }
    }

    /// Replaces what is left of a form before a `…`. What is shorter than any form stays: it says little, and much looks like it.
    fn replace_cut(&self, mut text: String) -> String {
        let mut before = if self.is_empty() { 0 } else { text.len() };
        while let Some(cut) = text[..before].rfind('…') {
            let earliest = cut.saturating_sub(self.longest);
            let latest = (cut + 1).saturating_sub(WINDOW);
            let begins = |start: usize| {
                let beginning = text.get(start..cut)?;
                Some((
                    start,
                    self.forms_with(beginning.as_bytes())
                        .next()?
                        .replacement
                        .clone(),
                ))
            };
            let found = (earliest..latest).find_map(begins);
            before = found.as_ref().map_or(cut, |(start, _)| *start);
            if let Some((start, replacement)) = found {
                text.replace_range(start..cut, &replacement);
            }
        }
        text
    }

    /// The forms that begin so and go on.
    fn forms_with<'a>(&'a self, beginning: &'a [u8]) -> impl Iterator<Item = &'a Form> {
        let at = self
            .forms
            .partition_point(|form| form.text.as_bytes() <= beginning);
        self.forms[at..]
            .iter()
            .take_while(move |form| form.text.as_bytes().starts_with(beginning))
    }

    /// The first place at or after `from` where the rest of the text is the beginning of a form.
    fn possible_start(&self, text: &[u8], from: usize) -> usize {
        let earliest = from.max(text.len().saturating_sub(self.longest.saturating_sub(1)));
        let possible = |at: &usize| {
            let tail = &text[*at..];
            tail.first_chunk()
                .is_none_or(|window| self.beginnings.contains(*window))
                && self.is_beginning(tail, begins_line(text, *at))
        };
        (earliest..text.len()).find(possible).unwrap_or(text.len())
    }

    /// Whether some form begins with `tail` and is longer than it.
    fn is_beginning(&self, tail: &[u8], begins_line: bool) -> bool {
        self.forms_with(tail)
            .any(|form| begins_line || !form.continues)
    }
}

/// A set of the hashes of windows: may say yes wrongly, never no.
struct HashSet(Box<[u64; 1024]>);

impl Default for HashSet {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl HashSet {
    /// Word and bit of a window.
    #[inline]
    fn place(window: [u8; WINDOW]) -> (usize, u64) {
        let hash = u64::from_le_bytes(window).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        // 16 bits: ten for the word, six for the bit.
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn insert(&mut self, window: [u8; WINDOW]) {
        let (word, bit) = Self::place(window);
        self.0[word] |= bit;
    }

    #[inline]
    fn contains(&self, window: [u8; WINDOW]) -> bool {
        let (word, bit) = Self::place(window);
        self.0[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[(&str, &str)]) -> Redactor {
        let secrets: Vec<(&str, Secret)> = secrets
            .iter()
            .map(|(name, value)| (*name, Secret::new((*value).to_owned())))
            .collect();
        Redactor::new(secrets.iter().map(|(name, secret)| (*name, secret)))
    }

    fn through(stream: &mut RedactStream, chunks: &[&[u8]]) -> String {
        let mut shown = Vec::new();
        for chunk in chunks {
            shown.extend_from_slice(&stream.push(chunk));
        }
        shown.extend_from_slice(&stream.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn one_secret_inside_another() {
        let redactor = redactor(&[
            ("inner", "abcdefgh"),
            ("outer", "xxabcdefghyy"),
            ("longer", "abcdefghij"),
        ]);
        assert_eq!(
            redactor.redact_text("1 xxabcdefghyy 2 abcdefgh 3 abcdefghij"),
            "1 {{ outer }} 2 {{ inner }} 3 {{ longer }}"
        );
    }

    #[test]
    fn the_longer_one_wins_across_chunks_too() {
        let redactor = redactor(&[("short", "abcdefgh"), ("long", "abcdefghijklmnop")]);
        assert_eq!(
            through(
                &mut redactor.stream(),
                &[b"abcdefgh", b"ijklmnop", b"-abcdefghijkl", b"x"]
            ),
            "{{ long }}-{{ short }}ijklx"
        );
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let redactor = redactor(&[("token", "s3cret-t0ken")]);
        let mut stream = redactor.stream();
        assert_eq!(&*stream.push(b"Password: "), b"Password: ");
        assert!(!stream.is_holding());
        assert_eq!(&*stream.push(b"x s3cr"), b"x ");
        assert!(stream.is_holding());
        assert_eq!(&*stream.push(b"ypt s"), b"s3crypt ");
        assert_eq!(stream.finish(), b"s");
        assert!(!stream.is_holding());
    }

    #[test]
    fn a_secret_added_later_is_seen_by_open_streams() {
        let redactor = redactor(&[]);
        let mut stream = redactor.stream();
        assert_eq!(&*stream.push(b"late-secret "), b"late-secret ");
        redactor.add("late", &Secret::new("late-secret".to_owned()));
        redactor.add("late", &Secret::new("late-secret".to_owned()));
        assert_eq!(&*stream.push(b"late-secret "), b"{{ late }} ");
        assert_eq!(redactor.0.known.lock().unwrap().len(), 1);
        assert_eq!(format!("{redactor:?}"), r#"["late"]"#);
    }

    #[test]
    fn short_ones_are_reported() {
        let redactor = redactor(&[("pin", "1234"), ("token", "12345678")]);
        assert_eq!(redactor.too_short(), ["pin"]);
        assert_eq!(redactor.redact_text("1234 12345678"), "1234 {{ token }}");
    }

    #[test]
    fn what_is_left_of_a_secret_that_was_cut() {
        let redactor = redactor(&[
            ("token", "s3cret-t0ken-of-some-length"),
            ("ü", "äöüäöüäöüäöü"),
        ]);
        let shown = |text: &str| redactor.redact_text(text);
        assert_eq!(
            shown("`echo s3cret-t0ken-of-s…` failed, `x s3cret-t0ke…`"),
            "`echo {{ token }}…` failed, `x {{ token }}…`"
        );
        assert_eq!(shown("äöüäö… s3cret-… …"), "{{ ü }}… s3cret-… …");
        assert_eq!(
            shown("s3cret-t0ken-of"),
            "s3cret-t0ken-of",
            "nothing says that this was cut"
        );
        assert_eq!(shown("s3cret-t0ken-of-some-length…"), "{{ token }}…");
        assert_eq!(shown("…"), "…");
    }

    #[test]
    fn json_values() {
        let redactor = redactor(&[("n", "12345678")]);
        let value = serde_json::json!({"a": ["x12345678", 12345678, 1, null, true], "12345678": {"b": "ok"}});
        let expected = serde_json::json!({"a": ["x{{ n }}", "{{ n }}", 1, null, true], "{{ n }}": {"b": "ok"}});
        assert_eq!(redactor.redact_json(value), expected);
    }

    #[test]
    fn multi_line_secrets() {
        let redactor = redactor(&[("key", "-----BEGIN-----\nQUJDREVGR0g\n-----END-----\n")]);
        assert_eq!(redactor.redact_text("a QUJDREVGR0g b"), "a {{ key }} b");
        assert_eq!(
            redactor.redact_text("a\n-----BEGIN-----\nQUJDREVGR0g\n-----END-----\nb"),
            "a\n{{ key }}b"
        );
        assert_eq!(
            redactor.redact_text("-----BEGIN-----\r\nQUJDREVGR0g\r\n"),
            "{{ key }}\r\n{{ key }}\r\n"
        );
    }

    #[test]
    fn a_large_secret_is_found() {
        let value: String = (0..20_000_u32)
            .map(|n| {
                char::from(b'!' + u8::try_from(n.wrapping_mul(2_654_435_761) >> 16 & 63).unwrap())
            })
            .collect();
        let redactor = redactor(&[("large", &value)]);
        let text = format!("a {value} b");
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(1000).collect();
        assert_eq!(through(&mut redactor.stream(), &chunks), "a {{ large }} b");
    }

    /// Cuts `text` at the given places.
    fn cut<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for to in at {
            chunks.push(&text[from..to]);
            from = to;
        }
        chunks.push(&text[from..]);
        chunks
    }

    // Few letters, so that secrets overlap, repeat and begin alike.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[ab/\n\"' ]{8,14}", 1 => "[a-zA-Z0-9+/=äß<%$-]{8,30}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn no_value_gets_out_however_it_is_cut(
            values in prop::collection::vec(value(), 1..4),
            parts in prop::collection::vec(prop_oneof!["[ab/\n\"' ]{0,6}".prop_map(Err), any::<prop::sample::Index>().prop_map(Ok)], 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let secrets: Vec<Secret> = values.iter().cloned().map(Secret::new).collect();
            let redactor = Redactor::new(secrets.iter().map(|secret| ("N", secret)));
            let text: String = parts.iter().map(|part| match part {
                Ok(index) => values[index.index(values.len())].as_str(),
                Err(text) => text.as_str(),
            }).collect();
            let shown = through(&mut redactor.stream(), &cut(text.as_bytes(), &cuts));
            for value in &values {
                prop_assert!(!shown.contains(value.as_str()), "{value:?} in {shown:?} of {text:?}");
            }
            // However it is cut, it is as if it came whole.
            prop_assert_eq!(shown, redactor.redact_text(&text));
        }

        #[test]
        fn what_real_encoders_make_of_a_value_does_not_get_out(value in "[a-z /\"'$`\\\\\n\t<>&%+=äß€😀-]{8,24}", around in "[a-z]{0,5}") {
            let secret = Secret::new(value.clone());
            let redactor = Redactor::new([("N", &secret)]);
            let json = serde_json::to_string(&value).unwrap();
            let inner = &json[1..json.len() - 1];
            let url = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC).to_string();
            let shell = shell_words::quote(&value).into_owned();
            for encoded in [inner, &url, &url.to_lowercase(), &shell] {
                let shown = redactor.redact_text(&format!("{around} {encoded} {around}"));
                prop_assert!(!shown.contains(encoded), "{shown:?}");
                prop_assert!(shown.contains("{{ N }}"), "{shown:?}");
            }
        }

        #[test]
        fn text_without_secrets_is_unchanged(
            values in prop::collection::vec("[A-Z0-9]{8,20}", 0..4),
            text in prop::collection::vec(prop_oneof![97_u8..123, Just(b'\n'), 128..=255_u8, Just(0)], 0..300),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let secrets: Vec<Secret> = values.into_iter().map(Secret::new).collect();
            // Not even by chance: base64 of a value could be lower-case letters only.
            let redactor = Redactor::new(secrets.iter().map(|secret| ("N", secret)));
            let mut stream = redactor.stream();
            let mut shown = Vec::new();
            for chunk in cut(&text, &cuts) {
                shown.extend_from_slice(&stream.push(chunk));
            }
            shown.extend_from_slice(&stream.finish());
            prop_assert_eq!(shown, text);
        }
    }
}
