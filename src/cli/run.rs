//! `quire run`: runs.

use clap::Subcommand;
use serde::Serialize;

use super::artifacts;
use super::follow::{self, Appliance, Hush};
use super::logs::{self, Cleaning, LogFormat};
use super::manage::{Context, Format};
use super::output::{Cell, Out, span};
use super::report::{FAILED, Failure};
use super::{attach, start};
use crate::hook;
use crate::names::{JobName, RefName, RepoName, RunId};
use crate::run::{JobRow, Run, RunState, StepRow, Trigger};
use crate::store::{Kept, Repeat, RunFilter};

/// What can be done with runs. An `ID` may be any prefix of one that no other run shares.
#[derive(Subcommand)]
pub(super) enum RunCommand {
    /// List runs, newest first.
    List(ListArgs),
    /// Show one run with its jobs and steps.
    Show(One),
    /// Print a run's log; with --follow until its end, which is then the exit code.
    Logs(LogsArgs),
    /// Wait for a run's end, which is the exit code: 0 complete, 1 otherwise.
    Wait(One),
    /// End a run; of one that has ended, let the container go that is kept of it.
    Cancel(One),
    /// What runs kept.
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsCommand),
    /// Queue a new run that repeats one that has ended.
    Retry(RetryArgs),
    /// Start a run by hand, of where a branch stands now.
    Start(start::StartArgs),
    /// Open a shell in the container of a run that goes on, or that failed and was to be kept.
    Attach(attach::AttachArgs),
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Only of this repository.
    #[arg(long)]
    repo: Option<RepoName>,
    /// Only of this branch (or full ref name).
    #[arg(long = "ref", value_name = "REF", value_parser = ref_name)]
    ref_name: Option<RefName>,
    /// Only in this state: pending, active, complete, failed or superseded.
    #[arg(long)]
    state: Option<RunState>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    format: Format,
}

#[derive(clap::Args)]
pub(super) struct One {
    /// The run.
    id: String,
    #[command(flatten)]
    format: Format,
}

#[derive(clap::Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    one: One,
    /// Run only what failed and what depends on it; what the other jobs returned is used again.
    #[arg(long)]
    failed: bool,
    /// Where it fails again, keep its container for a while.
    #[arg(long)]
    keep: bool,
}

#[derive(clap::Args)]
pub(super) struct LogsArgs {
    /// The run.
    id: String,
    /// Only this job's lines.
    #[arg(long)]
    job: Option<JobName>,
    /// The log of this service instead.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["job", "format", "json"])]
    service: Option<String>,
    /// Go on until the run ends.
    #[arg(long, short)]
    follow: bool,
    /// How to print it; json and yaml come whole, at the end.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    format: LogFormat,
    /// Same as --format json.
    #[arg(long)]
    json: bool,
    /// Text as it was printed, with whatever a terminal would act on; else only colours are let through.
    #[arg(long, conflicts_with_all = ["format", "json"])]
    raw: bool,
}

impl RunCommand {
    pub(super) fn json(&self) -> bool {
        match self {
            Self::List(list) => list.format.json,
            Self::Show(one) | Self::Wait(one) | Self::Cancel(one) => one.format.json,
            Self::Retry(retry) => retry.one.format.json,
            Self::Start(start) => start.format.json,
            Self::Attach(attach) => attach.format.json,
            Self::Logs(logs) => logs.json,
            Self::Artifacts(command) => command.json(),
        }
    }
}

/// A ref as people say it: a branch's name, or any full name.
pub(super) fn ref_name(text: &str) -> Result<RefName, crate::names::NameError> {
    if text.starts_with("refs/") {
        text.parse()
    } else {
        format!("refs/heads/{text}").parse()
    }
}

#[derive(Serialize)]
struct Runs<'a> {
    runs: &'a [Run],
}

#[derive(Serialize)]
struct Whole<'a> {
    run: &'a Run,
    jobs: &'a [JobRow],
    steps: &'a [StepRow],
    /// The container that is kept of it.
    kept: Option<Kept>,
}

