//! `quire notify`: lists the targets of notifications and tests one.

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_server::forge::notifications;
use quire_server::forge::views::{NotificationTargetJson, views};
use quire_store::TargetProgress;
use quire_types::text::first_line;

#[derive(Subcommand)]
pub(super) enum NotifyCommand {
    /// List the targets of notifications, and what waits for each
    List(OutputArgs),
    /// Send a test message to a target
    Test {
        /// The name of the target in the configuration
        target: String,
        #[command(flatten)]
        format: OutputArgs,
    },
}

impl NotifyCommand {
    pub(super) fn format(&self) -> OutputArgs {
        let (Self::List(format) | Self::Test { format, .. }) = self;
        *format
    }
}

#[derive(Serialize)]
struct TargetList<'a> {
    targets: Vec<NotificationTargetJson<'a>>,
}

#[derive(Serialize)]
struct TestedTarget<'a> {
    target: &'a str,
}

pub(super) fn notify(
    context: &Context<'_>,
    command: &NotifyCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let forge = context.forge();
    match command {
        NotifyCommand::List(_) => list(&notifications::list(&forge)?, out),
        NotifyCommand::Test { target, .. } => {
            notifications::test(&forge, target)?;
            if out.json {
                out.json(&TestedTarget { target })
            } else {
                out.line(&format!(
                    "a test message was delivered to {}",
                    Cell::from(target.as_str()).plain()
                ))
            }
        }
    }
}

fn list(targets: &[TargetProgress], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&TargetList {
            targets: views(targets),
        });
    }
    if targets.is_empty() {
        return out.line("no targets");
    }
    let row = |target: &TargetProgress| -> [Cell; 6] {
        let state = if target.failures > 0 { "failing" } else { "ok" };
        [
            target.name.as_str().into(),
            state.into(),
            target.waiting.to_string().into(),
            target.given_up.to_string().into(),
            out.time(target.delivered_ms).into(),
            first_line(target.problem.as_deref().unwrap_or_default(), 120).into(),
        ]
    };
    let rows: Vec<_> = targets.iter().map(row).collect();
    out.table(
        [
            "TARGET",
            "STATE",
            "WAITING",
            "GIVEN UP",
            "LAST DELIVERY",
            "WHY",
        ],
        &rows,
    )
}
