//! `quire ci run`: runs the pipeline of a tree on this machine.
//!
//! ```text
//! plan (tree, driver, jobs, executor) ─► scratch folder ─► workspace ─► jobs ─► removal ─► exit code
//!                                             └ logs ─► printer, while they grow
//! ```
//! On every path the workspace is stopped and the scratch folder removed.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::CiError;
use super::execute::execute;
use super::executor_choice::ExecutorArg;
use super::interrupt::StopSignals;
use super::live_output::LiveOutput;
use super::printer::{RunPrinter, follow};
use super::progress::RunProgress;
use super::run_arguments::RunArguments;
use super::run_plan::RunPlan;
use super::scratch_dir::ScratchDir;
use quire_executor::{ExecutorError, Workspace};
use quire_run_files::artifacts::{self, StoredArtifact};
use quire_run_files::logs::{Cursor, DEFAULT_CAP_BYTES, LogFollower, RunLog};
use quire_runtime::changes::ChangeNotifier;
use quire_types::clock::Clock;
use quire_types::run::Outcome;
use quire_types::secret::{Redactor, Secret};
use quire_types::text::format_elapsed;

/// How long the last lines may take to be printed after the user asked to stop.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// The waits between attempts to stop the workspace.
const STOP_RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// Runs `quire ci run`.
pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    // Two threads, because one may block on the reader of the output.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return CiError::Start(error).print(),
    };
    let code = runtime.block_on(run_tree(arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code.map_or_else(|error| error.print(), ExitCode::from)
}

async fn run_tree(arguments: &RunArguments) -> Result<u8, CiError> {
    if arguments.image.is_some() && arguments.executor == Some(ExecutorArg::Host) {
        return Err(CiError::Usage(
            "--image needs a container and --executor host uses none; leave one of them out",
        ));
    }
    let interrupt = StopSignals::listen().map_err(CiError::Start)?;
    let plan = RunPlan::prepare(arguments);
    match interrupt.stop.run_until_cancelled(plan).await {
        Some(plan) => run_plan(plan?, &interrupt).await,
        None => Ok(interrupt.code()),
    }
}

async fn run_plan(plan: RunPlan, interrupt: &StopSignals) -> Result<u8, CiError> {
    let scratch = ScratchDir::create(plan.run)?;
    let clock = Clock::system();
    let live = ChangeNotifier::default();
    let log = RunLog::create(
        scratch.path().to_owned(),
        Redactor::new(std::iter::empty::<(String, &Secret)>()),
        DEFAULT_CAP_BYTES,
        clock.clone(),
        live.clone(),
        plan.run,
    );
    let log = log.map_err(|error| CiError::Write(scratch.path().to_owned(), error))?;
    let progress = RunProgress::new(clock.clone(), live.clone(), plan.run);

    // The output ends by its own token: what the run logs while it stops is printed as well.
    let over = CancellationToken::new();
    let printing = tokio::spawn({
        plan.tree.print_warnings();
        let header = plan.header();
        let name_width = plan.name_width();
        let progress = progress.clone();
        let changes = live.subscribe_run(plan.run);
        let over = over.clone();
        let stop = interrupt.stop.clone();
        let follower = LogFollower::open(scratch.path().to_owned(), Cursor::default());
        async move {
            let mut printer = RunPrinter::standard(name_width);
            let mut printed = printer.say(&header);
            if printed.is_ok() {
                printed = follow(&mut printer, &progress, changes, follower, &over).await;
            }
            if printed.is_err() {
                // The reader of the output is gone.
                stop.cancel();
            }
            (printer, printed)
        }
    });

    let started_at = clock.now();
    let run = plan.run;
    let artifacts_dir = plan.artifacts.clone();
    let in_container = plan.executor.name == "docker";
    let executor = plan.executor.executor.clone();
    let execution = execute(plan, &scratch, &log, &progress, interrupt).await;
    let (workspace, outcome, built) = match execution {
        Ok(execution) => (execution.workspace, Ok(execution.outcome), execution.built),
        Err(error) => (None, Err(error), None),
    };
    over.cancel();
    let removed = stop_workspace(workspace, interrupt).await;
    if let (Some(image), Some(images)) = (built, executor.images()) {
        // One that stays does no harm, and is used again for the same commit.
        let _ = images.remove(&image).await;
    }
    executor.shut_down().await;
    progress.close();
    let ending = RunEnding {
        outcome,
        elapsed: clock.now().since(started_at),
    };
    let code = print_ending(printing, ending, &progress, &log, interrupt).await;
    report_artifacts(artifacts_dir.as_deref(), &progress.artifacts());
    if let Err(error) = removed {
        let hint = if in_container {
            format!("; remove it with `docker rm --force quire-{run}`")
        } else {
            String::new()
        };
        eprintln!("quire: the workspace could not be removed: {error}{hint}");
        return Ok(code?.max(1));
    }
    code
}

type Printing = JoinHandle<(RunPrinter<LiveOutput>, std::io::Result<()>)>;

/// How a run ended: its outcome, `None` if it was stopped, and its duration in milliseconds.
struct RunEnding {
    outcome: Result<Option<Outcome>, CiError>,
    elapsed: u64,
}

/// Waits until everything is printed, prints the summary and returns the exit code.
async fn print_ending(
    printing: Printing,
    ending: RunEnding,
    progress: &RunProgress,
    log: &RunLog,
    interrupt: &StopSignals,
) -> Result<u8, CiError> {
    // A reader that takes no output must not keep a stopped run from ending.
    let stopped_and_late = async {
        interrupt.stop.cancelled().await;
        tokio::time::sleep(LAST_OUTPUT_TIMEOUT).await;
    };
    let (mut printer, printed) = tokio::select! {
        printed = printing => printed.map_err(|error| CiError::Start(error.into()))?,
        () = stopped_and_late => return Ok(interrupt.code()),
    };
    if let Err(error) = printed {
        return match error.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(interrupt.code()),
            _ => Err(CiError::Output(error)),
        };
    }
    let elapsed = format_elapsed(ending.elapsed);
    let (code, headline) = match ending.outcome? {
        Some(Outcome::Complete) => (0, format!("complete in {elapsed}")),
        Some(Outcome::Failed(_, message)) => (1, format!("failed after {elapsed}: {message}")),
        Some(Outcome::Canceled | Outcome::Superseded) | None => {
            (interrupt.code(), format!("stopped after {elapsed}"))
        }
    };
    let headline = log.redactor().redact_text(&headline);
    let (jobs, steps) = progress.all();
    let printed = printer.summary(code == 0, &headline, &jobs, &steps);
    if let Some(error) = log.take_error() {
        eprintln!("quire: some of the log was lost: {error}");
    }
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CiError::Output(error)),
        _ => Ok(code),
    }
}

