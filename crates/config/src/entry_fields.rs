//! The fields of an entry that the owner names, such as a target of notifications. The first problem takes the place of the
//! entry's settings, so that an entry that is wrong does not keep the rest of the configuration from loading.

use serde_json::{Map, Value};

/// The longest name of an entry, in bytes.
const MAX_NAME: usize = 64;

/// What is expected of a field that names a secret, for messages.
pub(super) const SECRET: &str =
    "{:file \"/path\"} or {:env \"NAME\"} (where the value is, never the value itself)";

/// An entry as it was read.
pub(super) struct ReadEntry<T> {
    pub(super) settings: Result<T, EntryProblem>,
    /// Keys that no such entry has, and the keys that it may have.
    pub(super) unknown: Vec<String>,
    pub(super) known: Vec<&'static str>,
}

pub(super) struct EntryProblem {
    /// The key whose value is wrong, if it is there.
    pub(super) key: Option<&'static str>,
    pub(super) message: String,
}

/// Whether a text can be the name of an entry.
pub(super) fn is_entry_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('-')
}

/// Takes the fields of an entry. The first problem counts.
pub(super) struct EntryFields {
    fields: Map<String, Value>,
    known: Vec<&'static str>,
    problem: Option<EntryProblem>,
}

impl EntryFields {
    /// The fields of a table; none of another value.
    pub(super) fn of(value: &Value) -> Self {
        Self {
            fields: value.as_object().cloned().unwrap_or_default(),
            known: Vec::new(),
            problem: None,
        }
    }

    /// The entry with these settings, unless there was a problem.
    pub(super) fn finish<T>(self, settings: Option<T>, incomplete: &str) -> ReadEntry<T> {
        let settings = match (self.problem, settings) {
            (None, Some(settings)) => Ok(settings),
            (problem, _) => Err(problem.unwrap_or_else(|| EntryProblem {
                key: None,
                message: incomplete.to_owned(),
            })),
        };
        ReadEntry {
            // Which keys an entry may have can depend on the value of one of them.
            unknown: match &settings {
                Ok(_) => self.fields.into_iter().map(|(key, _)| key).collect(),
                Err(_) => Vec::new(),
            },
            settings,
            known: self.known,
        }
    }

    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        if !self.fields.contains_key(key) {
            self.fail(None, format!("`{key}` is missing; it must be {expected}"));
        }
        self.optional(key, expected, read)
    }

    /// The value may be a secret, so it is not part of the message.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.fields.remove(key)?;
        let read = read(&value);
        if read.is_none() {
            self.fail(Some(key), format!("`{key}` must be {expected}"));
        }
        read
    }

    pub(super) fn fail(&mut self, key: Option<&'static str>, message: String) {
        self.problem.get_or_insert(EntryProblem { key, message });
    }
}
