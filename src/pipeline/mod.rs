//! The job graph that a pipeline file registers, and the checks that make it one.
//!
//! The driver reports what was registered as a [`Registration`]: plain data from a process that
//! ran foreign code, so nothing in it is believed. [`Pipeline::check`] is the only way to a
//! [`Pipeline`], which exists only when valid. No I/O, no Lua.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a pipeline or configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, as a path within the commit: `.quire/ci.fnl`.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters; 1 where only the line is known.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong with a pipeline, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What is wrong, in one sentence, naming the job.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// The text of that line.
    pub source_line: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// One line: `.quire/ci.fnl:3:9: job …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What a pipeline file registered, as the driver reports it: not yet checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Each `ci.job`, in order.
    pub jobs: Vec<JobRegistration>,
    /// Each `ci.image`, in order.
    pub images: Vec<(String, Place)>,
}

/// One `ci.job` as registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRegistration {
    /// The id.
    pub id: String,
    /// The inputs.
    pub inputs: Vec<String>,
    /// The options.
    #[serde(default)]
    pub options: JobOptions,
    /// Where it was registered.
    pub place: Place,
}

/// Options of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// How long its function may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether the run and its dependents go on when it fails.
    #[serde(default)]
    pub allow_failure: bool,
    /// How often a failed job is tried again.
    #[serde(default)]
    pub retry: u32,
}
