//! Commands of a workspace.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quire_run_files::logs::Stream;
use quire_step::{ExitStatus, MAX_BODY, StartTask, ToHelper};
use tokio_util::sync::CancellationToken;

use super::failure::{StartFailure, start_failure};
use super::frame::{HelperEvent, HelperFailure};
use super::session::HelperSession;
use super::task::{HelperTask, InputSender};
use crate::api::{CommandEnd, CommandSpec, OutputSink};
use crate::command::check;
use crate::error::ExecutorError;
use crate::spawn_problem::SpawnProblem;

/// How long arguments and variables may be in all: the rest of the frame has room for the folder
/// and the groups of the user.
const MAX_COMMAND: usize = MAX_BODY - (64 << 10);

/// How long the helper may take to kill a command, before everything of the run is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

const SUPERVISOR_LOST: &str =
    "quire: the process that supervises the command was killed, and with it the command\n";

/// Why following a command came to an end.
enum FollowEnd {
    Exited(ExitStatus),
    /// It was never started.
    NotStarted(HelperFailure),
    /// It is to be terminated.
    Terminate(CommandEnd),
    Lost,
}

impl HelperSession {
    pub(super) async fn run_command(
        &self,
        mut command: CommandSpec,
        mut sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> Result<CommandEnd, ExecutorError> {
        let cwd = check(&command)?;
        if cancel.is_cancelled() || self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let stdin = command.stdin.take();
        let cwd = cwd.to_string_lossy();
        let env = merge_env(&self.env, &command.env);
        let program = command.argv.first().map_or("", String::as_str);
        if is_too_long(&command.argv, &env) {
            let (code, line) = SpawnProblem::ArgumentsTooLong.exit(program);
            sink.output(Stream::Stderr, line.as_bytes());
            return Ok(CommandEnd::Exited(code));
        }
        let request = ToHelper::Start(StartTask {
            ids: self.user.ids.clone(),
            merge: command.merge,
            input: stdin.is_some(),
            terminal: None,
            folder: self.folder.as_bytes(),
            cwd: cwd.as_bytes(),
            argv: command.argv.iter().map(String::as_bytes).collect(),
            env: env.iter().map(String::as_bytes).collect(),
        });
        let Some(mut task) = self.connection.begin(&request) else {
            return self.cancelled_or(self.explain_loss().await);
        };
        let mut output = CommandOutput::new(&mut *sink, command.merge);
        let terminated = self.terminated(command.timeout, &cancel);
        let end = follow(&mut task, stdin, &mut output, terminated).await;
        let mentions_kill = output.mentions_kill;
        match end {
            FollowEnd::Exited(status) => {
                let end = self.conclude(status, mentions_kill, &mut *sink);
                self.follow_background(task, sink);
                end
            }
            FollowEnd::NotStarted(failure) => match start_failure(&cwd, &failure) {
                StartFailure::Program(problem) => {
                    let (code, line) = problem.exit(program);
                    sink.output(Stream::Stderr, line.as_bytes());
                    Ok(CommandEnd::Exited(code))
                }
                StartFailure::Invalid(error) => Err(error),
            },
            FollowEnd::Terminate(end) => self.terminate(task, end, sink).await,
            FollowEnd::Lost => self.cancelled_or(self.explain_loss().await),
        }
    }

    fn cancelled_or(&self, error: ExecutorError) -> Result<CommandEnd, ExecutorError> {
        match error {
            ExecutorError::Cancelled => Ok(CommandEnd::Cancelled),
            error => Err(error),
        }
    }

    /// Waits until a command is to be terminated, and returns why.
    async fn terminated(
        &self,
        timeout: Option<Duration>,
        cancel: &CancellationToken,
    ) -> CommandEnd {
        let timed_out = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timed_out => CommandEnd::TimedOut,
            () = cancel.cancelled() => CommandEnd::Cancelled,
            () = self.stopped.cancelled() => CommandEnd::Cancelled,
        }
    }

    /// Turns the status of a command into its end; looks closer if it may have been killed because
    /// memory ran out.
    fn conclude(
        &self,
        status: ExitStatus,
        mentions_kill: bool,
        sink: &mut dyn OutputSink,
    ) -> Result<CommandEnd, ExecutorError> {
        if self.stopped.is_cancelled() {
            return Ok(CommandEnd::Cancelled);
        }
        let (code, was_killed) = match status {
            ExitStatus::Code(code) => (i32::from(code), code == 137),
            ExitStatus::Signal(signal) => (128 + i32::from(signal), signal == 9),
            ExitStatus::Lost => {
                sink.output(Stream::Stderr, SUPERVISOR_LOST.as_bytes());
                (137, true)
            }
        };
        if was_killed || (code != 0 && mentions_kill) {
            let kills = self.connection.out_of_memory_kills();
            let before = self.reported_kills.fetch_max(kills, Ordering::SeqCst);
            if was_killed && kills > before {
                return Err(self.place.out_of_memory());
            }
            if kills > before {
                let line = format!(
                    "quire: a process was killed: {}\n",
                    self.place.out_of_memory()
                );
                sink.output(Stream::Stderr, line.as_bytes());
            }
        }
        Ok(CommandEnd::Exited(code))
    }

