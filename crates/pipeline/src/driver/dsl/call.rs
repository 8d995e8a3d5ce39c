//! A call of a function of `quire.ci`: checks and converts its arguments, and collects its problems.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use mlua::{MultiValue, Table, Value};

use super::super::arguments::{sorted_entries, variables};
use super::super::lua_api::LuaApi;
use crate::{Location, closest_match, parse_duration, shell_command};
use quire_types::text::excerpt_name;

/// The most problems that are recorded for all calls together.
const MAX_PROBLEMS: usize = 100;
/// The longest name that is recorded, in bytes. The check allows only shorter ones.
pub(super) const MAX_NAME: usize = 512;
/// The most calls of one function that are recorded. The check allows only fewer.
pub(super) const MAX_CALLS: usize = 200;
/// The longest word of a command, in bytes.
const MAX_WORD: usize = 16 << 10;
/// The most words of a command.
const MAX_WORDS: usize = 1_000;

const COMMAND_EXAMPLE: &str = "write it like [\"pg_isready\" \"-q\"], or as text for `sh -c`";

pub(super) struct RegistrationCall<'a> {
    pub(super) api: &'a LuaApi,
    arguments: &'a MultiValue,
    /// The location of its first character.
    pub(super) location: Location,
    /// Its last line.
    end: u32,
    problems: Vec<(Location, String, Option<String>)>,
}

impl<'a> RegistrationCall<'a> {
    pub(super) fn new(
        api: &'a LuaApi,
        arguments: &'a MultiValue,
        location: Location,
        end: u32,
    ) -> Self {
        Self {
            api,
            arguments,
            location,
            end,
            problems: Vec::new(),
        }
    }

