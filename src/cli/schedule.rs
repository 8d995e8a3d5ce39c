//! `quire schedule`: lists schedules and their next times.

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::Output;
use quire_server::forge::views::{ScheduleJson, views};
use quire_store::RepoSchedule;
use quire_types::names::RepoName;
use quire_types::text::first_line;

#[derive(Subcommand)]
pub(super) enum ScheduleCommand {
    /// List schedules and their next times
    ///
    /// `ci.cron` in the pipeline of the default branch creates them.
    List {
        /// Only schedules of this repository
        #[arg(long)]
        repo: Option<RepoName>,
        #[command(flatten)]
        format: OutputArgs,
    },
}

impl ScheduleCommand {
    pub(super) fn format(&self) -> OutputArgs {
        let Self::List { format, .. } = self;
        *format
    }
}

#[derive(Serialize)]
struct ScheduleList<'a> {
    schedules: Vec<ScheduleJson<'a>>,
}

pub(super) fn schedule(
    context: &Context<'_>,
    command: &ScheduleCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let ScheduleCommand::List { repo, .. } = command;
    let schedules = context.store()?.schedules().list(repo.as_ref())?;
    context.explain_empty_list(&schedules, repo.as_ref())?;
    if out.json {
        return out.json(&ScheduleList {
            schedules: views(&schedules),
        });
    }
    if schedules.is_empty() {
        return out.line("no schedules");
    }
    print_schedules(&schedules, out)
}

/// One row for each schedule.
pub(super) fn print_schedules(
    schedules: &[RepoSchedule],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let row = |row: &RepoSchedule| {
        let problem = row
            .problem
            .as_ref()
            .map(|problem| {
                format!("from an older commit, because the newest pipeline is wrong: {problem}")
            })
            .unwrap_or_default();
        let next = row.next_at_ms.to_string();
        [
            row.repo.as_str().into(),
            row.name.as_str().into(),
            row.schedule.as_str().into(),
            next.into(),
            first_line(&problem, 80).into(),
        ]
    };
    let rows: Vec<_> = schedules.iter().map(row).collect();
    out.table(["REPOSITORY", "NAME", "SCHEDULE", "NEXT", "WHY"], &rows)
}
