//! The redactor: finds known secrets in text and in streams cut anywhere.
//!
//! A text is searched as it is, as it looks without escape sequences, and for base64. Where several patterns match,
//! the leftmost gives the name, and of those the longest, so a secret inside
//! another shows the outer one's name. Matches that overlap are replaced as one. In a whole text the beginning of a secret counts as well
//! where `…` says that it was cut there. A stream holds bytes back only while they could be the
//! beginning of a secret.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use serde_json::Value;
use zeroize::Zeroizing;

use super::matcher::{Matcher, PREFIX_LEN};
use super::search::{Position, Searched};
use super::value::Secret;
use crate::sync::{lock, read, write};

/// Replaces the values of secrets by `{{ name }}`. A clone is the same redactor.
#[derive(Clone, Default)]
pub struct Redactor(Arc<SharedMatcher>);

#[derive(Default)]
struct SharedMatcher {
    known: Mutex<Vec<(String, Secret)>>,
    matcher: RwLock<Arc<Matcher>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = lock(&self.0.known);
        f.debug_list()
            .entries(known.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The newline after a text is not secret, and separates what takes its place from the next line.
fn without_last_newline(secret: &Secret) -> Secret {
    match secret.expose().trim_end_matches(['\n', '\r']) {
        "" => secret.clone(),
        text => Secret::new(text.to_owned()),
    }
}

impl Redactor {
    /// A redactor of these secrets, by name.
    pub fn new<'a, N: Into<String>>(secrets: impl IntoIterator<Item = (N, &'a Secret)>) -> Self {
        let known: Vec<(String, Secret)> = secrets
            .into_iter()
            .map(|(name, secret)| (name.into(), secret.clone()))
            .collect();
        let matcher = RwLock::new(Arc::new(Matcher::new(&known)));
        Self(Arc::new(SharedMatcher {
            known: Mutex::new(known),
            matcher,
        }))
    }

    /// Adds a secret. Streams that are open redact it from their next bytes on.
    pub fn add(&self, name: &str, secret: &Secret) {
        self.add_all(name, std::slice::from_ref(secret));
    }

    /// Adds a secret that a pipeline uses as JSON: each text and number in it is a secret as well. One that is not JSON
    /// is a secret as it is.
    pub fn add_json(&self, name: &str, secret: &Secret) {
        let mut secrets = vec![secret.clone()];
        if let Ok(value) = serde_json::from_str(secret.expose()) {
            collect_texts(value, &mut secrets);
        }
        self.add_all(name, &secrets);
    }

    fn add_all(&self, name: &str, secrets: &[Secret]) {
        let mut known = lock(&self.0.known);
        let before = known.len();
        for secret in secrets.iter().map(without_last_newline) {
            if !known
                .iter()
                .any(|(n, s)| n == name && s.expose() == secret.expose())
            {
                known.push((name.to_owned(), secret.clone()));
            }
        }
        if known.len() == before {
            return;
        }
        let matcher = Arc::new(Matcher::new(&known));
        *write(&self.0.matcher) = matcher;
    }

    /// Names of the secrets that are too short to be redacted.
    #[cfg(test)]
    fn too_short(&self) -> Vec<String> {
        let known = lock(&self.0.known);
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
            position: Position::default(),
        }
    }

    /// A whole text, redacted.
    #[must_use]
    pub fn redact_text(&self, text: &str) -> String {
        let matcher = self.matcher();
        let text = match redact_all(&matcher, text.as_bytes(), Position::default()) {
            // Patterns are whole characters, so what is left of a text is text.
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
            Cow::Borrowed(_) => text.to_owned(),
        };
        redact_truncated(&matcher, text)
    }

    /// Whole bytes, redacted.
    #[must_use]
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        redact_all(&self.matcher(), bytes, Position::default())
    }

    /// How much of a text that was cut at its end may be kept: the text without the beginning of a secret at its end,
    /// which could not be recognized later. A secret that is in the text as a whole stays whole.
    #[must_use]
    pub fn safe_prefix_len(&self, text: &[u8]) -> usize {
        let (_, rest) = redact_complete(&self.matcher(), text, Position::default());
        rest.from + rest.covered
    }

    /// A value with every string, key and number in it redacted.
    #[must_use]
    pub fn redact_json(&self, value: Value) -> Value {
        if self.matcher().is_empty() {
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

    fn matcher(&self) -> Arc<Matcher> {
        read(&self.0.matcher).clone()
    }
}

/// One stream of output on its way through a [`Redactor`].
#[derive(Debug)]
pub struct RedactStream {
    redactor: Redactor,
    held: Zeroizing<Vec<u8>>,
    /// Where the held bytes stand in the stream.
    position: Position,
}

impl RedactStream {
    /// Takes the next bytes and returns what may be shown now.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let matcher = self.redactor.matcher();
        if self.held.is_empty() {
            let (shown, rest) = redact_complete(&matcher, bytes, self.position);
            self.position = self.position.behind(&bytes[..rest.from], rest.covered);
            self.held.extend_from_slice(&bytes[rest.from..]);
            return shown;
        }
        self.held.extend_from_slice(bytes);
        let (shown, rest) = redact_complete(&matcher, &self.held, self.position);
        let shown = shown.into_owned();
        self.position = self.position.behind(&self.held[..rest.from], rest.covered);
        self.held.drain(..rest.from);
        Cow::Owned(shown)
    }

    /// Returns what was held back: no more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let shown = redact_all(&self.redactor.matcher(), &held, self.position).into_owned();
        self.position = self.position.behind(&held, 0);
        shown
    }

    /// Whether bytes are held back that could be the beginning of a secret.
    #[cfg(test)]
    fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }
}

