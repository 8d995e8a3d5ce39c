//! What a job waits for: sources, which start runs, and other jobs.

use std::fmt;

use quire_types::names::JobName;

/// What starts a run. The names of sources begin with `quire/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A push moved a branch or tag.
    Push,
    /// A user started it.
    Manual,
    /// The schedule of this name was due.
    Cron(JobName),
    /// A request to the incoming webhook of this name.
    Hook(JobName),
}

/// The prefix of the source of a schedule. The name of the schedule follows.
pub const CRON_SOURCE: &str = "quire/cron/";

/// The prefix of the source of an incoming webhook. Its name in the owner's configuration follows.
pub const HOOK_SOURCE: &str = "quire/hook/";

impl Source {
    /// The sources that every pipeline has.
    pub const BUILT_IN: [Self; 2] = [Self::Push, Self::Manual];

    /// Parses `quire/push`, `quire/manual`, `quire/cron/NAME` or `quire/hook/NAME`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "quire/push" => Some(Self::Push),
            "quire/manual" => Some(Self::Manual),
            other => match other.strip_prefix(HOOK_SOURCE) {
                Some(name) => name.parse().ok().map(Self::Hook),
                None => other
                    .strip_prefix(CRON_SOURCE)?
                    .parse()
                    .ok()
                    .map(Self::Cron),
            },
        }
    }
}

impl fmt::Display for Source {
    /// The name that the inputs of a job use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push => f.pad("quire/push"),
            Self::Manual => f.pad("quire/manual"),
            Self::Cron(name) => f.pad(&format!("{CRON_SOURCE}{name}")),
            Self::Hook(name) => f.pad(&format!("{HOOK_SOURCE}{name}")),
        }
    }
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// It is available from the start of a run that this source started.
    Source(Source),
    Job(JobName),
}

impl Input {
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
