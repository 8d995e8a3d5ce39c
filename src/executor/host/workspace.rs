//! Commands as child processes in a workspace on disk.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio_util::sync::CancellationToken;

use super::super::command::{check, mark, no_folder, not_started};
use super::super::{Command, CommandEnd, ExecutorError, OutputSink, Stream, TarStream, Workspace};
use super::files::Ground;
use super::{Registered, folder, other};
use crate::names::RunId;
use crate::proc::{Family, own_session};

/// How long output is still read after a command has ended, while something it left behind holds it open.
const LINGER: Duration = Duration::from_secs(2);

/// How much is read at once.
const CHUNK: usize = 64 << 10;

pub(super) struct HostWorkspace {
    instance: String,
    run: RunId,
    folder: PathBuf,
    env: Vec<(String, String)>,
    family: Family,
    numbers: AtomicU64,
    stopped: CancellationToken,
    gone: AtomicBool,
    ground: Arc<Ground>,
    _registered: Registered,
}

impl HostWorkspace {
    pub(super) fn new(
        instance: String,
        run: RunId,
        folder: PathBuf,
        env: Vec<(String, String)>,
        family: Family,
        ground: Ground,
        registered: Registered,
    ) -> Self {
        let (numbers, gone) = (AtomicU64::new(0), AtomicBool::new(false));
        Self {
            instance,
            run,
            folder,
            env,
            family,
            numbers,
            stopped: CancellationToken::new(),
            gone,
            ground: Arc::new(ground),
            _registered: registered,
        }
    }

    async fn run(
        &self,
        command: Command,
        mut sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> Result<CommandEnd, ExecutorError> {
        let cwd = self.folder_of(&check(&command)?).await?;
        if cancel.is_cancelled() || self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let family = Family {
            marker: mark(
                &self.instance,
                self.run,
                self.numbers.fetch_add(1, Ordering::Relaxed),
            ),
            folder: None,
        };
        let mut child = match self.spawn(&command, &cwd, &family.marker) {
            Ok(child) => child,
            Err(error) => {
                let (code, line) = not_started(
                    command.argv.first().map_or("", String::as_str),
                    error.kind(),
                );
                sink.output(Stream::Stderr, line.as_bytes());
                return Ok(CommandEnd::Exited(code));
            }
        };
        let mut ends = Ends {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let ended = tokio::select! {
            ended = follow(&mut child, &mut ends, command.stdin, &mut *sink) => Some(ended),
            () = sleep_or_never(command.timeout) => None,
            () = cancel.cancelled() => None,
            () = self.stopped.cancelled() => None,
        };
        if ended.is_some() && self.stopped.is_cancelled() {
            // The stop ends everything of the run: what is seen first may be this command's death by it.
            return Ok(CommandEnd::Cancelled);
        }
        if let Some(status) = ended {
            return status
                .map(|status| CommandEnd::Exited(exit_code(status)))
                .map_err(|error| other("follow the command", &error));
        }
        let cancelled = cancel.is_cancelled() || self.stopped.is_cancelled();
        family
            .end()
            .await
            .map_err(|error| other("end the command", &error))?;
        // Read what it said last; its processes are gone, so this ends at once.
        let _ = tokio::time::timeout(LINGER, follow(&mut child, &mut ends, None, &mut *sink)).await;
        Ok(if cancelled {
            CommandEnd::Cancelled
        } else {
            CommandEnd::TimedOut
        })
    }

    /// The folder on disk, symbolic links followed, and checked to lie in the workspace.
    async fn folder_of(&self, relative: &Path) -> Result<PathBuf, ExecutorError> {
        if relative.as_os_str().is_empty() {
            return Ok(self.folder.clone());
        }
        let real = tokio::fs::canonicalize(self.folder.join(relative))
            .await
            .map_err(|_| no_folder(relative))?;
        // The workspace may lie elsewhere by now: its repository was renamed, and a link leads there.
        let workspace = tokio::fs::canonicalize(&self.folder)
            .await
            .map_err(|_| no_folder(relative))?;
        if !self.ground.holds(&workspace, &real) {
            return Err(ExecutorError::Command(format!(
                "the folder `{}` leads out of the workspace",
                relative.display()
            )));
        }
        if real.is_dir() {
            Ok(real)
        } else {
            Err(no_folder(relative))
        }
    }

    fn spawn(&self, command: &Command, cwd: &Path, marker: &str) -> io::Result<Child> {
        let (program, arguments) = command
            .argv
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let stdin = if command.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut process = tokio::process::Command::new(program);
        process.args(arguments).current_dir(cwd).env_clear();
        process.envs(
            self.env
                .iter()
                .chain(&command.env)
                .map(|(name, value)| (name, value)),
        );
        if let Some((name, value)) = marker.split_once('=') {
            process.env(name, value);
        }
        process
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        own_session(&mut process);
        process.spawn()
    }

    /// Does something with files on a thread that may wait for a disk.
    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ground) -> Result<T, ExecutorError> + Send + 'static,
    ) -> Result<T, ExecutorError> {
        if self.stopped.is_cancelled() {
            return Err(ExecutorError::Cancelled);
        }
        let ground = Arc::clone(&self.ground);
        let done = tokio::task::spawn_blocking(move || work(&ground)).await;
        done.unwrap_or_else(|error| Err(other("reach the workspace's files", &error)))
    }