/// The texts and numbers in a JSON value.
fn collect_texts(value: Value, into: &mut Vec<Secret>) {
    match value {
        Value::String(text) => into.push(Secret::new(text)),
        Value::Number(number) => into.push(Secret::new(number.to_string())),
        Value::Array(items) => items.into_iter().for_each(|item| collect_texts(item, into)),
        Value::Object(fields) => fields
            .into_iter()
            .for_each(|(_, field)| collect_texts(field, into)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The part of a text that is held back.
#[derive(Clone, Copy)]
struct Rest {
    from: usize,
    /// How many bytes of it belong to a match that has been replaced already.
    covered: usize,
}

/// Replaces all matches; no more text follows.
fn redact_all<'a>(matcher: &Matcher, text: &'a [u8], position: Position) -> Cow<'a, [u8]> {
    replace(matcher, text, position, |_| text.len()).0
}

/// Replaces the matches that later text cannot change. Returns what may be shown and from where on to hold back.
fn redact_complete<'a>(
    matcher: &Matcher,
    text: &'a [u8],
    position: Position,
) -> (Cow<'a, [u8]>, Rest) {
    replace(matcher, text, position, |searched| {
        searched.possible_start()
    })
}

/// Replaces the matches that begin before the place that `hold` returns. What begins there may go on beyond the end of
/// the text; so no match before it can become longer.
///
/// Matches that overlap are replaced as one, by the name of the first. Returns what may be shown and the rest that is to be held back.
fn replace<'a>(
    matcher: &Matcher,
    text: &'a [u8],
    position: Position,
    hold: impl Fn(&Searched<'_>) -> usize,
) -> (Cow<'a, [u8]>, Rest) {
    if matcher.is_empty() {
        let rest = Rest {
            from: text.len(),
            covered: 0,
        };
        return (Cow::Borrowed(text), rest);
    }
    let searched = Searched::new(matcher, text, position);
    let end = hold(&searched);
    let mut covered = position.covered;
    let mut shown: Option<Vec<u8>> = (covered > 0).then(Vec::new);
    let mut matches = searched.matches();
    let mut from = 0;
    while let Some(found) = matches.next(from).filter(|found| found.start < end) {
        from = found.start + 1;
        let shown = shown.get_or_insert_with(|| Vec::with_capacity(text.len()));
        if found.shown_to >= covered {
            shown.extend_from_slice(&text[covered..found.shown_to]);
            shown.extend_from_slice(found.replacement.as_bytes());
            covered = found.shown_to;
        }
        if found.end > covered {
            shown.extend_from_slice(&found.colours_from(text, covered));
            covered = found.end;
        }
    }
    let rest = Rest {
        from: end,
        covered: covered.saturating_sub(end),
    };
    match shown {
        None => (Cow::Borrowed(&text[..end]), rest),
        Some(mut shown) => {
            shown.extend_from_slice(text.get(covered..end).unwrap_or_default());
            (Cow::Owned(shown), rest)
        }
    }
}

/// Replaces what is left of a pattern before a `…`. What is shorter than any pattern stays: it says little, and much looks like it.
fn redact_truncated(matcher: &Matcher, mut text: String) -> String {
    let mut before = if matcher.is_empty() { 0 } else { text.len() };
    while let Some(cut) = text[..before].rfind('…') {
        let earliest = cut.saturating_sub(matcher.longest());
        let latest = (cut + 1).saturating_sub(PREFIX_LEN);
        let begins = |start: usize| {
            let beginning = text.get(start..cut)?;
            let pattern = matcher.patterns_with(beginning.as_bytes()).next()?;
            Some((start, pattern.replacement.clone()))
        };
        let found = (earliest..latest).find_map(begins);
        before = found.as_ref().map_or(cut, |(start, _)| *start);
        if let Some((start, replacement)) = found {
            text.replace_range(start..cut, &replacement);
        }
    }
    text
}

#[cfg(test)]
mod tests;
