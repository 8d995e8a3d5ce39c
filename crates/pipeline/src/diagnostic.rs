//! A problem in a pipeline's or configuration's file, as it is shown to its author.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest source line that a diagnostic quotes, in characters.
pub const MAX_QUOTED: usize = 400;

/// A location in a pipeline's or configuration's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Path within the commit, such as `.quire/ci.fnl`.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters. 1 if only the line is known.
    pub column: u32,
}

impl Location {
    /// Whether it is in a Lua file.
    #[must_use]
    pub fn is_in_lua(&self) -> bool {
        self.file.ends_with(".lua")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The longest message and hint, in characters.
const MAX_MESSAGE: usize = 2_000;

/// A problem, for the author of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What is wrong, naming the job if there is one.
    pub message: String,
    #[serde(rename = "place")]
    pub location: Option<Location>,
    /// The text of the line.
    pub source_line: Option<String>,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Diagnostic {
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem with its hint, for one line.
    #[must_use]
    pub fn one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{self} ({hint})"),
            None => self.to_string(),
        }
    }

    /// Limits the length of all texts and replaces their control characters. A driver can report
    /// texts of any length.
    #[must_use]
    pub fn truncated(mut self) -> Self {
        self.message = sanitize_message(&self.message);
        self.hint = self.hint.as_deref().map(sanitize_message);
        self.source_line = self
            .source_line
            .map(|line| line.chars().take(MAX_QUOTED).map(printable).collect());
        self
    }
}

/// Replaces a control character other than a line end or tab.
pub(super) fn printable(c: char) -> char {
    if c.is_control() && !matches!(c, '\n' | '\t') {
        '\u{fffd}'
    } else {
        c
    }
}

/// Limits the length of an untrusted text and replaces its control characters.
#[must_use]
pub fn sanitize_message(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_MESSAGE).map(printable).collect();
    if text.chars().nth(MAX_MESSAGE).is_some() {
        short.push('…');
    }
    short
}

impl fmt::Display for Diagnostic {
    /// One line such as `.quire/ci.fnl:3:9: job …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}