/// Carries a command out.
pub(super) fn run(
    context: &Context<'_>,
    command: &RunCommand,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let store = context.store()?;
    let find = |one: &One| store.resolve_run(&one.id);
    let get = |id: RunId| {
        store
            .run(id)?
            .ok_or_else(|| Failure::not_found(format!("there is no run `{id}` any more")))
    };
    match command {
        RunCommand::Artifacts(command) => artifacts::artifacts(context, &store, command, out),
        RunCommand::List(args) => {
            let filter = RunFilter {
                repo: args.repo.clone(),
                ref_name: args.ref_name.clone(),
                state: args.state,
                before: None,
                limit: args.limit,
            };
            list(&store.list_runs(&filter)?, out)
        }
        RunCommand::Show(one) => {
            let run = get(find(one)?)?;
            let jobs = if out.json {
                store.jobs(run.id)?
            } else {
                store.jobs_without_outputs(run.id)?
            };
            show(
                &run,
                &jobs,
                &store.steps(run.id)?,
                store.kept_container(run.id)?,
                out,
            )
        }
        RunCommand::Cancel(one) => {
            let id = find(one)?;
            let asked = store.request_cancel(id)?;
            hook::wake(context.paths);
            let run = get(id)?;
            if !asked && run.state.is_final() {
                if store.release_container(id)? {
                    return told(&run, "has ended; its container goes within a minute", out);
                }
                return Err(Failure::failed(format!(
                    "run {id} has ended already: it is {}",
                    run.state
                )));
            }
            told(
                &run,
                if run.state.is_final() {
                    "canceled"
                } else {
                    "asked to stop"
                },
                out,
            )
        }
        RunCommand::Attach(args) => attach::attach(context, store.resolve_run(&args.id)?, args),
        RunCommand::Start(args) => told(&start::start(context, args)?, "queued", out),
        RunCommand::Retry(args) => {
            let run = store.retry(
                find(&args.one)?,
                Repeat {
                    only_failed: args.failed,
                    keep: args.keep,
                },
            )?;
            hook::wake(context.paths);
            told(&run, "queued", out)
        }
        RunCommand::Wait(one) => {
            let id = find(one)?;
            let mut appliance = Appliance::new(store.clone(), context.paths);
            let run = follow::to_end(&mut appliance, id, true, &mut Hush::new(out.json))?;
            if out.json {
                out.json(&Runs {
                    runs: std::slice::from_ref(&run),
                })?;
            }
            ended(&run, out.json)
        }
        RunCommand::Logs(args) => {
            let mut appliance = Appliance::new(store.clone(), context.paths);
            let id = store.resolve_run(&args.id)?;
            if let Some(service) = &args.service {
                let run = logs::service(
                    &mut appliance,
                    context.paths,
                    id,
                    service,
                    args.follow,
                    Cleaning::new(args.raw),
                    out,
                )?;
                return if args.follow {
                    ended(&run, false)
                } else {
                    Ok(())
                };
            }
            let format = if args.json {
                LogFormat::Json
            } else {
                args.format
            };
            let cleaning = Cleaning::new(args.raw);
            let run = logs::logs(
                &mut appliance,
                id,
                args.job.as_ref(),
                args.follow,
                format,
                cleaning,
                out,
            )?;
            if let Some(at) = run.logs_removed_at_ms {
                follow::say(&format!(
                    "the log of this run was removed by retention (`:keep`) on {at}"
                ));
            }
            if args.follow {
                ended(&run, format != LogFormat::Text)
            } else {
                Ok(())
            }
        }
    }
}

/// The outcome: a line on standard error, and as the exit code.
fn ended(run: &Run, quiet: bool) -> Result<(), Failure> {
    if !quiet {
        follow::say(&outcome(run));
    }
    if run.state == RunState::Complete {
        Ok(())
    } else {
        Err(Failure::silent(FAILED))
    }
}

/// How a run ended, in one line.
fn outcome(run: &Run) -> String {
    let mut text = format!("run {} {}", run.id, run.state);
    if let Some(kind) = run.failure_kind {
        text += &format!(" ({kind})");
    }
    if let (Some(start), Some(end)) = (run.started_at_ms, run.finished_at_ms) {
        text += &format!(" after {}", span(end.since(start)));
    }
    if let Some(by) = run.superseded_by {
        text += &format!("; run {by} took its place");
    }
    if let Some(message) = &run.message {
        text += &format!(": {message}");
    }
    text
}

/// One run to which something was done.
fn told(run: &Run, what: &str, out: &mut Out<'_>) -> Result<(), Failure> {
    if out.json {
        out.json(&Runs {
            runs: std::slice::from_ref(run),
        })
    } else {
        out.line(&format!("run {} {what}", run.id))
    }
}

