//! The job graph that a pipeline file registers, and the checks that make it one.
//!
//! The driver reports what was registered as a [`Registration`]: plain data from a process that
//! ran foreign code, so nothing in it is believed. [`Pipeline::check`] is the only way to a
//! [`Pipeline`], which exists only when valid. A [`Schedule`] then says which job may run when.
//! No I/O, no Lua, no clock.

mod check;
mod cron;
mod duration;
mod schedule;
mod text;
mod units;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::JobName;

pub use check::{MAX_EDGES, MAX_INPUTS, MAX_JOBS, WORKSPACE};
pub use cron::{CronError, CronSchedule};
pub use duration::{DurationError, format_duration, parse_duration};
pub use schedule::{Schedule, ScheduleError, Verdict};
pub use text::{MAX_QUOTED, PipelineText};
pub use units::{format_cpus, format_size, parse_cpus, parse_size};

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

/// The most of what is wrong, in characters.
const MAX_SENTENCE: usize = 2_000;

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

    /// The same, no longer than a person reads. What a driver says can be of any length.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.message = sentence(&self.message);
        self.hint = self.hint.as_deref().map(sentence);
        self.source_line = self
            .source_line
            .map(|line| line.chars().take(MAX_QUOTED).map(printable).collect());
        self
    }
}

fn printable(c: char) -> char {
    if c.is_control() && !matches!(c, '\n' | '\t') {
        '\u{fffd}'
    } else {
        c
    }
}

/// Words out of foreign hands: printable, and not longer than a person reads.
#[must_use]
pub fn sentence(words: &str) -> String {
    let mut sentence: String = words.chars().take(MAX_SENTENCE).map(printable).collect();
    if words.chars().nth(MAX_SENTENCE).is_some() {
        sentence.push('…');
    }
    sentence
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
    /// Each `ci.cache`, in order.
    #[serde(default)]
    pub caches: Vec<(Cache, Place)>,
    /// Each `ci.service`, in order.
    #[serde(default)]
    pub services: Vec<(Service, Place)>,
    /// Each `ci.group`, in order.
    #[serde(default)]
    pub groups: Vec<(Group, Place)>,
    /// Each `ci.network`, in order.
    #[serde(default)]
    pub networks: Vec<(bool, Place)>,
    /// Each `ci.resources`, in order.
    #[serde(default)]
    pub resources: Vec<(Resources, Place)>,
    /// Each `ci.cron`, in order.
    #[serde(default)]
    pub crons: Vec<(Cron, Place)>,
    /// Calls that were wrong in themselves, such as a job without a function.
    #[serde(default)]
    pub problems: Vec<Diagnostic>,
}

/// A volume that is kept between the runs of a repository: `(ci.cache name path)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Its name, unique in the repository.
    pub name: String,
    /// Where it is mounted: an absolute path, or one within the workspace.
    pub path: String,
}

/// A container beside the run's: `(ci.service name options)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, by which the run reaches it.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Its variables, each name once.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The command that replaces the image's own; none to keep it.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The command that succeeds in it once it is ready; without one it is ready when it runs.
    #[serde(default)]
    pub ready: Option<Vec<String>>,
    /// How long it may take to be ready, in milliseconds.
    pub ready_within_ms: u64,
}

/// Runs that do not go on side by side: `(ci.group name options)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, within the repository.
    pub name: String,
    /// Whether a newer run takes the place of older ones of the group; otherwise each waits for
    /// those before it, and none is superseded.
    pub supersede: bool,
}

/// What a run asks for of the machine: `(ci.resources options)`. Never more than the owner allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory in bytes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// CPUs in thousandths.
    #[serde(default)]
    pub milli_cpus: Option<u64>,
    /// Processes.
    #[serde(default)]
    pub pids: Option<u32>,
}

/// A schedule that starts runs: `(ci.cron name schedule)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    /// Its name: [`Source::Cron`].
    pub name: String,
    /// The five fields of a crontab line, such as `0 3 * * *`.
    pub schedule: String,
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
    /// Variables of its commands, each name once; before those of the run.
    #[serde(default)]
    pub env: Vec<(String, String)>,
}