    /// An argument, counted from 0.
    pub(super) fn argument(&self, at: usize) -> Option<&'a Value> {
        self.arguments.get(at)
    }

    pub(super) fn problem_at(&mut self, location: Location, message: String, hint: Option<String>) {
        self.problems.push((location, message, hint));
    }

    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.problems
            .push((self.location.clone(), message.into(), None));
    }

    pub(super) fn problem_with_hint(
        &mut self,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems
            .push((self.location.clone(), message.into(), Some(hint.into())));
    }

    /// Moves all problems but the first `before` to the location of an option.
    fn point_at_option(&mut self, before: usize, option: &str) {
        if self.problems.len() == before {
            return;
        }
        let Some(text) = self.api.sources.file_named(&self.location.file) else {
            return;
        };
        let end = text.end_of_form(self.end.max(self.location.line));
        if let Some((line, column)) = text.find_key(self.location.line, end, option) {
            self.problems[before..]
                .iter_mut()
                .for_each(|(location, ..)| (location.line, location.column) = (line, column));
        }
    }

    pub(super) fn record_problems(self) {
        let mut registration = self.api.registration.borrow_mut();
        for (location, message, hint) in self.problems {
            if registration.problems.len() < MAX_PROBLEMS {
                let mut diagnostic = self.api.sources.diagnostic(message, location);
                diagnostic.hint = hint;
                registration.problems.push(diagnostic);
            }
        }
    }

    /// Text of at most [`MAX_NAME`] bytes. `what` begins the message, `hint` shows an example.
    pub(super) fn text(&mut self, value: Option<&Value>, what: &str, hint: &str) -> Option<String> {
        self.text_up_to(MAX_NAME, value, what, hint)
    }

    fn text_up_to(
        &mut self,
        max: usize,
        value: Option<&Value>,
        what: &str,
        hint: &str,
    ) -> Option<String> {
        let Some(Value::String(text)) = value else {
            self.problem_with_hint(
                format!("{what} must be text, not {}", describe(value)),
                hint,
            );
            return None;
        };
        let Ok(text) = text.to_str() else {
            self.problem(format!("{what} is not valid UTF-8"));
            return None;
        };
        if text.len() > max {
            self.problem(format!("{what} is longer than {max} bytes"));
            return None;
        }
        Some(text.to_owned())
    }

    /// The options of `of`, by name. Each option that is not known is a problem.
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
                    "the options of {of} must be a table, not {}",
                    describe(value)
                ));
                return found;
            }
        };
        let entries = match sorted_entries(table, &format!("the table of options of {of}")) {
            Ok(entries) => entries,
            Err(problem) => {
                self.problem(problem);
                return found;
            }
        };
        for (key, value) in entries.into_iter().take(MAX_WORDS) {
            match key {
                Value::String(key) => {
                    found.insert(key.to_string_lossy(), value);
                }
                key => self.problem(format!(
                    "the options of {of} must have text as keys, not {}",
                    describe(Some(&key))
                )),
            }
        }
        let unknown: Vec<String> = found
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .cloned()
            .collect();
        for key in unknown {
            found.remove(&key);
            let (before, shown) = (self.problems.len(), excerpt_name(&key));
            let hint = closest_match(&key, known.iter().copied()).map_or_else(
                || option_list(known),
                |near| format!("did you mean :{near}?"),
            );
            self.problem_with_hint(format!("{of} has an unknown option :{shown}"), hint);
            self.point_at_option(before, &key);
        }
        found
    }

    /// The options of a call whose only argument is a table; `None` after a problem about another argument.
    pub(super) fn only_options(
        &mut self,
        of: &str,
        known: &[&str],
        hint: &str,
    ) -> Option<BTreeMap<String, Value>> {
        let value = self.argument(0);
        if !value.is_some_and(Value::is_table) {
            let message = format!(
                "the argument of {of} must be a table, not {}",
                describe(value)
            );
            self.problem_with_hint(message, hint);
            return None;
        }
        Some(self.options(of, value, known))
    }

    /// Reads one of the options. Its problems are located at the option.
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
            self.problem_with_hint(
                format!("{what} must be a duration, not {}", describe(Some(value))),
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

    pub(super) fn flag(&mut self, what: &str, value: &Value) -> Option<bool> {
        if !value.is_boolean() {
            self.problem(format!(
                "{what} must be true or false, not {}",
                describe(Some(value))
            ));
        }
        value.as_boolean()
    }

    /// A whole number within a range.
    pub(super) fn number(
        &mut self,
        what: &str,
        value: &Value,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = match value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(format!(
                "{what} must be a whole number from {} to {}, not {}",
                range.start(),
                range.end(),
                describe(Some(value))
            ));
        }
        number
    }

    /// Variables, each name once, sorted by name.
    pub(super) fn variables(&mut self, what: &str, value: &Value) -> Option<Vec<(String, String)>> {
        variables(value)
            .map_err(|message| self.problem(format!("{what}: {message}")))
            .ok()
    }

    /// A command: a list is a program and its arguments, text is run by `sh -c`.
    pub(super) fn command(&mut self, what: &str, value: &Value) -> Option<Vec<String>> {
        let command = match value {
            Value::String(_) => self
                .text_up_to(MAX_WORD, Some(value), what, COMMAND_EXAMPLE)
                .map(|text| shell_command(text, true)),
            Value::Table(table) if is_list(table) => {
                let words = table.sequence_values::<Value>().flatten();
                words
                    .map(|word| {
                        self.text_up_to(
                            MAX_WORD,
                            Some(&word),
                            &format!("each part of {what}"),
                            COMMAND_EXAMPLE,
                        )
                    })
                    .collect()
            }
            _ => {
                self.problem_with_hint(
                    format!("{what} must be a command, not {}", describe(Some(value))),
                    COMMAND_EXAMPLE,
                );
                return None;
            }
        };
        let command: Vec<String> = command?;
        if command.last().is_some_and(|word| word.trim().is_empty())
            || command.iter().any(|word| word.contains('\0'))
        {
            self.problem(format!("{what} is empty or contains a NUL byte"));
            return None;
        }
        Some(command)
    }
}

/// Whether a table is a list with at least one item.
fn is_list(table: &Table) -> bool {
    (1..=MAX_WORDS).contains(&table.raw_len())
}

/// The hint that lists the known options.
fn option_list(known: &[&str]) -> String {
    let names: Vec<String> = known.iter().map(|name| format!(":{name}")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("the options are {} and {last}", rest.join(", "))
        }
        _ => format!("the only option is {}", names.concat()),
    }
}

/// Describes a value for a message.
pub(super) fn describe(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Nil) => "nil".to_owned(),
        Some(Value::Integer(number)) => format!("the number {number}"),
        Some(Value::Number(number)) => format!("the number {number}"),
        Some(Value::Boolean(value)) => format!("`{value}`"),
        Some(Value::String(text)) => {
            format!("the text `{}`", excerpt_name(&text.to_string_lossy()))
        }
        Some(other) => format!("a {}", other.type_name()),
    }
}
