//! Commands as child processes in a workspace on disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_run_files::logs::Stream;
use quire_runtime::process::{ProcessTree, SessionChild, SessionProgram};
use quire_types::names::RunId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::child_output::ChildPipes;
use super::running::RunningGuard;
use super::spawn_diagnosis::{diagnose, find_program};
use super::workspace_dir;
use super::workspace_root::WorkspaceRoot;
use crate::api::{CommandEnd, CommandSpec, OutputSink, Workspace};
use crate::command::{check, missing_workdir, process_marker, run_marker, text_for_a_file};
use crate::error::{ExecutorError, InvalidCommand};
use crate::tar_stream::TarStream;

/// How long the last output of processes that were killed may take to arrive.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a workspace consists of.
pub(super) struct HostWorkspaceSpec {
    pub(super) instance: String,
    pub(super) run: RunId,
    /// The folder, without links on its path.
    pub(super) dir: PathBuf,
    /// The environment of every command.
    pub(super) env: Vec<(String, String)>,
    pub(super) root: WorkspaceRoot,
    pub(super) running: RunningGuard,
}

/// A file with the text of a command, which is removed with the command.
struct CommandText(PathBuf);

impl Drop for CommandText {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The workspace of a run on disk.
pub(super) struct HostWorkspace {
    instance: String,
    run: RunId,
    dir: PathBuf,
    env: Vec<(String, String)>,
    root: Arc<WorkspaceRoot>,
    /// How many commands were started.
    started: AtomicU64,
    /// Fires when the workspace stops.
    stopped: CancellationToken,
    /// Where the workspace was when it was stopped: the link that redirects to a folder that has
    /// moved goes with the end of the run.
    last_dir: Mutex<Option<PathBuf>>,
    /// The tasks that read what processes in the background write.
    followers: TaskTracker,
    _running: RunningGuard,
}

impl HostWorkspace {
    pub(super) fn new(spec: HostWorkspaceSpec) -> Self {
        Self {
            instance: spec.instance,
            run: spec.run,
            dir: spec.dir,
            env: spec.env,
            root: Arc::new(spec.root),
            started: AtomicU64::new(0),
            stopped: CancellationToken::new(),
            last_dir: Mutex::default(),
            followers: TaskTracker::new(),
            _running: spec.running,
        }
    }

    async fn run_command(
        &self,
        command: CommandSpec,
        mut sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> Result<CommandEnd, ExecutorError> {
        let cwd = self.working_directory(&check(&command)?).await?;
        if cancel.is_cancelled() || self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let processes = ProcessTree {
            marker: process_marker(&self.instance, self.run, number),
            folder: None,
        };
        let text = match self.write_text(&command, number) {
            Ok(text) => text,
            Err(error) => return Err(ExecutorError::caused_by("write the command", &error)),
        };
        let environment = self.environment(&command, &processes.marker);
        let path = environment.get("PATH").copied().unwrap_or_default();
        let started = start(&command, text.as_ref(), &environment, path, &cwd);
        let (mut child, mut pipes) = match started {
            Ok(started) => started,
            Err(error) => {
                let program = command.argv.first().map_or("", String::as_str);
                let (code, line) = diagnose(program, path, &cwd, &error).exit(program);
                sink.output(Stream::Stderr, line.as_bytes());
                return Ok(CommandEnd::Exited(code));
            }
        };
        let ended = tokio::select! {
            ended = pipes.follow(&mut child, command.stdin, &mut *sink) => Some(ended),
            () = sleep_or_never(command.timeout) => None,
            () = cancel.cancelled() => None,
            () = self.stopped.cancelled() => None,
        };
        if ended.is_some() && self.stopped.is_cancelled() {
            // The stop kills everything of the run, and this command may have ended by it.
            return Ok(CommandEnd::Cancelled);
        }
        if let Some(code) = ended {
            let code =
                code.map_err(|error| ExecutorError::caused_by("follow the command", &error))?;
            if let Some(mut outputs) = pipes.into_open_outputs() {
                // Of processes in the background, which the end of the run kills.
                self.followers
                    .spawn(async move { outputs.pass_on(&mut *sink).await });
            }
            return Ok(CommandEnd::Exited(code));
        }
        let cancelled = cancel.is_cancelled() || self.stopped.is_cancelled();
        processes
            .end()
            .await
            .map_err(|error| ExecutorError::caused_by("end the command", &error))?;
        let _ = child.wait().await;
        pipes.pass_on_last(&mut *sink).await;
        Ok(if cancelled {
            CommandEnd::Cancelled
        } else {
            CommandEnd::TimedOut
        })
    }

    /// Returns a working directory without links, checked to be in the workspace.
    async fn working_directory(&self, relative: &Path) -> Result<PathBuf, ExecutorError> {
        if relative.as_os_str().is_empty() {
            return Ok(self.dir.clone());
        }
        let real = tokio::fs::canonicalize(self.dir.join(relative))
            .await
            .map_err(|_| missing_workdir(relative))?;
        // The workspace may have moved: its repository was renamed, and a link redirects to it.
        let workspace = tokio::fs::canonicalize(&self.dir)
            .await
            .map_err(|_| missing_workdir(relative))?;
        if !self.root.contains(&workspace, &real) {
            let shown = relative.display().to_string();
            return Err(InvalidCommand::WorkdirEscapes(shown).into());
        }
        if real.is_dir() {
            Ok(real)
        } else {
            Err(missing_workdir(relative).into())
        }
    }

    /// Writes a text that is too long for an argument to a file beside the workspace.
    fn write_text(&self, command: &CommandSpec, number: u64) -> io::Result<Option<CommandText>> {
        let Some((_, text)) = text_for_a_file(&command.argv) else {
            return Ok(None);
        };
        let folder = self.dir.parent().unwrap_or(&self.dir);
        let file = CommandText(folder.join(format!("command-{number}")));
        std::fs::write(&file.0, text)?;
        Ok(Some(file))
    }

    /// The variables of a command; of those with the same name the last one counts.
    fn environment<'a>(
        &'a self,
        command: &'a CommandSpec,
        marker: &'a str,
    ) -> BTreeMap<&'a str, &'a str> {
        let variables = self.env.iter().chain(&command.env);
        let variables = variables.map(|(name, value)| (name.as_str(), value.as_str()));
        variables.chain(marker.split_once('=')).collect()
    }