    /// Passes on what processes that a command left in the background write, until there is none.
    fn follow_background(&self, mut task: HelperTask, mut sink: Box<dyn OutputSink>) {
        self.followers.spawn(async move {
            while let Some(frame) = task.next().await {
                pass_on(&mut task, frame, &mut *sink);
            }
        });
    }

    /// Kills a command, passes its last output on, and returns once all of it is gone.
    async fn terminate(
        &self,
        mut task: HelperTask,
        end: CommandEnd,
        mut sink: Box<dyn OutputSink>,
    ) -> Result<CommandEnd, ExecutorError> {
        if self.stopped.is_cancelled() {
            // Everything is being killed.
            self.follow_background(task, sink);
            return Ok(CommandEnd::Cancelled);
        }
        task.control().kill();
        let draining = async {
            while let Some(frame) = task.next().await {
                if matches!(frame, HelperEvent::Done) {
                    return true;
                }
                pass_on(&mut task, frame, &mut *sink);
            }
            false
        };
        match tokio::time::timeout(KILL_TIMEOUT, draining).await {
            Ok(true) => Ok(end),
            Ok(false) => match self.explain_loss().await {
                ExecutorError::Cancelled => Ok(CommandEnd::Cancelled),
                error => Err(error),
            },
            // A command that was cancelled or timed out must not go on, whatever that costs the run.
            Err(_) => {
                self.killed.store(true, Ordering::SeqCst);
                self.place.end().await?;
                Ok(end)
            }
        }
    }
}

/// The output of a command on its way to its sink.
struct CommandOutput<'a> {
    sink: &'a mut dyn OutputSink,
    /// The stream that its errors come on.
    errors: Stream,
    /// Whether its errors speak of a kill, as shells and compilers do: a reason to look at the
    /// memory.
    mentions_kill: bool,
}

impl<'a> CommandOutput<'a> {
    fn new(sink: &'a mut dyn OutputSink, merge: bool) -> Self {
        Self {
            sink,
            errors: if merge {
                Stream::Stdout
            } else {
                Stream::Stderr
            },
            mentions_kill: false,
        }
    }
}

impl OutputSink for CommandOutput<'_> {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        // "Killed" and "killed".
        self.mentions_kill |=
            stream == self.errors && memchr::memmem::find(bytes, b"illed").is_some();
        self.sink.output(stream, bytes);
    }
}

/// Feeds a command and passes its output on until it ends or is to be terminated.
async fn follow(
    task: &mut HelperTask,
    stdin: Option<Vec<u8>>,
    sink: &mut dyn OutputSink,
    terminated: impl Future<Output = CommandEnd>,
) -> FollowEnd {
    let input = task.input();
    let mut feeding = std::pin::pin!(feed(&input, stdin));
    let mut fed = false;
    let mut terminated = std::pin::pin!(terminated);
    let mut not_started = None;
    loop {
        tokio::select! {
            frame = task.next() => match frame {
                Some(HelperEvent::Exited(status)) => return FollowEnd::Exited(status),
                Some(HelperEvent::Failed(error)) => not_started = Some(error),
                Some(HelperEvent::Done) => {
                    return not_started.map_or(
                        FollowEnd::Exited(ExitStatus::Lost),
                        FollowEnd::NotStarted,
                    );
                }
                Some(frame) => pass_on(task, frame, sink),
                None => return FollowEnd::Lost,
            },
            () = &mut feeding, if !fed => fed = true,
            end = &mut terminated => return FollowEnd::Terminate(end),
        }
    }
}

async fn feed(input: &InputSender, stdin: Option<Vec<u8>>) {
    if let Some(bytes) = stdin
        && input.send(Bytes::from(bytes)).await.is_ok()
    {
        input.close().await;
    }
}

/// Passes output on, and grants the helper as much again.
fn pass_on(task: &mut HelperTask, frame: HelperEvent, sink: &mut dyn OutputSink) {
    if let HelperEvent::Output(stream, bytes) = frame {
        sink.output(stream, &bytes);
        task.consumed(bytes.len());
    }
}

/// Whether a command does not fit into one frame. The kernel's own limit for all arguments and
/// variables is larger, but each of them has a smaller one.
fn is_too_long(argv: &[String], env: &[String]) -> bool {
    let length = |text: &String| text.len() + size_of::<u32>();
    let length: usize = argv.iter().chain(env).map(length).sum();
    length > MAX_COMMAND
}

/// The variables of a command as `NAME=value`; of two of one name the last counts.
pub(super) fn merge_env(run: &[(String, String)], command: &[(String, String)]) -> Vec<String> {
    let mut last = HashMap::new();
    let all = || run.iter().chain(command).enumerate();
    for (position, (name, _)) in all() {
        last.insert(name, position);
    }
    all()
        .filter(|(position, (name, _))| last.get(name) == Some(position))
        .map(|(_, (name, value))| format!("{name}={value}"))
        .collect()
}
