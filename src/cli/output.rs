//! What commands print: aligned tables and times for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::report::Failure;
use crate::clock::{Clock, Millis};
use crate::run::RunState;

/// Where a command prints to, and how.
pub(super) struct Out<'a> {
    writer: &'a mut dyn Write,
    /// A person reads along: relative times.
    terminal: bool,
    /// Colours as well.
    colour: bool,
    /// Nothing but JSON.
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
            text: text
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
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
            RunState::Superseded => 90,
        };
        Self {
            text: state.to_string(),
            colour: Some(colour),
        }
    }
}

impl<'a> Out<'a> {
    /// To standard output, as its kind wants it.
    pub(super) fn standard(stdout: &'a mut io::Stdout, json: bool) -> Self {
        let terminal = stdout.is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            terminal,
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
            terminal: false,
            colour: false,
            json,
            now,
        }
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes)?;
        Ok(self.writer.flush()?)
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::failed(format!("the answer is no JSON: {error}")))?;
        // JSON allows these in its strings as they are; a terminal acts on them.
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

    /// Prints rows under headings; columns as wide as their widest field, the last one as it is.
    pub(super) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[Cell; N]],
    ) -> Result<(), Failure> {
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

    /// A point in time: how long ago on a terminal, RFC 3339 elsewhere.
    pub(super) fn when(&self, at: Option<Millis>) -> String {
        match at {
            None => "-".to_owned(),
            Some(at) if self.terminal => format!("{} ago", span(self.now.since(at))),
            Some(at) => at.to_string(),
        }
    }

    /// How long something took, or has taken until now.
    pub(super) fn took(&self, start: Option<Millis>, end: Option<Millis>) -> String {
        start.map_or_else(
            || "-".to_owned(),
            |start| span(end.unwrap_or(self.now).since(start)),
        )
    }
}

/// A span of time in its one or two largest units.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(terminal: bool) -> String {
        let mut text = Vec::new();
        let mut out = Out::test(&mut text, false, Millis(3_700_000));
        (out.terminal, out.colour) = (terminal, terminal);
        let (when, took) = (
            out.when(Some(Millis(100_000))),
            out.took(Some(Millis(3_699_500)), None),
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

    #[test]
    fn spans() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (200_000_000, "2 d"),
        ] {
            assert_eq!(span(millis), text);
        }
    }
}
