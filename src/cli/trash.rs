//! The part of `quire repo` that is about removed repositories.

use serde::Serialize;

use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_server::forge::trash::{self, TrashedOverview};
use quire_types::clock::Millis;
use quire_types::names::RepoName;
use quire_types::text::format_bytes;

/// How much of an id a table shows; `repo restore` takes the beginning of one.
const SHORT_ID: usize = 18;

/// A repository in `repo list --trash --json`.
#[derive(Debug, Serialize)]
struct TrashRow<'a> {
    trash_id: String,
    repo: &'a RepoName,
    removed_at_ms: Millis,
    removed_by: &'a str,
    until_ms: Millis,
    bytes: u64,
}

#[derive(Serialize)]
struct TrashList<'a> {
    trash: Vec<TrashRow<'a>>,
}

#[derive(Serialize)]
struct RestoredRepo<'a> {
    repo: &'a RepoName,
}

#[derive(Serialize)]
struct RestoredList<'a> {
    repos: Vec<RestoredRepo<'a>>,
}

impl<'a> From<&'a TrashedOverview> for TrashRow<'a> {
    fn from(trashed: &'a TrashedOverview) -> Self {
        Self {
            trash_id: trashed.id.to_string(),
            repo: &trashed.repo,
            removed_at_ms: trashed.removed_at,
            removed_by: &trashed.removed_by,
            until_ms: trashed.until,
            bytes: trashed.bytes,
        }
    }
}

/// `repo list --trash`.
pub(super) fn print_trash(
    trashed: &[TrashedOverview],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        return out.json(&TrashList {
            trash: trashed.iter().map(TrashRow::from).collect(),
        });
    }
    if trashed.is_empty() {
        return out.line("the trash is empty");
    }
    let cells = |one: &TrashedOverview| -> [Cell; 6] {
        [
            one.repo.as_str().into(),
            one.id.to_string()[..SHORT_ID].into(),
            out.time(Some(one.removed_at)).into(),
            one.removed_by.as_str().into(),
            out.remaining(one.until).into(),
            format_bytes(one.bytes).into(),
        ]
    };
    let rows: Vec<_> = trashed.iter().map(cells).collect();
    out.table(
        ["REPOSITORY", "TRASH ID", "REMOVED", "BY", "UNTIL", "SIZE"],
        &rows,
    )
}

/// `repo restore`.
pub(super) fn restore(
    context: &Context<'_>,
    wanted: &RepoName,
    name: Option<&RepoName>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let repo = trash::restore(&context.forge(), wanted, name)?;
    if out.json {
        return out.json(&RestoredList {
            repos: vec![RestoredRepo { repo: &repo }],
        });
    }
    out.line(&format!("restored repository {repo}"))
}
