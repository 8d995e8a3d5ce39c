//! `quire ci run`: the pipeline of a tree, played here and now.
//!
//! ```text
//! plan (tree, driver, jobs, executor) ─► scratch folder ─► workspace ─► play ─► tear down ─► exit code
//!                                             └ logs ─► screen, while they grow
//! ```
//! Whatever happens in between, the workspace is stopped and the scratch folder removed.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::super::output::span;
use super::CiError;
use super::archive::{FolderTree, all_files};
use super::board::Board;
use super::engine::{Choice, Wanted, choose};
use super::interrupt::Interrupt;
use super::push::Push;
use super::screen::{Screen, follow};
use super::stage::Stage;
use super::tree::{Subject, here};
use crate::artifacts::{self, Keeper, Kept};
use crate::clock::Clock;
use crate::config;
use crate::driver::protocol::DOCKERFILE;
use crate::executor::{
    ExecutorError, ImageSource, OutputSink, ResourceLimits, StartObserver, StartSpec, Stream, Tree,
    Workspace,
};
use crate::git::{Checkout, Git};
use crate::live::Live;
use crate::logs::{Cursor, DEFAULT_CAP_BYTES, LogFollower, RunLog, StepLog};
use crate::names::{JobName, NameError, RefName, RunId};
use crate::paths::Paths;
use crate::pipeline::{Schedule, Source};
use crate::run::Outcome;
use crate::runner::play::{Scene, executor_failed, play};
use crate::runner::prepare::{self, Prepared, image};
use crate::runner::service::ServiceOutput;
use crate::runner::{GitTree, Recorder as _, SecretSource};
use crate::secret::{Redactor, Secret};

/// How long the last lines may take to be printed once somebody wants to stop.
const LAST_LINES: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// Only these jobs, and those that they wait for
    #[arg(value_name = "JOB")]
    jobs: Vec<JobName>,
    /// Where commands run [default: docker where an engine answers, else host]
    #[arg(long, value_enum)]
    executor: Option<Wanted>,
    /// The image that commands run in, instead of the pipeline's own
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// The branch that counts as pushed [default: the one that is checked out]
    #[arg(long, conflicts_with = "tag")]
    branch: Option<String>,
    /// The tag that counts as pushed, instead of a branch
    #[arg(long)]
    tag: Option<String>,
    /// Run this commit instead of the working tree
    #[arg(long, value_name = "REV")]
    sha: Option<String>,
    /// Keep artifacts in this folder, which is made and must be empty
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// What the run starts from: push, manual, or the name of a schedule
    #[arg(long, value_name = "SOURCE", default_value = "push", value_parser = source)]
    source: Source,
}

impl RunArguments {
    /// The ref that shall count as pushed.
    fn wanted(&self) -> Result<Option<RefName>, NameError> {
        let branch = self
            .branch
            .iter()
            .map(|branch| format!("refs/heads/{branch}"));
        let tag = self.tag.iter().map(|tag| format!("refs/tags/{tag}"));
        branch
            .chain(tag)
            .next()
            .map(|name| name.parse())
            .transpose()
    }
}

/// A source, as people type it.
fn source(name: &str) -> Result<Source, String> {
    let full = if name.starts_with("quire/") {
        name.to_owned()
    } else if ["push", "manual"].contains(&name) {
        format!("quire/{name}")
    } else {
        format!("quire/cron/{name}")
    };
    Source::from_name(&full)
        .ok_or_else(|| "it is push, manual, or the name of a schedule".to_owned())
}