    async fn stop(&self) -> Result<(), ExecutorError> {
        self.stopped.cancel();
        if self.gone.load(Ordering::Acquire) {
            return Ok(());
        }
        // Where it lies by now: processes are known by the folder they stand in.
        let lies = tokio::fs::canonicalize(&self.folder).await.ok();
        let family = Family {
            folder: lies.or_else(|| self.family.folder.clone()),
            ..self.family.clone()
        };
        family
            .end()
            .await
            .map_err(|error| other("end the run's processes", &error))?;
        folder::remove(self.folder.clone()).await?;
        self.gone.store(true, Ordering::Release);
        Ok(())
    }
}

impl Workspace for HostWorkspace {
    fn run(
        &self,
        command: Command,
        sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>> {
        self.run(command, sink, cancel).boxed()
    }

    fn read_file<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>> {
        let path = path.to_owned();
        self.with_files(move |ground| ground.read(&path)).boxed()
    }

    fn write_file<'a>(
        &'a self,
        path: &'a str,
        content: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>> {
        let path = path.to_owned();
        self.with_files(move |ground| ground.write(&path, &content))
            .boxed()
    }

    fn export<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<TarStream, ExecutorError>> {
        let path = path.to_owned();
        self.with_files(move |ground| ground.pack(&path)).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.stop().boxed()
    }
}

/// Our ends of a child's pipes.
struct Ends {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

/// Feeds and reads a child until it has ended. May be dropped and called again.
async fn follow(
    child: &mut Child,
    ends: &mut Ends,
    stdin: Option<Vec<u8>>,
    sink: &mut dyn OutputSink,
) -> io::Result<ExitStatus> {
    let Ends {
        stdin: input,
        stdout,
        stderr,
    } = ends;
    let mut feeding = std::pin::pin!(feed(input.take(), stdin));
    let mut fed = false;
    let mut status = None;
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut linger = std::pin::pin!(tokio::time::sleep(LINGER));
    while status.is_none() || stdout.is_some() || stderr.is_some() {
        tokio::select! {
            read = read_some(stdout, &mut out), if stdout.is_some() => take(read?, stdout, &out, Stream::Stdout, sink),
            read = read_some(stderr, &mut err), if stderr.is_some() => take(read?, stderr, &err, Stream::Stderr, sink),
            () = &mut feeding, if !fed => fed = true,
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                linger.as_mut().reset(tokio::time::Instant::now() + LINGER);
            }
            () = &mut linger, if status.is_some() => break,
        }
    }
    match status {
        Some(status) => Ok(status),
        None => child.wait().await,
    }
}

async fn feed(input: Option<ChildStdin>, bytes: Option<Vec<u8>>) {
    if let (Some(mut input), Some(bytes)) = (input, bytes) {
        // A command that does not read all of its input is not wrong.
        let _ = input.write_all(&bytes).await;
        let _ = input.shutdown().await;
    }
}

async fn read_some(
    from: &mut Option<impl AsyncRead + Unpin>,
    into: &mut [u8],
) -> io::Result<usize> {
    match from {
        Some(from) => from.read(into).await,
        None => std::future::pending().await,
    }
}

fn take<R>(
    count: usize,
    from: &mut Option<R>,
    bytes: &[u8],
    stream: Stream,
    sink: &mut dyn OutputSink,
) {
    if count == 0 {
        *from = None;
    } else {
        sink.output(stream, &bytes[..count]);
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
