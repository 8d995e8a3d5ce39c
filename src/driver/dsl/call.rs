//! One registering call: its arguments as checked plain data, and what is wrong with them.

use std::collections::BTreeMap;

use mlua::{MultiValue, Table, Value};

use super::super::arguments::{excerpt, variables};
use super::super::host::Host;
use crate::pipeline::{Place, nearest, parse_duration};

/// The most problems that are noted.
const MAX_PROBLEMS: usize = 100;
/// The longest name that is kept as it is; a longer one is refused here.
pub(super) const MAX_NAME: usize = 512;
/// The most calls of a form that are kept; fewer are allowed, and the check says so.
pub(super) const MAX_KEPT: usize = 200;
/// The longest word of a command.
const MAX_WORD: usize = 16 << 10;
/// The most words of a command.
const MAX_WORDS: usize = 1_000;

/// How a command is written.
const COMMAND: &str = "write it like [\"pg_isready\" \"-q\"], or as text for `sh -c`";

/// A call while it is read.
pub(super) struct Call<'a> {
    /// Where the registration is kept.
    pub(super) host: &'a Host,
    arguments: &'a MultiValue,
    /// Where it begins.
    pub(super) place: Place,
    end: u32,
    problems: Vec<(Place, String, Option<String>)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(host: &'a Host, arguments: &'a MultiValue, place: Place, end: u32) -> Self {
        Self {
            host,
            arguments,
            place,
            end,
            problems: Vec::new(),
        }
    }

    /// An argument, from 0.
    pub(super) fn argument(&self, at: usize) -> Option<&'a Value> {
        self.arguments.get(at)
    }

    /// Something is wrong with the call.
    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.problems
            .push((self.place.clone(), message.into(), None));
    }

    /// The same, with advice.
    pub(super) fn advise(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.problems
            .push((self.place.clone(), message.into(), Some(hint.into())));
    }

    /// The problems noted since there were `before` of them are those of an option: they point at it.
    fn point_at_option(&mut self, before: usize, option: &str) {
        if self.problems.len() == before {
            return;
        }
        let Some(text) = self.host.sources.named(&self.place.file) else {
            return;
        };
        let end = text.end_of_form(self.end.max(self.place.line));
        if let Some((line, column)) = text.find_key(self.place.line, end, option) {
            self.problems[before..]
                .iter_mut()
                .for_each(|(place, ..)| (place.line, place.column) = (line, column));
        }
    }

    /// Hands over what is wrong.
    pub(super) fn note(self) {
        let mut registration = self.host.registration.borrow_mut();
        for (place, message, hint) in self.problems {
            if registration.problems.len() < MAX_PROBLEMS {
                let mut diagnostic = self.host.sources.diagnostic(message, place);
                diagnostic.hint = hint;
                registration.problems.push(diagnostic);
            }
        }
    }

    /// Text as long as a name can be. `what` begins a sentence, `form` shows how it is written.
    pub(super) fn text(&mut self, value: Option<&Value>, what: &str, form: &str) -> Option<String> {
        self.text_up_to(MAX_NAME, value, what, form)
    }

    fn text_up_to(
        &mut self,
        most: usize,
        value: Option<&Value>,
        what: &str,
        form: &str,
    ) -> Option<String> {
        let Some(Value::String(text)) = value else {
            self.advise(format!("{what} is text, not {}", kind(value)), form);
            return None;
        };
        let Ok(text) = text.to_str() else {
            self.problem(format!("{what} is not valid UTF-8"));
            return None;
        };
        if text.len() > most {
            self.problem(format!("{what} is longer than any can be"));
            return None;
        }
        Some(text.to_owned())
    }

    /// The options of `of`, by name; what it does not know is a problem each.
    pub(super) fn options(
        &mut self,
        of: &str,
        value: Option<&Value>,
        known: &[&str],
    ) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        let table = match value {
            None | Some(Value::Nil) => return found,
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.problem(format!(
                    "the options of {of} are a table, not {}",
                    kind(value)
                ));
                return found;
            }
        };
        for pair in table.pairs::<Value, Value>().take(MAX_WORDS) {
            match pair {
                Ok((Value::String(key), value)) => {
                    found.insert(key.to_string_lossy(), value);
                }
                Ok((key, _)) => self.problem(format!(
                    "the options of {of} have a key that is {}",
                    kind(Some(&key))
                )),
                Err(_) => self.problem(format!("the options of {of} cannot be read")),
            }
        }
        let unknown: Vec<String> = found
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .cloned()
            .collect();
        for key in unknown {
            found.remove(&key);
            let (before, shown) = (self.problems.len(), excerpt(&key));
            let hint = nearest(&key, known.iter().copied())
                .map_or_else(|| listed(known), |near| format!("did you mean :{near}?"));
            self.advise(format!("{of} has an unknown option :{shown}"), hint);
            self.point_at_option(before, &key);
        }
        found
    }

    /// Reads one of the options; what is wrong with it points at it.
    pub(super) fn option<T>(
        &mut self,
        options: &BTreeMap<String, Value>,
        of: &str,
        name: &str,
        read: impl FnOnce(&mut Self, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        let value = options.get(name)?;
        let before = self.problems.len();
        let read = read(self, &format!("the :{name} of {of}"), value);
        self.point_at_option(before, name);
        read
    }

    /// A duration, in milliseconds.
    pub(super) fn duration(&mut self, what: &str, value: &Value) -> Option<u64> {
        let Value::String(text) = value else {
            self.advise(
                format!("{what} is {}", kind(Some(value))),
                "write it like \"10m\"",
            );
            return None;
        };
        match parse_duration(&text.to_string_lossy()) {
            Ok(millis) => Some(millis),
            Err(error) => {
                self.problem(format!("{what}: {error}"));
                None
            }
        }
    }

    /// True or false.
    pub(super) fn flag(&mut self, what: &str, value: &Value) -> Option<bool> {
        if !value.is_boolean() {
            self.problem(format!(
                "{what} is {}, not true or false",
                kind(Some(value))
            ));
        }
        value.as_boolean()
    }

    /// A whole number between two others.
    pub(super) fn number(
        &mut self,
        what: &str,
        value: &Value,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let number = match value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.problem(format!(
                "{what} is not a whole number from {least} to {most}"
            ));
        }
        number
    }

    /// Variables, each name once, in the order of their names.
    pub(super) fn variables(&mut self, what: &str, value: &Value) -> Option<Vec<(String, String)>> {
        variables(value)
            .map_err(|message| self.problem(format!("{what}: {message}")))
            .ok()
    }

    /// A command: a sequence as it is, text by `sh -c`.
    pub(super) fn command(&mut self, what: &str, value: &Value) -> Option<Vec<String>> {
        let command = match value {
            Value::String(_) => self
                .text_up_to(MAX_WORD, Some(value), what, COMMAND)
                .map(|line| vec!["sh".to_owned(), "-c".to_owned(), line]),
            Value::Table(table) if is_sequence(table) => {
                let words = table.sequence_values::<Value>().flatten();
                words
                    .map(|word| {
                        self.text_up_to(
                            MAX_WORD,
                            Some(&word),
                            &format!("each part of {what}"),
                            COMMAND,
                        )
                    })
                    .collect()
            }
            _ => {
                self.advise(format!("{what} is {}", kind(Some(value))), COMMAND);
                return None;
            }
        };
        let command: Vec<String> = command?;
        if command.last().is_some_and(|word| word.trim().is_empty())
            || command.iter().any(|word| word.contains('\0'))
        {
            self.problem(format!("{what} is empty or holds a NUL byte"));
            return None;
        }
        Some(command)
    }
}

/// Whether a table is a list that is not empty.
pub(super) fn is_sequence(table: &Table) -> bool {
    (1..=MAX_WORDS).contains(&table.raw_len())
}

/// The options that there are.
fn listed(known: &[&str]) -> String {
    let names: Vec<String> = known.iter().map(|name| format!(":{name}")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("there are {} and {last}", rest.join(", "))
        }
        _ => format!("there is {}", names.concat()),
    }
}

/// What a value is, in words.
pub(super) fn kind(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Nil) => "missing (nil)".to_owned(),
        Some(Value::Integer(number)) => format!("the number {number}"),
        Some(Value::Number(number)) => format!("the number {number}"),
        Some(Value::Boolean(value)) => format!("`{value}`"),
        Some(Value::String(text)) => format!("the text `{}`", excerpt(&text.to_string_lossy())),
        Some(other) => format!("a {}", other.type_name()),
    }
}
