//! `quire schedule`: what runs by itself, and when.

use clap::Subcommand;
use serde::Serialize;

use super::manage::{Context, Format};
use super::output::Out;
use super::report::Failure;
use crate::names::RepoName;
use crate::store::ScheduleRow;

/// What can be done with schedules. They are made by `ci.cron` in the pipeline of the default branch.
#[derive(Subcommand)]
pub(super) enum ScheduleCommand {
    /// List schedules, and when each comes due next.
    List {
        /// Only of this repository.
        #[arg(long)]
        repo: Option<RepoName>,
        #[command(flatten)]
        format: Format,
    },
}

impl ScheduleCommand {
    pub(super) fn json(&self) -> bool {
        let Self::List { format, .. } = self;
        format.json
    }
}

#[derive(Serialize)]
struct Schedules {
    schedules: Vec<ScheduleRow>,
}

/// Carries a command out.
pub(super) fn schedule(
    context: &Context<'_>,
    command: &ScheduleCommand,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let ScheduleCommand::List { repo, .. } = command;
    let schedules = context.store()?.schedules(repo.as_ref())?;
    if out.json {
        return out.json(&Schedules { schedules });
    }
    if schedules.is_empty() {
        return out.line("no schedules");
    }
    let row = |row: &ScheduleRow| {
        let problem = row
            .problem
            .as_ref()
            .map(|problem| format!("of an older commit: {problem}"))
            .unwrap_or_default();
        let next = row.next_at_ms.to_string();
        [
            row.repo.as_str().into(),
            row.name.as_str().into(),
            row.schedule.as_str().into(),
            next.into(),
            super::run::short(&problem, 80).into(),
        ]
    };
    let rows: Vec<_> = schedules.iter().map(row).collect();
    out.table(["REPOSITORY", "NAME", "SCHEDULE", "NEXT", "WHY"], &rows)
}
