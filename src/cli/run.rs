//! `quire run`: the commands about runs.

use clap::Subcommand;

use super::args::{OutputArgs, RunArg};
use super::context::Context;
use super::error::{CommandError, FAILED};
use super::follow::{self, StateObserver, VolumeReader};
use super::logs::{self, LogFormat, LogOptions};
use super::output::Output;
use super::run_list::{RunsDocument, print_runs};
use super::run_show::print_run;
use super::{artifacts, attach, repl, start};
use quire_server::forge::ForgeError;
use quire_server::forge::run_details::RunDetails;
use quire_server::forge::runs::{self, Cancellation};
use quire_store::{RetryOptions, RunFilter, Store};
use quire_types::names::{JobName, RefName, RepoName, RunId};
use quire_types::run::{Run, RunSelector, RunState};
use quire_types::text::format_elapsed;

#[derive(Subcommand)]
pub(super) enum RunCommand {
    /// List runs, newest first
    List(ListArgs),
    /// Show a run with its jobs and steps
    Show(RunArg),
    /// Print the log of a run
    ///
    /// With --follow the command waits for the end of the run. It exits with 0 if the run completes, with 1 otherwise.
    Logs(LogsArgs),
    /// Wait for the end of a run; the exit code is 0 if it completes, 1 otherwise
    Wait(RunArg),
    /// Cancel a run, or release the container that is kept of a finished one
    Cancel(RunArg),
    /// List and download the artifacts of a run
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsCommand),
    /// Queue a new run of the same commit as a finished one
    Retry(RetryArgs),
    /// Start a run by hand, of the commit at which a branch is now
    Start(start::StartArgs),
    /// Open a shell in the container of an active run, or of a failed one whose container is kept
    Attach(attach::AttachArgs),
    /// Evaluate Fennel with the tools of a job, in the container of an active run or of one that is kept
    ///
    /// Each entry is evaluated when it is complete, and at the end what worked is printed as a job. On a terminal
    /// (`ssh -t`) there is a prompt; otherwise standard input is evaluated.
    Repl(repl::ReplArgs),
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Only runs of this repository
    #[arg(long)]
    repo: Option<RepoName>,
    /// Only runs of this branch, or of this ref by its full name
    #[arg(long = "ref", value_name = "REF", value_parser = RefName::from_user)]
    ref_name: Option<RefName>,
    /// Only runs in this state: pending, active, complete, failed, canceled or superseded
    #[arg(long)]
    state: Option<RunState>,
    /// The maximum number of runs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    format: OutputArgs,
}

#[derive(clap::Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    run: RunArg,
    /// Run only the jobs that failed and those that depend on them; reuse the results of the others
    #[arg(long)]
    failed: bool,
    /// Keep the container for a while if the run fails again
    #[arg(long)]
    keep: bool,
}

#[derive(clap::Args)]
pub(super) struct LogsArgs {
    /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
    run: RunSelector,
    /// Only the lines of this job
    #[arg(long)]
    job: Option<JobName>,
    /// Print the log of this service instead
    #[arg(long, value_name = "NAME", conflicts_with_all = ["job", "format", "json"])]
    service: Option<String>,
    /// Print new lines until the run ends
    #[arg(long, short)]
    follow: bool,
    /// The output format; json and yaml are printed as one document at the end
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    format: LogFormat,
    /// Same as --format json
    #[arg(long)]
    json: bool,
    /// Print raw output; by default all escape sequences except colours are removed
    #[arg(long, conflicts_with_all = ["format", "json"])]
    raw: bool,
    /// Show only the steps of an image build, and its last lines if it fails
    #[arg(long, conflicts_with = "raw")]
    fold_build: bool,
}

impl RunCommand {
    pub(super) fn format(&self) -> OutputArgs {
        match self {
            Self::List(list) => list.format,
            Self::Show(run) | Self::Wait(run) | Self::Cancel(run) => run.format,
            Self::Retry(retry) => retry.run.format,
            Self::Start(start) => start.format,
            Self::Attach(attach) => attach.format,
            Self::Repl(repl) => repl.format,
            Self::Logs(logs) => OutputArgs::of_json(logs.json),
            Self::Artifacts(command) => command.format(),
        }
    }
}

