//! The job graph that a pipeline file registers, and the checks that make it one.
//!
//! The driver reports what was registered as a [`Registration`]: plain data from a process that
//! ran foreign code, so nothing in it is believed. [`Pipeline::check`] is the only way to a
//! [`Pipeline`], which exists only when valid. A [`Schedule`] then says which job may run when.
//! No I/O, no Lua, no clock.

mod check;
mod duration;
mod schedule;
mod text;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::JobName;

pub use check::{MAX_EDGES, MAX_INPUTS, MAX_JOBS};
pub use duration::{DurationError, format_duration, parse_duration};
pub use schedule::{Schedule, ScheduleError, Verdict};
pub use text::PipelineText;

/// The language of a pipeline or configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// `.quire/ci.fnl`.
    Fennel,
    /// `.quire/ci.lua`.
    Lua,
}

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

impl Diagnostic {
    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
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
    /// What `ci.env` set, in order; a later value of a name takes the place of an earlier one.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Each `ci.timeout`, in milliseconds, in order.
    #[serde(default)]
    pub timeouts: Vec<(u64, Place)>,
    /// Calls that were wrong in themselves, such as a job without a function.
    #[serde(default)]
    pub problems: Vec<Diagnostic>,
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

/// What starts a run; sources live under `quire/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A push moved a branch or tag.
    Push,
    /// A person started it.
    Manual,
}

impl Source {
    /// All there are.
    pub const ALL: &'static [Self] = &[Self::Push, Self::Manual];

    /// The name that a job's inputs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "quire/push",
            Self::Manual => "quire/manual",
        }
    }

    /// The source of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|source| source.as_str() == name)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// A source: there from the start, where the run has it.
    Source(Source),
    /// Another job.
    Job(JobName),
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(f),
            Self::Job(job) => job.fmt(f),
        }
    }
}

/// A job of a checked pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobName,
    /// What it waits for, in the order written, each once.
    pub inputs: Vec<Input>,
    /// Its options.
    pub options: JobOptions,
    /// Where it was registered.
    pub place: Place,
}

/// Which image a pipeline asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineImage {
    /// The one named by `ci.image`.
    Reference(String),
    /// The one built from `.quire/Dockerfile`.
    Dockerfile,
    /// None: the configured default.
    Default,
}

/// A valid job graph. Only [`Pipeline::check`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    jobs: Vec<Job>,
    index: HashMap<JobName, usize>,
    image: PipelineImage,
    env: Vec<(String, String)>,
    timeout_ms: Option<u64>,
}

impl Pipeline {
    /// Checks what was registered. Every problem is found in one pass, in the order of the file.
    ///
    /// # Errors
    /// All that is wrong; never an empty list.
    pub fn check(registration: Registration, source: &PipelineText, has_dockerfile: bool) -> Result<Self, Vec<Diagnostic>> {
        check::check(registration, source, has_dockerfile)
    }

    /// The jobs, in the order of registration.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// One job.
    #[must_use]
    pub fn job(&self, id: &JobName) -> Option<&Job> {
        self.index.get(id).map(|at| &self.jobs[*at])
    }

    /// The image it asks for.
    #[must_use]
    pub fn image(&self) -> &PipelineImage {
        &self.image
    }

    /// Variables for the whole run, each name once.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// How long a whole run may take.
    #[must_use]
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    /// The sources that some job names.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let named = |source: &&Source| self.jobs.iter().any(|job| job.inputs.contains(&Input::Source(**source)));
        Source::ALL.iter().filter(named).copied().collect()
    }

    /// Everything that `job` may ask for with `(jobs name)`: all jobs and sources it descends from,
    /// in the order of registration, sources first.
    #[must_use]
    pub fn ancestors(&self, job: &JobName) -> Vec<Input> {
        let mut seen: HashSet<&Input> = HashSet::new();
        let mut open: Vec<&JobName> = vec![job];
        while let Some(inputs) = open.pop().and_then(|id| self.job(id)).map(|job| &job.inputs) {
            for input in inputs {
                if seen.insert(input)
                    && let Input::Job(id) = input
                {
                    open.push(id);
                }
            }
        }
        let sources = Source::ALL.iter().copied().map(Input::Source);
        sources.chain(self.jobs.iter().map(|job| Input::Job(job.id.clone()))).filter(|input| seen.contains(input)).collect()
    }
}

/// The candidate nearest to a mistyped name, where one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 256 {
        return None;
    }
    let length = name.chars().count();
    // A third of it mistyped is still the same word, but not all of it.
    let allowed = (length / 3).max(1).min(length.saturating_sub(1));
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(distance, likeness, _)| *distance <= allowed || *likeness >= 0.85)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, candidate)| candidate)
}