/// Stops and removes the workspace, with retries until the second signal.
async fn stop_workspace(
    workspace: Option<Arc<dyn Workspace>>,
    interrupt: &StopSignals,
) -> Result<(), ExecutorError> {
    let Some(workspace) = workspace else {
        return Ok(());
    };
    let stop_and_remove = async || {
        workspace.stop().await?;
        workspace.remove().await
    };
    let stopped = async {
        let mut result = stop_and_remove().await;
        for delay in STOP_RETRY_DELAYS {
            if result.is_ok() {
                break;
            }
            tokio::time::sleep(delay).await;
            result = stop_and_remove().await;
        }
        result
    };
    let given_up = ExecutorError::Failed {
        attempt: "remove the workspace",
        message: "interrupted by a second signal".to_owned(),
    };
    interrupt
        .give_up
        .run_until_cancelled(stopped)
        .await
        .unwrap_or(Err(given_up))
}

/// Prints where the artifacts are, or that they were not kept.
fn report_artifacts(folder: Option<&Path>, kept: &[StoredArtifact]) {
    if kept.is_empty() {
        return;
    }
    let count = match kept.len() {
        1 => "1 artifact".to_owned(),
        count => format!("{count} artifacts"),
    };
    let Some(folder) = folder else {
        eprintln!("quire: {count} removed with the run; use --artifacts DIR to keep artifacts");
        return;
    };
    for (name, error) in artifacts::export_to(folder, kept) {
        eprintln!(
            "quire: artifact {name} could not be unpacked in {}: {error}",
            folder.display()
        );
    }
    eprintln!("quire: {count} in {}", folder.display());
}
