//! Commands as execs in a run's container.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::super::command::{check, mark, no_folder, not_started};
use super::super::{Command, CommandEnd, ExecutorError, OutputSink, Stream, TarStream, Workspace};
use super::ending::{self, Ended};
use super::output::{Refusal, may_be_refusal, refusal, size};
use super::services::Services;
use super::{FOLDER, Hold, Made, aside, fault, removal};
use crate::docker::{ContainerState, DockerError, Engine, ExecSpec, ExecState, Frame};
use crate::names::RunId;

/// How long the output of an ended command may take to arrive.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a container that died may take to say so.
const SETTLE: Duration = Duration::from_secs(5);

/// Said where a command outlives its output.
const DEAF: &str =
    "quire: the output has ended and the command goes on: what it may still say is not seen\n";

/// A container on its way to being removed is first seen as killed, so both have the same words.
const OUTSIDE: &str = "the container was stopped or removed from outside";

pub(super) struct DockerWorkspace {
    pub(super) engine: Engine,
    instance: String,
    run: RunId,
    pub(super) container: String,
    /// Who runs the commands; none for the container's user.
    pub(super) user: Option<String>,
    memory: u64,
    /// Commands started so far, and running now: what tells whether one was alone.
    begun: AtomicU64,
    active: AtomicUsize,
    /// How often memory ran out, as far as is known.
    memory_kills: AtomicU64,
    stopped: CancellationToken,
    /// Why the container was killed, when it was quire that did it.
    killed: Mutex<Option<&'static str>>,
    /// What stands beside the container, if anything does.
    services: Option<Services>,
    _hold: Hold,
}

/// A command under way.
struct Running {
    exec: String,
    mark: String,
    number: u64,
    first: bool,
    output: BoxStream<'static, Result<Frame, DockerError>>,
    /// The beginning of the output, where it may be the engine's and not the command's.
    held: Option<Vec<u8>>,
    any_output: bool,
    /// Whether its standard error speaks of a kill, as shells and compilers do: a reason to look at the memory.
    heard_of_kill: bool,
}

/// Why following a command came to an end.
enum Followed {
    /// Its outputs are closed, or it has ended.
    Output(Result<(), DockerError>),
    /// It is to be ended.
    Cut(CommandEnd),
}

impl DockerWorkspace {
    pub(super) fn new(made: Made, services: Option<Services>, hold: Hold) -> Self {
        let Made {
            engine,
            instance,
            run,
            container,
            user,
            memory,
        } = made;
        Self {
            engine,
            instance,
            run,
            container,
            user,
            memory,
            begun: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            memory_kills: AtomicU64::new(0),
            stopped: CancellationToken::new(),
            killed: Mutex::new(None),
            services,
            _hold: hold,
        }
    }

