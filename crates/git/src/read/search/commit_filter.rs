//! Which commits of a history are wanted, by their author and their message.

use super::super::budget::Budget;
use super::super::commit::CommitDetails;
use super::super::error::ReadError;
use super::line_matches::{LineMatches, LineStep, MatchedLine};
use super::text_pattern::TextPattern;

/// What commits must match; without anything, all do.
#[derive(Debug, Clone, Default)]
pub struct CommitFilter {
    /// The author: the name and the address.
    pub author: Option<TextPattern>,
    /// A line of the message.
    pub message: Option<TextPattern>,
    /// The author, or a line of the message.
    pub anything: Option<TextPattern>,
}

impl CommitFilter {
    /// Whether all commits are wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.author.is_none() && self.message.is_none() && self.anything.is_none()
    }

    /// Whether a commit is wanted; fails if the time is over before that is known.
    pub(in super::super) fn holds(
        &self,
        commit: &CommitDetails,
        budget: &Budget,
    ) -> Result<bool, ReadError> {
        let search = CommitSearch { commit, budget };
        if let Some(pattern) = &self.author
            && !search.author(pattern)?
        {
            return Ok(false);
        }
        if let Some(pattern) = &self.message
            && !search.message(pattern)?
        {
            return Ok(false);
        }
        match &self.anything {
            Some(pattern) => Ok(search.author(pattern)? || search.message(pattern)?),
            None => Ok(true),
        }
    }
}

struct CommitSearch<'a> {
    commit: &'a CommitDetails,
    budget: &'a Budget,
}

impl CommitSearch<'_> {
    fn author(&self, pattern: &TextPattern) -> Result<bool, ReadError> {
        let author = &self.commit.summary.author;
        self.text(pattern, &format!("{} <{}>", author.name, author.email))
    }

    fn message(&self, pattern: &TextPattern) -> Result<bool, ReadError> {
        Ok(self.text(pattern, &self.commit.summary.subject)?
            || self.text(pattern, &self.commit.body)?)
    }

    fn text(&self, pattern: &TextPattern, text: &str) -> Result<bool, ReadError> {
        Ok(first_line(pattern, text, self.budget)?.is_some())
    }
}

/// The first line of a text that matches.
pub(super) fn first_line(
    pattern: &TextPattern,
    text: &str,
    budget: &Budget,
) -> Result<Option<MatchedLine>, ReadError> {
    match LineMatches::new(pattern, text.as_bytes(), 0).next(budget) {
        LineStep::Found(line) => Ok(Some(line)),
        LineStep::End => Ok(None),
        LineStep::OutOfTime => Err(ReadError::OutOfTime),
    }
}
