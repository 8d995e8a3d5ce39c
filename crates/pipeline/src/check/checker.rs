//! The problems that the checks have found so far, and what they are found in.

use crate::diagnostic::{Diagnostic, Location};
use crate::registration::{Cron, JobRegistration};
use crate::source::CRON_SOURCE;
use crate::source_file::SourceFile;

/// The most problems that are reported.
pub(super) const MAX_PROBLEMS: usize = 100;
/// The longest name that a message quotes, in characters.
const MAX_QUOTED_NAME: usize = 60;

pub(super) struct Checker<'a> {
    /// The pipeline's files, its own first.
    pub(super) sources: &'a [SourceFile],
    pub(super) jobs: &'a [JobRegistration],
    pub(super) crons: &'a [(Cron, Location)],
    pub(super) problems: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    pub(super) fn problem(
        &mut self,
        message: impl Into<String>,
        location: &Location,
        hint: Option<String>,
    ) {
        let location = location.clone();
        let diagnostic = match self.file(&location) {
            Some(source) => source.diagnostic_at(message, location),
            None => SourceFile::default().diagnostic_at(message, location),
        };
        self.problems.push(Diagnostic { hint, ..diagnostic });
    }

    /// Reports a problem with a hint.
    pub(super) fn problem_with_hint(
        &mut self,
        message: impl Into<String>,
        location: &Location,
        hint: impl Into<String>,
    ) {
        self.problem(message, location, Some(hint.into()));
    }

    /// The file that a location is in.
    pub(super) fn file(&self, location: &Location) -> Option<&'a SourceFile> {
        self.sources
            .iter()
            .find(|source| source.file == location.file)
    }

    /// Whether an input is the source of a registered schedule, even of an invalid one.
    pub(super) fn is_schedule(&self, input: &str) -> bool {
        input
            .strip_prefix(CRON_SOURCE)
            .is_some_and(|name| self.crons.iter().any(|(cron, _)| cron.name == name))
    }

    /// Whether a problem at this location has been reported already.
    pub(super) fn is_reported(&self, location: &Location) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.location.as_ref() == Some(location))
    }
}

/// Describes a location in a message about another one: by its line, and by its file if that is not
/// the same.
pub(super) fn line_of(location: &Location, seen_from: &Location) -> String {
    if location.file == seen_from.file {
        format!("line {}", location.line)
    } else {
        format!("{}:{}", location.file, location.line)
    }
}

/// Shortens an untrusted name for a message and replaces its control characters.
pub(super) fn quoted(name: &str) -> String {
    quire_types::text::excerpt(name, MAX_QUOTED_NAME)
}
