//! `quire repo protect`, `unprotect` and `description`.

use clap::Args;
use serde::Serialize;

use super::error::CommandError;
use super::output::Output;
use quire_server::forge::protection::{self, RepoProtection};
use quire_server::forge::{Forge, repos};
use quire_types::names::RepoName;
use quire_types::ref_pattern::RefPattern;

pub(super) const PROTECT_EXAMPLES: &str = "\
Examples:
  repo protect shop main             pushes may add commits to main, and not replace or delete it
  repo protect shop 'release/*'      all branches whose names begin with release/
  repo protect shop 'refs/tags/v*'   tags stay where they are";

pub(super) const DESCRIPTION_EXAMPLES: &str = "\
Examples:
  repo description shop \"'What we sell'\"    describe it; the inner quotes are for the other side
  repo description shop                     print the description
  repo description shop \"''\"               remove it";

/// The repository and the pattern.
#[derive(Args)]
pub(super) struct ProtectionArgs {
    /// The repository
    name: RepoName,
    /// A branch or a whole ref such as refs/tags/v1; `*` stands for any characters
    #[arg(value_parser = RefPattern::from_user)]
    pattern: RefPattern,
}

/// The repository and what it is.
#[derive(Args)]
pub(super) struct DescriptionArgs {
    /// The repository
    name: RepoName,
    /// One line; without it, the description is printed
    text: Vec<String>,
}

impl DescriptionArgs {
    /// The words as one text: ssh passes on what was quoted without its quotes. `None` without any.
    fn text(&self) -> Option<String> {
        (!self.text.is_empty()).then(|| self.text.join(" "))
    }
}

#[derive(Serialize)]
struct RepoItems<T> {
    repos: [T; 1],
}

#[derive(Serialize)]
struct ProtectedRepo<'a> {
    repo: &'a RepoName,
    protected: Vec<&'a str>,
}

#[derive(Serialize)]
struct DescribedRepo<'a> {
    repo: &'a RepoName,
    description: Option<&'a str>,
}

pub(super) fn protect(
    forge: &Forge,
    ProtectionArgs { name, pattern }: &ProtectionArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let after = protection::protect(forge, name, pattern)?;
    let sentence = match after.has_changed {
        true => "is protected: pushes cannot move it by force or delete it",
        false => "is protected already",
    };
    print(
        &after,
        format!("{} of {} {sentence}", pattern.short(), after.repo),
        out,
    )
}

pub(super) fn unprotect(
    forge: &Forge,
    ProtectionArgs { name, pattern }: &ProtectionArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let after = protection::unprotect(forge, name, pattern)?;
    let sentence = format!(
        "{} of {} is no longer protected",
        pattern.short(),
        after.repo
    );
    print(&after, sentence, out)
}

fn print(
    after: &RepoProtection,
    sentence: String,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if !out.json {
        return out.line(&sentence);
    }
    let item = ProtectedRepo {
        repo: &after.repo,
        protected: after.patterns.iter().map(RefPattern::as_str).collect(),
    };
    out.json(&RepoItems { repos: [item] })
}

pub(super) fn description(
    forge: &Forge,
    arguments: &DescriptionArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let (name, text) = (&arguments.name, arguments.text());
    let described = match &text {
        Some(text) => repos::describe(forge, name, Some(text))?,
        None => repos::description(forge, name)?,
    };
    if out.json {
        let description = described.as_deref();
        let item = DescribedRepo {
            repo: name,
            description,
        };
        return out.json(&RepoItems { repos: [item] });
    }
    let sentence = match (text, &described) {
        (None, Some(described)) => described.clone(),
        (None, None) => format!("{name} has no description"),
        (Some(_), Some(described)) => format!("{name}: {described}"),
        (Some(_), None) => format!("{name} has no description any more"),
    };
    out.line(&sentence)
}