    async fn run(
        &self,
        mut command: Command,
        mut sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> Result<CommandEnd, ExecutorError> {
        let folder = check(&command)?;
        if cancel.is_cancelled() || self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let _count = Counted::new(&self.active);
        let stdin = command.stdin.take();
        let (mut running, input) = match self.begin(&command, &folder, stdin.is_some()).await {
            Ok(begun) => begun,
            Err(error) => return self.lost(error).await,
        };
        let deadline = Deadline::after(command.timeout);
        match self
            .follow(
                &mut running,
                feed(input, stdin),
                deadline,
                &mut *sink,
                &cancel,
            )
            .await
        {
            Followed::Cut(end) => self.cut(running, end, &mut *sink).await,
            Followed::Output(Err(error)) => self.lost(error).await,
            Followed::Output(Ok(())) => match self
                .await_exit(&running.exec, deadline, &cancel, &mut *sink)
                .await
            {
                Ok(Ok(state)) => {
                    self.conclude(running, state, &command, &folder, &mut *sink)
                        .await
                }
                Ok(Err(end)) => self.cut(running, end, &mut *sink).await,
                Err(error) => self.lost(error).await,
            },
        }
    }

    async fn begin(
        &self,
        command: &Command,
        folder: &std::path::Path,
        stdin: bool,
    ) -> Result<(Running, Pin<Box<dyn AsyncWrite + Send>>), DockerError> {
        let first = self.active.load(Ordering::SeqCst) == 1;
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        let mark = mark(&self.instance, self.run, number);
        let mut env: Vec<String> = command
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        env.push(mark.clone());
        let folder = std::path::Path::new(FOLDER)
            .join(folder)
            .to_string_lossy()
            .trim_end_matches('/')
            .to_owned();
        let spec = ExecSpec {
            argv: command.argv.clone(),
            env,
            folder: Some(folder),
            stdin,
            user: self.user.clone(),
        };
        let exec = self.engine.create_exec(&self.container, &spec).await?;
        let started = self.engine.start_exec(&exec).await?;
        let running = Running {
            exec,
            mark,
            number,
            first,
            output: started.output,
            held: None,
            any_output: false,
            heard_of_kill: false,
        };
        Ok((running, started.input))
    }

    /// Passes output on until it ends, or the command is to be ended.
    async fn follow(
        &self,
        running: &mut Running,
        feeding: impl Future<Output = ()>,
        deadline: Deadline,
        sink: &mut dyn OutputSink,
        cancel: &CancellationToken,
    ) -> Followed {
        let mut feeding = std::pin::pin!(feeding);
        let mut limit = std::pin::pin!(deadline.reached());
        let mut fed = false;
        loop {
            tokio::select! {
                next = self.next_frame(running) => match next {
                    Ok(Some(frame)) => running.take(frame, sink),
                    Ok(None) => return Followed::Output(Ok(())),
                    Err(error) => return Followed::Output(Err(error)),
                },
                () = &mut feeding, if !fed => fed = true,
                () = &mut limit => return Followed::Cut(CommandEnd::TimedOut),
                () = cancel.cancelled() => return Followed::Cut(CommandEnd::Cancelled),
                () = self.stopped.cancelled() => return Followed::Cut(CommandEnd::Cancelled),
            }
        }
    }

    /// The next frame. While none comes, the engine is asked now and then: it may hang, and an
    /// ended command's output may be held open for good.
    async fn next_frame(&self, running: &mut Running) -> Result<Option<Frame>, DockerError> {
        loop {
            match tokio::time::timeout(self.engine.timings().watch, running.output.next()).await {
                Ok(frame) => return frame.transpose(),
                Err(_) => {
                    self.engine.check().await?;
                    if !self.engine.exec_state(&running.exec).await?.running {
                        // It may have written and ended just now.
                        let last = tokio::time::timeout(DRAIN, running.output.next()).await;
                        return last.map_or(Ok(None), Option::transpose);
                    }
                }
            }
        }
    }

    /// Waits until the engine knows the exit code. A command may close its outputs and go on, so
    /// this has no time limit but the command's own. A connection that broke looks the same, so the log says it.
    async fn await_exit(
        &self,
        exec: &str,
        deadline: Deadline,
        cancel: &CancellationToken,
        sink: &mut dyn OutputSink,
    ) -> Result<Result<ExecState, CommandEnd>, DockerError> {
        let mut limit = std::pin::pin!(deadline.reached());
        let mut pause = Duration::from_millis(1);
        let (closed, mut told) = (Instant::now(), false);
        loop {
            let state = self.engine.exec_state(exec).await?;
            if !state.running {
                return Ok(Ok(state));
            }
            if !told && closed.elapsed() > SETTLE {
                told = true;
                sink.output(Stream::Stderr, DEAF.as_bytes());
            }
            if pause >= Duration::from_millis(256)
                && !self
                    .engine
                    .container(&self.container)
                    .await?
                    .is_some_and(|c| c.running)
            {
                return Ok(Ok(ExecState {
                    running: false,
                    begun: true,
                    exit_code: None,
                }));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(512)),
                () = &mut limit => return Ok(Err(CommandEnd::TimedOut)),
                () = cancel.cancelled() => return Ok(Err(CommandEnd::Cancelled)),
                () = self.stopped.cancelled() => return Ok(Err(CommandEnd::Cancelled)),
            }
        }
    }

