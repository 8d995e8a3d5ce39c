//! The ways in which a user names one run. Which run it is, the database knows.

use std::fmt;
use std::str::FromStr;

use super::run_name::RunName;
use crate::names::{RefName, RepoName};
use crate::text::excerpt;

/// A bare number with more digits is a part of an id.
const MAX_NUMBER_DIGITS: usize = 7;
/// The length of an id.
const ID_LEN: usize = 36;

/// What a user wrote for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSelector {
    /// `tally#14`.
    Name(RunName),
    /// `#14` or `14`: the only run of this number.
    Number(u32),
    /// `latest`, or `tally#latest`: the newest run.
    Latest(Option<RepoName>),
    /// `tally@main`: the newest run of a ref.
    Ref(RepoName, RefName),
    /// The beginning or the end of an id, or all of it, in lower case.
    IdPart(String),
}

/// Text that names no run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` does not name a run; use its number (`#14`, `tally#14`), `latest`, REPOSITORY@BRANCH, or the beginning or end of its id"
)]
pub struct InvalidRunSelector(String);

impl RunSelector {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest(None));
        }
        // The name of a ref may contain both characters, the name of a repository neither.
        let separator = text.find(['#', '@']);
        if let Some((repo, number)) = text.split_once('#')
            && separator == Some(repo.len())
        {
            return match (repo, number) {
                ("", number) => Some(Self::Number(run_number(number)?)),
                (repo, "latest") => Some(Self::Latest(Some(repo.parse().ok()?))),
                (repo, number) => Some(Self::Name(RunName {
                    repo: repo.parse().ok()?,
                    number: run_number(number)?,
                })),
            };
        }
        if let Some((repo, name)) = text.split_once('@') {
            return Some(Self::Ref(
                repo.parse().ok()?,
                RefName::from_user(name).ok()?,
            ));
        }
        if text.len() <= MAX_NUMBER_DIGITS
            && let Some(number) = run_number(text)
        {
            return Some(Self::Number(number));
        }
        let is_id_part = !text.is_empty()
            && text.len() <= ID_LEN
            && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        is_id_part.then(|| Self::IdPart(text.to_ascii_lowercase()))
    }
}

/// A positive number without leading zeros.
fn run_number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

impl FromStr for RunSelector {
    type Err = InvalidRunSelector;

    fn from_str(text: &str) -> Result<Self, InvalidRunSelector> {
        Self::parse(text).ok_or_else(|| InvalidRunSelector(excerpt(text, 60)))
    }
}

impl fmt::Display for RunSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Number(number) => write!(f, "#{number}"),
            Self::Latest(None) => f.write_str("latest"),
            Self::Latest(Some(repo)) => write!(f, "{repo}#latest"),
            Self::Ref(repo, ref_name) => write!(f, "{repo}@{}", ref_name.short()),
            Self::IdPart(part) => f.write_str(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_name_a_run() {
        let ways = [
            "#14",
            "14",
            "tally#14",
            "work/tally#14",
            "latest",
            "tally#latest",
            "tally@main",
            "tally@refs/tags/v1",
            "tally@feature/#1",
            "0197A1",
            "b302099a8057",
            "12345678",
            "01890a5d-ac96-774b-bcce-b302099a8057",
        ];
        let parsed = ways.map(|text| format!("{text}: {:?}", text.parse::<RunSelector>()));
        insta::assert_snapshot!(parsed.join("\n"));
    }

    #[test]
    fn other_text_is_an_error_that_lists_the_ways() {
        let long = "f".repeat(1_000_000);
        for text in [
            "",
            "#",
            "#0",
            "#014",
            "#x",
            "tally#",
            "tally#x",
            "../x#1",
            "@main",
            "tally@",
            "tally@a..b",
            "zzzz",
            "%",
            "-x",
            "a b",
            "#99999999999",
            &long,
        ] {
            let parsed = text.parse::<RunSelector>();
            assert!(parsed.is_err(), "{text:.20}: {parsed:?}");
        }
        insta::assert_snapshot!("\u{1b}[2Jgreen".parse::<RunSelector>().unwrap_err());
    }
}