/// Runs `quire ci run`.
pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    // Two threads: one may wait for whoever reads the output.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return CiError::Start(error).print(),
    };
    let code = runtime.block_on(run_here(arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code.map_or_else(|error| error.print(), ExitCode::from)
}

async fn run_here(arguments: &RunArguments) -> Result<u8, CiError> {
    if arguments.image.is_some() && arguments.executor == Some(Wanted::Host) {
        return Err(CiError::Usage(
            "--image says which container to run in, and --executor host runs in none: leave one of them out",
        ));
    }
    let interrupt = Interrupt::listen().map_err(CiError::Start)?;
    match interrupt
        .stop
        .run_until_cancelled(Plan::make(arguments))
        .await
    {
        Some(plan) => plan?.run(&interrupt).await,
        None => Ok(interrupt.code()),
    }
}

/// All that is decided before anything runs.
struct Plan {
    run: RunId,
    source: Source,
    subject: Subject,
    checkout: Option<Checkout>,
    /// Of a working tree: what it consists of.
    files: Arc<[PathBuf]>,
    push: Push,
    prepared: Prepared,
    image: ImageSource,
    choice: Choice,
    /// Where artifacts are kept, if they are to outlive the run.
    artifacts: Option<PathBuf>,
}

impl Plan {
    async fn make(arguments: &RunArguments) -> Result<Self, CiError> {
        let folder = here()?;
        let program = std::env::current_exe().map_err(CiError::Start)?;
        let run = RunId::new();
        let source = arguments.source.clone();
        let subject = Subject::find(&folder, arguments.sha.as_deref()).await?;
        let (pipeline, driver) = subject.register(&program).await?;
        let parallel = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let schedule =
            Schedule::new(&pipeline, &source.to_string(), &arguments.jobs)?.with_limit(parallel);
        let checkout = match &subject.commit {
            Some((checkout, _)) => Some(checkout.clone()),
            None => Checkout::find(&subject.root).await?,
        };
        let files = match (&subject.commit, &checkout) {
            (Some(_), _) => Vec::new(),
            (None, Some(checkout)) => checkout.files().await?,
            (None, None) => {
                all_files(&subject.root).map_err(|(path, error)| CiError::Read(path, error))?
            }
        };
        let push = Push::find(&subject, checkout.as_ref(), arguments.wanted()?).await?;
        let choice = choose(arguments.executor, &subject.root, run).await?;
        let image = match &arguments.image {
            Some(reference) => ImageSource::Reference(reference.clone()),
            None => image(&pipeline, &config::Ci::default().image),
        };
        let artifacts = arguments
            .artifacts
            .as_deref()
            .map(empty_folder)
            .transpose()?;
        let prepared = Prepared {
            pipeline,
            schedule,
            driver,
        };
        Ok(Self {
            run,
            source,
            subject,
            checkout,
            files: files.into(),
            push,
            prepared,
            image,
            choice,
            artifacts,
        })
    }

    async fn run(self, interrupt: &Interrupt) -> Result<u8, CiError> {
        let scratch = Scratch::new(self.run)?;
        let (clock, live) = (Clock::system(), Live::default());
        let redactor = Redactor::new(std::iter::empty::<(String, &Secret)>());
        let log = RunLog::create(
            scratch.0.clone(),
            redactor,
            DEFAULT_CAP_BYTES,
            clock.clone(),
            live.clone(),
            self.run,
        );
        let log = log.map_err(|error| CiError::Write(scratch.0.clone(), error))?;
        let board = Board::new(clock.clone(), live.clone(), self.run);
        let (opening, gutter, container) =
            (self.opening(), self.gutter(), self.choice.word == "docker");

        // Another token than the signal's: what the run says while it ends is shown as well.
        let over = CancellationToken::new();
        let shown = tokio::spawn({
            let (board, changes, over, stop) = (
                board.clone(),
                live.watch_run(self.run),
                over.clone(),
                interrupt.stop.clone(),
            );
            let follower = LogFollower::open(scratch.0.clone(), Cursor::default());
            async move {
                let mut screen = Screen::standard(gutter);
                let mut shown = screen.say(&opening);
                if shown.is_ok() {
                    shown = follow(&mut screen, &board, changes, follower, &over).await;
                }
                if shown.is_err() {
                    // Nobody listens any more.
                    stop.cancel();
                }
                (screen, shown)
            }
        });
        let (began, run, artifacts) = (clock.now(), self.run, self.artifacts.clone());
        let mut workspace = None;
        let end = self
            .play(&scratch, &log, &board, interrupt, &mut workspace)
            .await;
        over.cancel();
        let removed = tear_down(workspace, interrupt).await;
        board.close();
        let ended = conclude(
            shown,
            end,
            &board,
            &log,
            clock.now().since(began),
            interrupt,
        )
        .await;
        say_what_was_kept(artifacts.as_deref(), &board.artifacts());
        if let Err(error) = removed {
            let left = if container {
                format!("; `docker rm --force quire-{run}` does it")
            } else {
                String::new()
            };
            eprintln!("quire: the workspace could not be removed: {error}{left}");
            return Ok(ended?.max(1));
        }
        ended
    }

    /// Starts the workspace and plays the pipeline in it. None where it was stopped.
    async fn play(
        self,
        scratch: &Scratch,
        log: &RunLog,
        board: &Board,
        interrupt: &Interrupt,
        workspace: &mut Option<Arc<dyn Workspace>>,
    ) -> Result<Option<Outcome>, CiError> {
        let paths = Paths::new(&scratch.0, &scratch.0);
        let git = Git::new(&paths);
        // A board takes everything.
        let _ = board.jobs_registered(&self.prepared.jobs());
        let values = self
            .push
            .values(
                &git,
                self.run,
                &self.subject,
                self.checkout.as_ref(),
                &self.files,
            )
            .await?;
        let limits = config::Ci::default();
        let timeout = self
            .prepared
            .pipeline
            .timeout_ms()
            .map_or(limits.timeout, Duration::from_millis);
        let most = ResourceLimits {
            memory: limits.memory,
            milli_cpus: limits.cpus,
            pids: limits.pids,
            network: limits.network,
        };
        let env = self
            .push
            .pushed(self.run)
            .environment(self.prepared.pipeline.env());
        let spec = StartSpec {
            run: self.run,
            repo: self.push.repo.clone(),
            image: self.image.clone(),
            tree: self.tree(git),
            limits: prepare::limits(&self.prepared.pipeline, &most),
            env: env.clone(),
            caches: prepare::caches(&self.prepared.pipeline),
            services: prepare::services(&self.prepared.pipeline),
            workspace: Paths::workspace(&scratch.0),
        };
        let began = tokio::time::Instant::now();
        let mut observer = LogObserver(log.own().ok(), log.clone());
        let started = self
            .choice
            .executor
            .start(spec, &mut observer, interrupt.stop.clone())
            .await;
        observer.finish();
        let started: Arc<dyn Workspace> = match started {
            Ok(started) => started.into(),
            Err(ExecutorError::Cancelled) => return Ok(None),
            Err(error) => {
                let (kind, message) = executor_failed(&error);
                return Ok(Some(Outcome::Failed(kind, message)));
            }
        };
        *workspace = Some(started.clone());
        let values = Map::from_iter([(self.source.to_string(), Value::Object(values))]);
        let recorder = Arc::new(board.clone());
        // Without a folder of the author's they are kept all the same, so that what cannot be kept shows.
        let folder = self
            .artifacts
            .clone()
            .unwrap_or_else(|| scratch.0.join("artifacts"));
        let artifacts = Keeper::new(folder, limits.max_artifacts);
        let scene = Scene {
            recorder,
            log: log.clone(),
            workspace: started,
            values,
            env,
            secrets: secrets(),
            artifacts,
            began,
            timeout,
        };
        Ok(play(self.prepared, scene, interrupt.stop.clone()).await)
    }

    fn tree(&self, git: Git) -> Arc<dyn Tree> {
        match &self.subject.commit {
            Some((checkout, sha)) => {
                let (repo, sha) = (checkout.repository().to_owned(), sha.clone());
                Arc::new(GitTree {
                    git,
                    repo,
                    sha,
                    dockerfile: self.subject.dockerfile,
                    tree: None,
                })
            }
            None => {
                let dockerfile = self.files.iter().any(|file| file.as_os_str() == DOCKERFILE);
                Arc::new(FolderTree {
                    root: self.subject.root.clone(),
                    files: self.files.clone(),
                    dockerfile,
                })
            }
        }
    }

    /// What stands above everything.
    fn opening(&self) -> String {
        let what = if self.subject.commit.is_some() {
            "commit"
        } else {
            "working tree"
        };
        let note = self.choice.note.as_ref().map_or_else(String::new, |note| {
            format!("quire: {note}; commands run on this machine\n")
        });
        format!(
            "{note}quire: {} of the {what}, {}, executor {}",
            self.subject.source.file,
            self.push.words(),
            self.choice.word
        )
    }

    /// The width of the longest job's name, where there are several.
    fn gutter(&self) -> Option<usize> {
        let jobs = self.prepared.schedule.jobs();
        let width = jobs.iter().map(|job| job.as_str().chars().count()).max();
        width.filter(|_| jobs.len() > 1)
    }
}

type Shown = tokio::task::JoinHandle<(Screen<Stage>, std::io::Result<()>)>;

/// Waits until everything is printed, prints the summary, and gives the exit code.
async fn conclude(
    shown: Shown,
    end: Result<Option<Outcome>, CiError>,
    board: &Board,
    log: &RunLog,
    took: u64,
    interrupt: &Interrupt,
) -> Result<u8, CiError> {
    // Whoever stops a run whose output nobody takes is not kept waiting.
    let late = async {
        interrupt.stop.cancelled().await;
        tokio::time::sleep(LAST_LINES).await;
    };
    let (mut screen, shown) = tokio::select! {
        shown = shown => shown.map_err(|error| CiError::Start(error.into()))?,
        () = late => return Ok(interrupt.code()),
    };
    if let Err(error) = shown {
        return match error.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(interrupt.code()),
            _ => Err(CiError::Show(error)),
        };
    }
    let took = span(took);
    let (code, headline) = match end? {
        Some(Outcome::Complete) => (0, format!("complete in {took}")),
        Some(Outcome::Failed(_, message)) => (1, format!("failed after {took}: {message}")),
        Some(Outcome::Superseded) | None => (interrupt.code(), format!("stopped after {took}")),
    };
    let (jobs, steps) = board.all();
    let printed = screen.summary(
        code == 0,
        &log.redactor().redact_text(&headline),
        &jobs,
        &steps,
    );
    if let Some(error) = log.take_error() {
        eprintln!("quire: some of the log was lost: {error}");
    }
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CiError::Show(error)),
        _ => Ok(code),
    }
}