    /// Makes an exit code an end; looks closer where it may not be the command's own.
    async fn conclude(
        &self,
        mut running: Running,
        state: ExecState,
        command: &Command,
        folder: &std::path::Path,
        sink: &mut dyn OutputSink,
    ) -> Result<CommandEnd, ExecutorError> {
        let code = state.exit_code.unwrap_or(-1);
        if let Some(held) = running.held.take() {
            let program = command.argv.first().map_or("", String::as_str);
            match refusal(&held, code) {
                None => sink.output(Stream::Stdout, &held),
                Some(Refusal::Folder) => return Err(no_folder(folder)),
                // A container that is just ending refuses every program.
                Some(Refusal::Program(ErrorKind::Other)) if !self.stays_up().await => {
                    return self.died(self.settled().await.ok().flatten());
                }
                Some(Refusal::Program(kind)) => {
                    let (code, line) = not_started(program, kind);
                    sink.output(Stream::Stderr, line.as_bytes());
                    return Ok(CommandEnd::Exited(code));
                }
            }
        }
        // Only KILL, or no code at all, can come from the container's own end or from want of memory.
        let suspect = matches!(code, 137 | -1);
        if suspect || (code != 0 && running.heard_of_kill) {
            let kills = aside::out_of_memory_kills(&self.engine, &self.container)
                .await
                .ok()
                .flatten();
            let before = self
                .memory_kills
                .fetch_max(kills.unwrap_or(0), Ordering::SeqCst);
            match kills {
                Some(1..) if suspect => {
                    return Err(ExecutorError::ContainerDied(self.out_of_memory()));
                }
                Some(kills) if kills > before => {
                    let line = format!("quire: a process was ended: {}\n", self.out_of_memory());
                    sink.output(Stream::Stderr, line.as_bytes());
                }
                _ => {}
            }
        }
        if suspect {
            match self.settled().await {
                Ok(Some(state)) if state.running => {}
                Ok(gone) => return self.died(gone),
                Err(error) => return self.lost(error).await,
            }
        }
        match i32::try_from(code) {
            Ok(code @ 0..) => Ok(CommandEnd::Exited(code)),
            _ => Err(ExecutorError::Other {
                attempt: "run the command",
                message: "the engine lost its exit code".into(),
            }),
        }
    }

    async fn stays_up(&self) -> bool {
        // Where the engine cannot say, the command's own end stands.
        self.settled()
            .await
            .map_or(true, |state| state.is_some_and(|s| s.running))
    }