pub(super) fn run(
    context: &Context<'_>,
    command: &RunCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let store = context.store()?;
    let resolve = |run: &RunSelector| store.runs().resolve(run);
    match command {
        RunCommand::Artifacts(command) => artifacts::artifacts(context, &store, command, out),
        RunCommand::List(args) => list(context, &store, args, out),
        RunCommand::Show(run) => show(&store, resolve(&run.run)?, out),
        RunCommand::Cancel(run) => cancel(context, resolve(&run.run)?, out),
        RunCommand::Attach(args) => attach::attach(context, resolve(&args.run)?, args),
        RunCommand::Repl(args) => repl::repl(context, resolve(&args.run)?, out),
        RunCommand::Start(args) => report(&start::start(context, args)?, "queued", out),
        RunCommand::Retry(args) => {
            let options = RetryOptions {
                only_failed: args.failed,
                keep: args.keep,
            };
            let run = runs::retry(&context.forge(), resolve(&args.run.run)?, options)?;
            report(&run, "queued", out)
        }
        RunCommand::Wait(run) => wait(context, &store, resolve(&run.run)?, out),
        RunCommand::Logs(args) => print_logs(context, &store, args, out),
    }
}

fn list(
    context: &Context<'_>,
    store: &Store,
    args: &ListArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let filter = RunFilter {
        repo: args.repo.clone(),
        ref_name: args.ref_name.clone(),
        state: args.state,
        before: None,
        limit: args.limit,
    };
    let runs = store.runs().list(&filter)?;
    context.explain_empty_list(&runs, args.repo.as_ref())?;
    print_runs(&runs, out)
}

fn show(store: &Store, id: RunId, out: &mut Output<'_>) -> Result<(), CommandError> {
    let details = RunDetails::read(store, id)?.ok_or(ForgeError::NoRun(id))?;
    print_run(&details, out)
}

fn cancel(context: &Context<'_>, id: RunId, out: &mut Output<'_>) -> Result<(), CommandError> {
    let forge = context.forge();
    let finished = match runs::cancel(&forge, id) {
        Ok(Cancellation::Cancelled(run)) => return report(&run, "canceled", out),
        Ok(Cancellation::Withdrawn(run)) => {
            return report(&run, "finished; its commit does not land", out);
        }
        Ok(Cancellation::StopRequested(run) | Cancellation::AlreadyStopping(run)) => {
            return report(&run, "asked to stop", out);
        }
        Err(error @ ForgeError::AlreadyFinished { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    match runs::release(&forge, id) {
        Ok(run) => report(
            &run,
            "finished; its container will be removed within a minute",
            out,
        ),
        Err(ForgeError::NoKeptContainer(_)) => Err(finished.into()),
        Err(error) => Err(error.into()),
    }
}

fn wait(
    context: &Context<'_>,
    store: &Store,
    id: RunId,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut reader = VolumeReader::new(store.clone(), context.paths);
    let run = follow::read_run(&mut reader, id, true, &mut StateObserver::new(out.json))?;
    if out.json {
        out.json(&RunsDocument::new(std::slice::from_ref(&run)))?;
    }
    exit_status(&run, out.json)
}

fn print_logs(
    context: &Context<'_>,
    store: &Store,
    args: &LogsArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut reader = VolumeReader::new(store.clone(), context.paths);
    let id = store.runs().resolve(&args.run)?;
    let format = if args.json {
        LogFormat::Json
    } else {
        args.format
    };
    let options = LogOptions {
        job: args.job.as_ref(),
        follow: args.follow,
        format,
        raw: args.raw,
        fold_build: args.fold_build,
    };
    let run = if let Some(service) = &args.service {
        logs::print_service_log(&mut reader, context.paths, (id, service), options, out)?
    } else {
        let run = logs::print_run_log(&mut reader, id, options, out)?;
        if let Some(at) = run.logs_removed_at_ms {
            follow::print_note(&format!(
                "retention (`:keep`) removed the log of this run on {at}"
            ));
        }
        run
    };
    if args.follow {
        let quiet = args.service.is_none() && format != LogFormat::Text;
        exit_status(&run, quiet)
    } else {
        Ok(())
    }
}

/// Prints how the run ended on standard error, unless `quiet`. Fails if the run did not complete.
fn exit_status(run: &Run, quiet: bool) -> Result<(), CommandError> {
    if !quiet {
        follow::print_note(&outcome(run));
    }
    if run.state == RunState::Complete {
        Ok(())
    } else {
        Err(CommandError::exit_only(FAILED))
    }
}

/// How a run ended, in one line.
fn outcome(run: &Run) -> String {
    let mut text = format!("run {} {}", run.name(), run.state);
    if let Some(kind) = run.failure_kind {
        text += &format!(" ({kind})");
    }
    if let (Some(start), Some(end)) = (run.started_at_ms, run.finished_at_ms) {
        text += &format!(" after {}", format_elapsed(end.since(start)));
    }
    if let Some(by) = run.superseded_by {
        text += &format!("; superseded by run {by}");
    }
    if let Some(message) = &run.message {
        text += &format!(": {message}");
    }
    text
}

/// Prints what was done to a run.
fn report(run: &Run, what: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        out.json(&RunsDocument::new(std::slice::from_ref(run)))
    } else {
        out.line(&format!("run {} {what}", run.name()))
    }
}