fn list(runs: &[Run], out: &mut Out<'_>) -> Result<(), Failure> {
    if out.json {
        return out.json(&Runs { runs });
    }
    if runs.is_empty() {
        return out.line("no runs");
    }
    let cells = |run: &Run| -> [Cell; 8] {
        [
            run.id.to_string().into(),
            run.state.into(),
            run.repo.as_str().into(),
            run.ref_name.short().into(),
            run.sha.short().into(),
            out.when(Some(run.queued_at_ms)).into(),
            out.took(run.started_at_ms, run.finished_at_ms).into(),
            short(
                run.message
                    .as_deref()
                    .or(run.failure_kind.map(crate::run::FailureKind::as_str))
                    .unwrap_or_default(),
                60,
            )
            .into(),
        ]
    };
    let rows: Vec<_> = runs.iter().map(cells).collect();
    out.table(
        [
            "RUN",
            "STATE",
            "REPOSITORY",
            "REF",
            "COMMIT",
            "QUEUED",
            "TOOK",
            "WHY",
        ],
        &rows,
    )
}

fn show(
    run: &Run,
    jobs: &[JobRow],
    steps: &[StepRow],
    kept: Option<Kept>,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    if out.json {
        return out.json(&Whole {
            run,
            jobs,
            steps,
            kept,
        });
    }
    let mut facts: Vec<[Cell; 2]> = vec![
        ["run".into(), run.id.to_string().into()],
        ["state".into(), run.state.into()],
        ["repository".into(), run.repo.as_str().into()],
        ["ref".into(), run.ref_name.as_str().into()],
        ["commit".into(), run.sha.as_str().into()],
        ["trigger".into(), run.trigger.as_str().into()],
        ["queued".into(), out.when(Some(run.queued_at_ms)).into()],
        [
            "took".into(),
            out.took(run.started_at_ms, run.finished_at_ms).into(),
        ],
    ];
    let optional = [
        ("failure", run.failure_kind.map(|kind| kind.to_string())),
        ("why", run.message.clone()),
        ("pusher", run.pusher.clone()),
        ("executor", run.executor.map(|kind| kind.to_string())),
        ("image", run.image_tag.clone()),
        (
            "repeats",
            run.retry_of.map(|id| {
                if run.only_failed {
                    format!("what failed of {id}")
                } else {
                    id.to_string()
                }
            }),
        ),
        ("only job", run.only_job.clone()),
        (
            "kept",
            kept.map(|kept| {
                format!(
                    "its container, until {}; `run attach {}`",
                    kept.until_ms, run.id
                )
            }),
        ),
        ("group", run.group_name.clone()),
        (
            "source",
            Some(run.source.clone()).filter(|_| run.trigger != Trigger::Push),
        ),
        (
            "parameters",
            run.params
                .as_ref()
                .filter(|params| !params.is_empty())
                .map(parameters),
        ),
        ("superseded by", run.superseded_by.map(|id| id.to_string())),
    ];
    facts.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some([name.into(), value?.into()])),
    );
    let width = facts
        .iter()
        .map(|[name, _]| name.width())
        .max()
        .unwrap_or(0);
    for [name, value] in facts {
        out.line(&format!("{:<width$}  {}", name.plain(), value.plain()))?;
    }
    if !jobs.is_empty() {
        out.line("")?;
        let row = |job: &JobRow| {
            let took = out.took(job.started_at_ms, job.finished_at_ms);
            [
                job.job_id.as_str().into(),
                job.state.as_str().into(),
                took.into(),
                short(
                    &job.reused_from
                        .map(|run| format!("result of run {run}"))
                        .or(job.message.clone())
                        .unwrap_or_default(),
                    80,
                )
                .into(),
            ]
        };
        let rows: Vec<_> = jobs.iter().map(row).collect();
        out.table(["JOB", "STATE", "TOOK", "WHY"], &rows)?;
    }
    if !steps.is_empty() {
        out.line("")?;
        let row = |step: &StepRow| {
            let exit = step
                .exit_code
                .map_or_else(|| "-".to_owned(), |code| code.to_string());
            let took = out.took(Some(step.started_at_ms), step.finished_at_ms);
            [
                step.seq.to_string().into(),
                step.job_id.as_str().into(),
                exit.into(),
                took.into(),
                short(&step.command, 80).into(),
            ]
        };
        let rows: Vec<_> = steps.iter().map(row).collect();
        out.table(["STEP", "JOB", "EXIT", "TOOK", "COMMAND"], &rows)?;
    }
    Ok(())
}

/// Parameters as they are typed.
fn parameters(params: &serde_json::Map<String, serde_json::Value>) -> String {
    let one = |(name, value): (&String, &serde_json::Value)| {
        format!("{name}={}", short(value.as_str().unwrap_or_default(), 60))
    };
    params.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The first line of a text, shortened.
pub(super) fn short(text: &str, limit: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut = line.chars().count() > limit || text.lines().nth(1).is_some();
    let mut short: String = line.chars().take(limit).collect();
    if cut {
        short.push('…');
    }
    short
}