    /// Uses files on a thread that may wait for a disk.
    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WorkspaceRoot) -> Result<T, ExecutorError> + Send + 'static,
    ) -> Result<T, ExecutorError> {
        if self.stopped.is_cancelled() {
            return Err(ExecutorError::Cancelled);
        }
        let root = Arc::clone(&self.root);
        let result = tokio::task::spawn_blocking(move || work(&root)).await;
        result.unwrap_or_else(|error| {
            Err(ExecutorError::caused_by(
                "use the files of the workspace",
                &error,
            ))
        })
    }

    async fn stop(&self) -> Result<(), ExecutorError> {
        self.stopped.cancel();
        // Processes are found by the folder that they stand in, which may have moved.
        let current = tokio::fs::canonicalize(&self.dir).await;
        let current = current.unwrap_or_else(|_| self.dir.clone());
        *self.last_dir.lock().unwrap_or_else(PoisonError::into_inner) = Some(current.clone());
        let processes = ProcessTree {
            marker: run_marker(&self.instance, self.run),
            folder: Some(current),
        };
        processes
            .end()
            .await
            .map_err(|error| ExecutorError::caused_by("end the run's processes", &error))?;
        self.followers.close();
        // A process elsewhere may have been given an output, and live on.
        let _ = tokio::time::timeout(LAST_OUTPUT_TIMEOUT, self.followers.wait()).await;
        Ok(())
    }
}

impl Workspace for HostWorkspace {
    fn run_command(
        &self,
        command: CommandSpec,
        sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>> {
        self.run_command(command, sink, cancel).boxed()
    }

    fn read_file<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>> {
        let path = path.to_owned();
        self.with_files(move |root| root.read(&path)).boxed()
    }

    fn write_file<'a>(
        &'a self,
        path: &'a str,
        content: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>> {
        let path = path.to_owned();
        self.with_files(move |root| root.write(&path, &content))
            .boxed()
    }

    fn export_archive<'a>(
        &'a self,
        path: &'a str,
    ) -> BoxFuture<'a, Result<TarStream, ExecutorError>> {
        let path = path.to_owned();
        self.with_files(move |root| root.pack(&path)).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.stop().boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        let last_dir = self.last_dir.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = last_dir.clone().unwrap_or_else(|| self.dir.clone());
        workspace_dir::remove(dir).boxed()
    }
}

/// Starts a command in the folder `cwd`; its program is searched in `path`.
fn start(
    command: &CommandSpec,
    text: Option<&CommandText>,
    environment: &BTreeMap<&str, &str>,
    path: &str,
    cwd: &Path,
) -> io::Result<(SessionChild, ChildPipes)> {
    let before = match text {
        Some(_) => text_for_a_file(&command.argv).map_or(&[][..], |(before, _)| before),
        None => &command.argv,
    };
    let program = before.first().ok_or(io::ErrorKind::InvalidInput)?;
    let found = find_program(program, path, cwd).ok_or(io::ErrorKind::NotFound)?;
    let words = before.iter().map(OsStr::new);
    let words = words.chain(text.map(|text| text.0.as_os_str()));
    let variables = environment.iter().map(|(name, value)| (*name, *value));
    let program = SessionProgram::new(&found, words, variables, cwd)?;
    ChildPipes::start(&program, command.stdin.is_some(), command.merge)
}

async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
