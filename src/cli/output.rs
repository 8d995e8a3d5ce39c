//! The output of commands: aligned tables and relative times on a terminal, JSON for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::args::OutputArgs;
use super::error::CommandError;
use quire_types::clock::{Clock, Millis};
use quire_types::run::RunState;
use quire_types::text::format_elapsed;

/// Where and how a command prints.
pub(super) struct Output<'a> {
    writer: &'a mut dyn Write,
    /// Times are relative to now, as on a terminal.
    relative_times: bool,
    colour: bool,
    /// Print one JSON document instead of text.
    pub(super) json: bool,
    now: Millis,
}

/// One field of a table.
pub(super) struct Cell {
    text: String,
    colour: Option<u8>,
}

impl Cell {
    pub(super) fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// The text, fit for one line of a terminal.
    pub(super) fn plain(self) -> String {
        self.text
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self {
            text: quire_types::text::single_line(text),
            colour: None,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<RunState> for Cell {
    fn from(state: RunState) -> Self {
        let colour = match state {
            RunState::Pending => 33,
            RunState::Active => 36,
            RunState::Complete => 32,
            RunState::Failed => 31,
            RunState::Canceled | RunState::Superseded => 90,
        };
        Self {
            text: state.to_string(),
            colour: Some(colour),
        }
    }
}

impl<'a> Output<'a> {
    /// Prints to standard output; with colours if it is a terminal and `NO_COLOR` is not set.
    pub(super) fn standard(
        stdout: &'a mut io::Stdout,
        OutputArgs { json, utc }: OutputArgs,
    ) -> Self {
        let terminal = stdout.is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            relative_times: terminal && !utc,
            colour: terminal && !plain,
            json,
            now: Clock::system().now(),
            writer: stdout,
        }
    }

    #[cfg(test)]
    pub(super) fn test(writer: &'a mut dyn Write, json: bool, now: Millis) -> Self {
        Self {
            writer,
            relative_times: false,
            colour: false,
            json,
            now,
        }
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), CommandError> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.writer.write_all(bytes)?;
        Ok(self.writer.flush()?)
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(value).map_err(|error| {
            CommandError::failed(format!(
                "internal error: the result cannot be written as JSON: {error}"
            ))
        })?;
        // JSON allows some control characters in strings; a terminal would act on them.
        let safe = |text: &str| {
            text.chars()
                .fold(String::with_capacity(text.len() + 16), |mut safe, c| {
                    if c.is_control() {
                        safe += &format!("\\u{:04x}", u32::from(c))
                    } else {
                        safe.push(c)
                    }
                    safe
                })
        };
        self.line(&if text.contains(char::is_control) {
            safe(&text)
        } else {
            text
        })
    }

    /// Prints rows under headings, each column as wide as its widest cell.
    pub(super) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[Cell; N]],
    ) -> Result<(), CommandError> {
        let width = |at: usize| {
            rows.iter()
                .map(|row| row[at].text.chars().count())
                .chain([headings[at].len()])
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let headings = headings.map(Cell::from);
        for row in std::iter::once(&headings).chain(rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let padding = " ".repeat(width - cell.text.chars().count() + 2);
                match cell.colour.filter(|_| self.colour) {
                    Some(colour) => {
                        line += &format!("\u{1b}[{colour}m{}\u{1b}[0m{padding}", cell.text)
                    }
                    None => line += &(cell.text.clone() + &padding),
                }
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Prints names with their values, one a line.
    pub(super) fn facts(&mut self, facts: Vec<[Cell; 2]>) -> Result<(), CommandError> {
        let width = facts
            .iter()
            .map(|[name, _]| name.width())
            .max()
            .unwrap_or(0);
        facts.into_iter().try_for_each(|[name, value]| {
            self.line(&format!("{:<width$}  {}", name.plain(), value.plain()))
        })
    }

    /// A time: relative to now on a terminal, RFC 3339 elsewhere.
    pub(super) fn time(&self, at: Option<Millis>) -> String {
        match at {
            None => "-".to_owned(),
            Some(at) if self.relative_times => {
                format!("{} ago", format_elapsed(self.now.since(at)))
            }
            Some(at) => at.to_string(),
        }
    }

    /// A time in the future: relative to now on a terminal, RFC 3339 elsewhere.
    pub(super) fn remaining(&self, until: Millis) -> String {
        match self.relative_times {
            true => format!("in {}", format_elapsed(until.since(self.now))),
            false => until.to_string(),
        }
    }

    /// The time from `start` to `end`, or to now if there is no end yet.
    pub(super) fn elapsed(&self, start: Option<Millis>, end: Option<Millis>) -> String {
        start.map_or_else(
            || "-".to_owned(),
            |start| format_elapsed(end.unwrap_or(self.now).since(start)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(terminal: bool) -> String {
        let mut text = Vec::new();
        let mut out = Output::test(&mut text, false, Millis(3_700_000));
        (out.relative_times, out.colour) = (terminal, terminal);
        let (when, took) = (
            out.time(Some(Millis(100_000))),
            out.elapsed(Some(Millis(3_699_500)), None),
        );
        let rows = [
            [Cell::from("ü\u{1b}x"), RunState::Failed.into(), when.into()],
            ["long name".into(), "-".into(), took.into()],
        ];
        out.table(["A", "STATE", "WHEN"], &rows).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn tables_are_aligned_and_plain_unless_a_person_reads() {
        assert_eq!(
            printed(false),
            "A          STATE   WHEN\nü x        failed  1970-01-01T00:01:40.000Z\nlong name  -       500 ms\n"
        );
        assert_eq!(
            printed(true),
            "A          STATE   WHEN\nü x        \u{1b}[31mfailed\u{1b}[0m  1 h 0 min ago\nlong name  -       500 ms\n"
        );
    }
}