    /// How the container stands, once its end has been noted if it is ending.
    async fn settled(&self) -> Result<Option<ContainerState>, DockerError> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let state = self.engine.container(&self.container).await?;
            if !state.as_ref().is_some_and(|s| s.running)
                || started.elapsed() > Duration::from_millis(200)
            {
                return Ok(state);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Ends a command, reads what it said last, and makes sure.
    async fn cut(
        &self,
        mut running: Running,
        end: CommandEnd,
        sink: &mut dyn OutputSink,
    ) -> Result<CommandEnd, ExecutorError> {
        if self.stopped.is_cancelled() {
            // The container goes, and everything with it.
            return Ok(CommandEnd::Cancelled);
        }
        // Alone: nothing ran when it began, and nothing has begun since.
        let alone = running.first && self.begun.load(Ordering::SeqCst) == running.number + 1;
        let ending = async {
            aside::begun(&self.engine, &running.exec).await?;
            ending::end(
                &self.engine,
                &self.container,
                self.user.as_deref(),
                &running.mark,
                alone,
            )
            .await
        };
        let ended = match ending.await {
            Ok(ended) => ended,
            Err(error) => return Err(fault("end the command", &error)),
        };
        if ended == Ended::Container {
            let why =
                "a command that was to be ended could not be ended alone, so its container was";
            self.killed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(why);
        }
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(Ok(frame)) = running.output.next().await {
                running.take(frame, sink);
            }
        });
        let _ = drained.await;
        if let Some(held) = running.held.take() {
            sink.output(Stream::Stdout, &held);
        }
        Ok(end)
    }

    /// An error under a command: it is the container's end where that is the cause.
    pub(super) async fn lost(&self, error: DockerError) -> Result<CommandEnd, ExecutorError> {
        if self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let started = Instant::now();
        let state = loop {
            match self.engine.container(&self.container).await {
                // A connection that broke may be the engine restarting: it will say what became of the container.
                Err(_) if error.is_unavailable() && started.elapsed() < SETTLE => {
                    tokio::time::sleep(Duration::from_millis(200)).await
                }
                Err(again) => {
                    return Err(fault(
                        "run the command",
                        &if error.is_unavailable() { error } else { again },
                    ));
                }
                Ok(state) => break state,
            }
        };
        match state {
            Some(state) if state.running => Err(fault("run the command", &error)),
            gone => self.died(gone),
        }
    }

    /// The container's end in words.
    fn died(&self, state: Option<ContainerState>) -> Result<CommandEnd, ExecutorError> {
        if self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let killed = *self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match (killed, state) {
            (Some(why), _) => why.to_owned(),
            (None, None) => OUTSIDE.to_owned(),
            (None, Some(state)) if state.out_of_memory => self.out_of_memory(),
            (None, Some(state)) if !state.error.is_empty() => format!("the container could not run: {}", state.error),
            (None, Some(state)) if state.exit_code == 127 => {
                "the container did not stay up: the image has no program `sleep`, which keeps it waiting for commands".to_owned()
            }
            (None, Some(state)) => match state.exit_code {
                137 | 143 => OUTSIDE.to_owned(),
                code => format!("the container ended with exit code {code}"),
            },
        };
        Err(ExecutorError::ContainerDied(reason))
    }

    fn out_of_memory(&self) -> String {
        format!("out of memory, the limit is {}", size(self.memory))
    }

    async fn stop(&self) -> Result<(), ExecutorError> {
        self.stopped.cancel();
        let removed = match self.services {
            None => self
                .engine
                .remove_container(&self.container)
                .await
                .map(|_| ()),
            Some(_) => removal::clear(&self.engine, &self.instance, self.run).await,
        };
        removed.map_err(|error| fault("remove the container", &error))
    }
}

impl Workspace for DockerWorkspace {
    fn run(
        &self,
        command: Command,
        sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>> {
        self.run(command, sink, cancel).boxed()
    }

    fn read_file<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>> {
        self.read_file(path).boxed()
    }

    fn write_file<'a>(
        &'a self,
        path: &'a str,
        content: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>> {
        async move { self.write_file(path, &content).await }.boxed()
    }

    fn export<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<TarStream, ExecutorError>> {
        self.export(path).boxed()
    }

    fn troubles(&self) -> Vec<String> {
        self.services
            .as_ref()
            .map(Services::troubles)
            .unwrap_or_default()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.stop().boxed()
    }
}

impl Running {
    fn take(&mut self, frame: Frame, sink: &mut dyn OutputSink) {
        let first = !std::mem::replace(&mut self.any_output, true);
        match frame {
            Frame::Stdout(bytes) if first && may_be_refusal(&bytes) => {
                self.held = Some(bytes.to_vec())
            }
            Frame::Stdout(bytes) => {
                if let Some(held) = self.held.take() {
                    sink.output(Stream::Stdout, &held);
                }
                sink.output(Stream::Stdout, &bytes);
            }
            Frame::Stderr(bytes) => {
                self.heard_of_kill |= bytes.windows(5).any(|word| word == b"illed");
                sink.output(Stream::Stderr, &bytes);
            }
        }
    }
}

/// Counts a command as active while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(active: &'a AtomicUsize) -> Self {
        active.fetch_add(1, Ordering::SeqCst);
        Self(active)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>, bytes: Option<Vec<u8>>) {
    if let Some(bytes) = bytes {
        // A command that does not read all of its input is not wrong.
        let _ = input.write_all(&bytes).await;
        let _ = input.shutdown().await;
    }
}

/// When a command's time is up, if ever.
#[derive(Clone, Copy)]
struct Deadline(Option<tokio::time::Instant>);

impl Deadline {
    fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| tokio::time::Instant::now().checked_add(timeout)))
    }

    async fn reached(self) {
        match self.0 {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