/// Stops the workspace; tries again while the engine stumbles and nobody has lost patience.
async fn tear_down(
    workspace: Option<Arc<dyn Workspace>>,
    interrupt: &Interrupt,
) -> Result<(), ExecutorError> {
    let Some(workspace) = workspace else {
        return Ok(());
    };
    let stopped = async {
        let mut result = workspace.stop().await;
        for wait in [200, 1000, 3000] {
            if result.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            result = workspace.stop().await;
        }
        result
    };
    let given_up = ExecutorError::Other {
        attempt: "remove the workspace",
        message: "given up at the second signal".to_owned(),
    };
    interrupt
        .give_up
        .run_until_cancelled(stopped)
        .await
        .unwrap_or(Err(given_up))
}

/// Makes a folder that is to hold nothing but what is kept.
fn empty_folder(folder: &Path) -> Result<PathBuf, CiError> {
    let write = |error| CiError::Write(folder.to_owned(), error);
    std::fs::create_dir_all(folder).map_err(write)?;
    match std::fs::read_dir(folder).map_err(write)?.next() {
        None => std::path::absolute(folder).map_err(write),
        Some(_) => Err(CiError::Usage(
            "--artifacts names a folder that is not empty: name another, or one that does not exist yet",
        )),
    }
}

/// Where the artifacts are, or that they are nowhere.
fn say_what_was_kept(folder: Option<&Path>, kept: &[Kept]) {
    match folder {
        _ if kept.is_empty() => {}
        None => eprintln!(
            "quire: {} went with the run; --artifacts DIR keeps artifacts",
            counted(kept.len())
        ),
        Some(folder) => {
            for (kept, error) in artifacts::lay_out(folder, kept) {
                eprintln!(
                    "quire: the artifact {kept} is still packed under another name in {}: {error}",
                    folder.display()
                );
            }
            eprintln!("quire: {} in {}", counted(kept.len()), folder.display());
        }
    }
}