/// What starts a run; sources live under `quire/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A push moved a branch or tag.
    Push,
    /// A person started it.
    Manual,
    /// The schedule of this name came due.
    Cron(JobName),
}

/// What stands before a schedule's name in that of its source.
pub const CRON_SOURCE: &str = "quire/cron/";

impl Source {
    /// Those that every pipeline has.
    pub const BUILT_IN: [Self; 2] = [Self::Push, Self::Manual];

    /// The source of that name: `quire/push`, `quire/manual` or `quire/cron/NAME`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "quire/push" => Some(Self::Push),
            "quire/manual" => Some(Self::Manual),
            other => other
                .strip_prefix(CRON_SOURCE)?
                .parse()
                .ok()
                .map(Self::Cron),
        }
    }
}

impl fmt::Display for Source {
    /// The name that a job's inputs use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push => f.pad("quire/push"),
            Self::Manual => f.pad("quire/manual"),
            Self::Cron(name) => f.pad(&format!("{CRON_SOURCE}{name}")),
        }
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

impl Input {
    /// The source, where it is one.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Source(source) => Some(source),
            Self::Job(_) => None,
        }
    }
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
    caches: Vec<Cache>,
    services: Vec<Service>,
    group: Option<Group>,
    network: Option<bool>,
    resources: Resources,
    crons: Vec<Cron>,
}

impl Pipeline {
    /// Checks what was registered. Every problem is found in one pass, in the order of the file.
    ///
    /// # Errors
    /// All that is wrong; never an empty list.
    pub fn check(
        registration: Registration,
        source: &PipelineText,
        has_dockerfile: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        Self::check_among(registration, std::slice::from_ref(source), has_dockerfile)
    }

    /// The same where the pipeline has helpers that may register something too: all its files, its own first.
    ///
    /// # Errors
    /// As [`Pipeline::check`].
    pub fn check_among(
        registration: Registration,
        sources: &[PipelineText],
        has_dockerfile: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        check::check(registration, sources, has_dockerfile)
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

    /// The volumes that are kept between runs.
    #[must_use]
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    /// The containers beside the run's.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The group that its runs are of.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Whether its run has a network; none where it does not say.
    #[must_use]
    pub fn network(&self) -> Option<bool> {
        self.network
    }

    /// What it asks for of the machine.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Its schedules.
    #[must_use]
    pub fn crons(&self) -> &[Cron] {
        &self.crons
    }

    /// The sources that some job names.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let named: HashSet<&Source> = self
            .jobs
            .iter()
            .flat_map(|job| &job.inputs)
            .filter_map(Input::source)
            .collect();
        self.all_sources()
            .filter(|source| named.contains(source))
            .collect()
    }

    /// Every source that a job may name, in their usual order.
    fn all_sources(&self) -> impl Iterator<Item = Source> + '_ {
        Source::BUILT_IN.into_iter().chain(
            self.crons
                .iter()
                .filter_map(|cron| cron.name.parse().ok().map(Source::Cron)),
        )
    }

    /// Everything that `job` may ask for with `(jobs name)`: all jobs and sources it descends from,
    /// in the order of registration, sources first.
    #[must_use]
    pub fn ancestors(&self, job: &JobName) -> Vec<Input> {
        let mut seen: HashSet<&Input> = HashSet::new();
        let mut open: Vec<&JobName> = vec![job];
        while let Some(inputs) = open
            .pop()
            .and_then(|id| self.job(id))
            .map(|job| &job.inputs)
        {
            for input in inputs {
                if seen.insert(input)
                    && let Input::Job(id) = input
                {
                    open.push(id);
                }
            }
        }
        let sources = self.all_sources().map(Input::Source);
        sources
            .chain(self.jobs.iter().map(|job| Input::Job(job.id.clone())))
            .filter(|input| seen.contains(input))
            .collect()
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
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(name, candidate),
                strsim::jaro_winkler(name, candidate),
                candidate,
            )
        })
        .filter(|(distance, likeness, _)| *distance <= allowed || *likeness >= 0.85)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, candidate)| candidate)
}
