//! `quire log` and `quire undo`: the log of operations, and taking one back.

use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::operation_sentence::sentence;
use super::output::{Cell, Output};
use quire_server::forge::inverse::{self, InverseRequest, UndoneOperation};
use quire_server::forge::operation_log;
use quire_server::forge::views::{OperationJson, views};
use quire_store::{LoggedOperation, OperationState};
use quire_types::names::RepoName;
use quire_types::operation::{Channel, OperationId};

pub(super) const LOG_EXAMPLES: &str = "\
Examples:
  log                    list the last 50 operations
  log --repo shop        only those that concern shop
  log --json --limit 1   the last one, with all that is known of it";

pub(super) const UNDO_EXAMPLES: &str = "\
Examples:
  log --repo shop    look for the operation, such as 41, a forced push
  undo 41            move the refs back that it overwrote
  undo 42            take that back: 42 is the undo";

#[derive(clap::Args)]
pub(super) struct LogArgs {
    /// Only operations of this repository, also under its former names
    #[arg(long)]
    repo: Option<RepoName>,
    /// List at most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}

#[derive(clap::Args)]
pub(super) struct UndoOperationArgs {
    /// The number of the operation (`log`)
    operation: OperationId,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}

/// `log --json`.
#[derive(Serialize)]
struct OperationList<'a> {
    operations: Vec<OperationJson<'a>>,
}

/// `undo --json`.
#[derive(Serialize)]
struct UndoneOperationJson<'a> {
    undone: OperationJson<'a>,
    by: Option<OperationJson<'a>>,
}

pub(super) fn log(
    context: &Context<'_>,
    arguments: &LogArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let repo = arguments.repo.as_ref();
    let found = operation_log::list(&context.forge(), repo, arguments.limit)?;
    // A repository that was removed has operations as well.
    context.explain_empty_list(&found, repo)?;
    print_operations(&found, out)
}

pub(super) fn undo(
    context: &Context<'_>,
    arguments: &UndoOperationArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let request = InverseRequest {
        operation: arguments.operation,
        user: context.caller.name().to_owned(),
        reached: context.caller.reached,
    };
    print_undone_operation(&inverse::apply(&context.forge(), &request)?, out)
}

pub(super) fn print_operations(
    found: &[LoggedOperation],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        return out.json(&OperationList {
            operations: views(found),
        });
    }
    if found.is_empty() {
        return out.line("no operations yet");
    }
    let rows: Vec<_> = found.iter().map(|one| row(one, out)).collect();
    out.table(["OPERATION", "TIME", "BY", "STATE", "WHAT"], &rows)
}

fn row(one: &LoggedOperation, out: &Output<'_>) -> [Cell; 5] {
    let what = match one.undoes {
        Some(undone) => format!("{} (undoes {undone})", sentence(&one.operation)),
        None => sentence(&one.operation),
    };
    let (state, what) = match (&one.state, one.undone_by) {
        (_, Some(by)) => (format!("undone by {by}"), what),
        (OperationState::Begun, _) => ("unfinished".to_owned(), what),
        (OperationState::Done, _) => ("done".to_owned(), what),
        (OperationState::Failed(why), _) => ("failed".to_owned(), format!("{what}: {why}")),
    };
    [
        one.id.to_string().into(),
        out.time(Some(one.begun_at)).into(),
        actor(one).into(),
        state.into(),
        what.into(),
    ]
}

fn actor(one: &LoggedOperation) -> String {
    match (&one.actor.name, one.actor.channel) {
        (Some(name), _) => name.clone(),
        (None, Channel::Server) => "(server)".to_owned(),
        (None, _) => "(unknown)".to_owned(),
    }
}

pub(super) fn print_undone_operation(
    undone: &UndoneOperation,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        return out.json(&UndoneOperationJson {
            undone: (&undone.undone).into(),
            by: undone.by.as_ref().map(OperationJson::from),
        });
    }
    let id = undone.undone.id;
    match &undone.by {
        Some(by) => {
            let what = Cell::from(sentence(&by.operation)).plain();
            out.line(&format!("undid operation {id}: {what}"))?;
            out.line(&format!("`undo {}` takes that back", by.id))
        }
        None => out.line(&format!("undid operation {id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Millis;
    use quire_types::operation::{Actor, Operation};

    fn operation(id: i64, state: OperationState, name: Option<&str>) -> LoggedOperation {
        LoggedOperation {
            id: OperationId(id),
            begun_at: Millis(5000),
            actor: Actor {
                name: name.map(str::to_owned),
                key_fingerprint: name.map(|_| "SHA256:x".to_owned()),
                channel: match name {
                    Some(_) => Channel::Ssh,
                    None => Channel::Server,
                },
            },
            operation: Operation::RepoRename {
                repo: "shop".parse().unwrap(),
                former_name: "app".parse().unwrap(),
            },
            state,
            undoes: (id == 4).then_some(OperationId(3)),
            undone_by: (id == 3).then_some(OperationId(4)),
        }
    }

    #[test]
    fn a_log_of_operations() {
        let failed = OperationState::Failed("the repository `shop` exists already".to_owned());
        let found = [
            operation(4, OperationState::Done, Some("laptop")),
            operation(3, OperationState::Done, Some("desktop\u{1b}")),
            operation(2, failed, None),
            operation(1, OperationState::Begun, Some("laptop")),
        ];
        let undone = UndoneOperation {
            undone: found[1].clone(),
            by: Some(found[0].clone()),
        };
        let printed = |json: bool| {
            let mut text = Vec::new();
            let mut out = Output::test(&mut text, json, Millis(10_000));
            print_operations(&found, &mut out).unwrap();
            print_undone_operation(&undone, &mut out).unwrap();
            print_operations(&[], &mut out).unwrap();
            String::from_utf8(text).unwrap()
        };
        insta::assert_snapshot!(printed(false) + &printed(true));
    }
}