fn counted(artifacts: usize) -> String {
    if artifacts == 1 {
        "1 artifact".to_owned()
    } else {
        format!("{artifacts} artifacts")
    }
}

/// Secrets come from the environment: `deploy-key` is `QUIRE_SECRET_DEPLOY_KEY`.
fn secrets() -> SecretSource {
    Arc::new(|name| {
        let variable: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let source = config::SecretSource::Environment(format!("QUIRE_SECRET_{variable}"));
        source
            .read(name, |variable| std::env::var(variable).ok())
            .map_err(|error| error.to_string())
    })
}

/// What happens while a workspace starts, for the run's log.
struct LogObserver(Option<StepLog>, RunLog);

impl LogObserver {
    fn finish(self) {
        if let Some(log) = self.0 {
            log.finish();
        }
    }
}

impl StartObserver for LogObserver {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.0 {
            log.write(stream, bytes);
        }
    }

    fn build_started(&mut self) {}

    fn build_finished(&mut self, _tag: &str) {}

    fn container_created(&mut self, _id: &str, _image: &str) {}

    fn container_started(&mut self) {}

    fn service_output(&mut self, service: &str) -> Box<dyn OutputSink> {
        Box::new(ServiceOutput::open(&self.1, service))
    }
}

/// A folder for the run's logs, and on the host its workspace; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(run: RunId) -> Result<Self, CiError> {
        let path = std::env::temp_dir().join(format!("quire-ci-{run}"));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| Self(path.clone()))
            .map_err(|error| CiError::Write(path, error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("quire: {} could not be removed: {error}", self.0.display());
        }
    }
}
