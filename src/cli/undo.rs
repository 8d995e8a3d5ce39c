//! `quire repo undo`: lists what pushes overwrote, and moves refs back.

use serde::Serialize;

use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_git::RefMove;
use quire_server::control::client::ControlError;
use quire_server::control::protocol::RunLink;
use quire_server::forge::undo::{self, OverwrittenOverview, UndoRequest, UndoTarget, UndoneRefs};
use quire_types::clock::Millis;
use quire_types::names::{NameError, ObjectId, RefName, RepoName};

/// The shortest beginning of an id that is accepted.
const MIN_ID: usize = 4;

#[derive(clap::Args)]
pub(super) struct UndoArgs {
    /// The repository
    #[arg(value_name = "REPO")]
    name: RepoName,
    /// Move this ref back: a branch, or the full name of any ref
    #[arg(value_name = "REF")]
    ref_name: Option<String>,
    /// Move it to this id, or one that begins so, instead of to where it was before the last push that overwrote it
    #[arg(long, value_name = "ID", requires = "ref_name", value_parser = beginning_of_id)]
    to: Option<String>,
    /// List what was overwritten (the default without REF)
    #[arg(long, conflicts_with = "to")]
    list: bool,
    /// List at most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

fn beginning_of_id(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if text.len() < MIN_ID || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("at least {MIN_ID} hexadecimal digits are expected"));
    }
    Ok(text)
}

/// An overwritten ref in `repo undo --json`.
#[derive(Serialize)]
struct OverwrittenRow<'a> {
    repo: &'a RepoName,
    ref_name: &'a RefName,
    old_sha: &'a ObjectId,
    new_sha: Option<&'a ObjectId>,
    pushed_at_ms: Millis,
    pusher: Option<&'a str>,
    until_ms: Millis,
}

#[derive(Serialize)]
struct OverwrittenList<'a> {
    overwritten: Vec<OverwrittenRow<'a>>,
}

/// A ref that was moved back, in JSON.
#[derive(Serialize)]
struct UndoneRow<'a> {
    repo: &'a RepoName,
    ref_name: &'a RefName,
    old_sha: Option<&'a ObjectId>,
    new_sha: Option<&'a ObjectId>,
    runs: Vec<&'a str>,
}

impl<'a> From<&'a OverwrittenOverview> for OverwrittenRow<'a> {
    fn from(overview: &'a OverwrittenOverview) -> Self {
        let overwritten = &overview.overwritten;
        Self {
            repo: &overwritten.repo,
            ref_name: &overwritten.ref_name,
            old_sha: &overwritten.old_sha,
            new_sha: overwritten.new_sha.as_ref(),
            pushed_at_ms: overwritten.pushed_at_ms,
            pusher: overwritten.pusher.as_deref(),
            until_ms: overview.until,
        }
    }
}

pub(super) fn undo(
    context: &Context<'_>,
    arguments: &UndoArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let ref_name = arguments
        .ref_name
        .as_deref()
        .map(RefName::from_user)
        .transpose()
        .map_err(|error: NameError| CommandError::usage(error.to_string()))?;
    let forge = context.forge();
    match ref_name {
        Some(ref_name) if !arguments.list => {
            let request = UndoRequest {
                repo: arguments.name.clone(),
                refs: vec![(
                    ref_name,
                    arguments
                        .to
                        .clone()
                        .map_or(UndoTarget::Last, UndoTarget::Id),
                )],
                user: context.caller.name().to_owned(),
                reached: context.caller.reached,
            };
            print_undone(&undo::apply(&forge, &request)?, out)
        }
        ref_name => {
            let found = undo::list(&forge, &arguments.name, ref_name.as_ref(), arguments.limit)?;
            print_overwritten(&found, out)
        }
    }
}

/// The list of what was overwritten.
pub(super) fn print_overwritten(
    found: &[OverwrittenOverview],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        return out.json(&OverwrittenList {
            overwritten: found.iter().map(OverwrittenRow::from).collect(),
        });
    }
    if found.is_empty() {
        return out.line("no push has overwritten anything that is still kept");
    }
    let cells = |overview: &OverwrittenOverview| -> [Cell; 6] {
        let overwritten = &overview.overwritten;
        let became = overwritten.new_sha.as_ref();
        [
            overwritten.ref_name.as_str().into(),
            overwritten.old_sha.short().into(),
            became.map_or("deleted", ObjectId::short).into(),
            out.time(Some(overwritten.pushed_at_ms)).into(),
            overwritten.pusher.as_deref().unwrap_or("-").into(),
            out.remaining(overview.until).into(),
        ]
    };
    let rows: Vec<_> = found.iter().map(cells).collect();
    out.table(["REF", "WAS", "BECAME", "PUSHED", "BY", "UNTIL"], &rows)
}

pub(super) fn print_undone(undone: &UndoneRefs, out: &mut Output<'_>) -> Result<(), CommandError> {
    undone
        .moves
        .iter()
        .try_for_each(|one| print_move(undone, one, out))
}

fn print_move(
    undone: &UndoneRefs,
    one: &RefMove,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let runs: &[RunLink] = undone.recorded.as_ref().map_or(&[], |(runs, _)| runs);
    if out.json {
        return out.json(&UndoneRow {
            repo: &undone.repo,
            ref_name: &one.ref_name,
            old_sha: one.from.as_ref(),
            new_sha: one.to.as_ref(),
            runs: runs.iter().map(|run| run.id.as_str()).collect(),
        });
    }
    let (repo, name) = (&undone.repo, &one.ref_name);
    let short = |id: &Option<ObjectId>| id.as_ref().map(|id| id.short().to_owned());
    out.line(&match (short(&one.from), short(&one.to)) {
        (Some(from), Some(to)) => format!("moved {name} of {repo} from {from} to {to}"),
        (None, Some(to)) => format!("created {name} of {repo} at {to}"),
        (Some(from), None) => format!("deleted {name} of {repo}, which was at {from}"),
        (None, None) => format!("{name} of {repo} does not exist"),
    })?;
    for run in runs {
        out.line(&format!("run {} queued  {}", run.name, run.url))?;
    }
    match &undone.recorded {
        Ok((_, notes)) => notes.iter().try_for_each(|note| out.line(note))?,
        Err(ControlError::Unreachable(_)) => {
            out.line("the server is not running; a run starts when it is back")?;
        }
        Err(error) => out.line(&format!("{error}; a run starts as soon as it can"))?,
    }
    let shown = shell_words::quote(name.branch().unwrap_or(name.as_str()));
    out.line(&format!("`repo undo {repo} {shown}` takes that back"))
}
