//! A command of a person beside those of a run: its input and output are streams.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use quire_run_files::logs::Stream;
use quire_step::{ExitStatus, StartTask, TerminalSize, ToHelper};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::command::merge_env;
use super::failure::{StartFailure, start_failure};
use super::frame::{HelperEvent, HelperFailure};
use super::session::HelperSession;
use super::task::{HelperTask, InputSender, TaskControl};
use crate::api::{AttachedCommand, AttachedControl, Terminal};
use crate::error::ExecutorError;

/// How many bytes of input wait for the command.
const INPUT_BUFFER: usize = 64 << 10;

/// A chunk of output.
type OutputChunk = Result<(Stream, Bytes), ExecutorError>;

impl HelperSession {
    /// Starts a command whose input and output are streams. It ends when the output is dropped.
    pub(crate) async fn attach(
        self: Arc<Self>,
        argv: Vec<String>,
        terminal: Option<Terminal>,
    ) -> Result<AttachedCommand, ExecutorError> {
        let kind = terminal
            .iter()
            .map(|terminal| ("TERM".to_owned(), terminal.kind.clone()));
        let env = merge_env(&self.env, &kind.collect::<Vec<_>>());
        let request = ToHelper::Start(StartTask {
            ids: self.user.ids.clone(),
            merge: false,
            input: true,
            terminal: terminal.as_ref().map(|terminal| TerminalSize {
                columns: terminal.columns,
                rows: terminal.rows,
            }),
            folder: self.folder.as_bytes(),
            cwd: b"",
            argv: argv.iter().map(String::as_bytes).collect(),
            env: env.iter().map(String::as_bytes).collect(),
        });
        let Some(task) = self.connection.begin(&request) else {
            return Err(self.explain_loss().await);
        };
        let (input, command_input) = tokio::io::duplex(INPUT_BUFFER);
        let control = task.control();
        let feeding = AbortOnDropHandle::new(tokio::spawn(feed(command_input, task.input())));
        let (code, exit_code) = watch::channel(None);
        let output = AttachedOutput {
            program: argv.into_iter().next().unwrap_or_default(),
            session: self,
            task,
            code,
            failure: None,
            _feeding: feeding,
        };
        Ok(AttachedCommand {
            output: output.into_stream(),
            input: Box::pin(input),
            control: Box::new(HelperControl {
                exit_code,
                task: control,
            }),
        })
    }
}

async fn feed(mut from: DuplexStream, input: InputSender) {
    let mut buffer = vec![0; INPUT_BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let chunk = Bytes::copy_from_slice(&buffer[..count]);
        if input.send(chunk).await.is_err() {
            return;
        }
    }
    input.close().await;
}

/// The output of a command until its end.
struct AttachedOutput {
    program: String,
    /// Keeps the connection open.
    session: Arc<HelperSession>,
    task: HelperTask,
    code: watch::Sender<Option<i32>>,
    failure: Option<HelperFailure>,
    _feeding: AbortOnDropHandle<()>,
}

impl AttachedOutput {
    fn into_stream(self) -> BoxStream<'static, OutputChunk> {
        stream::unfold(Some(self), |output| async {
            let mut output = output?;
            let (chunk, goes_on) = output.next().await?;
            Some((chunk, goes_on.then_some(output)))
        })
        .boxed()
    }

    /// Returns the next chunk, and whether more may follow.
    async fn next(&mut self) -> Option<(OutputChunk, bool)> {
        loop {
            match self.task.next().await {
                Some(HelperEvent::Output(stream, bytes)) => {
                    self.task.consumed(bytes.len());
                    return Some((Ok((stream, bytes)), true));
                }
                Some(HelperEvent::Exited(status)) => {
                    let code = match status {
                        ExitStatus::Code(code) => i32::from(code),
                        ExitStatus::Signal(signal) => 128 + i32::from(signal),
                        ExitStatus::Lost => 137,
                    };
                    self.code.send_replace(Some(code));
                    return None;
                }
                Some(HelperEvent::Failed(failure)) => self.failure = Some(failure),
                Some(HelperEvent::Done) => {
                    let failure = self.failure.take()?;
                    return Some((self.not_started(&failure), false));
                }
                Some(_) => {}
                None => return Some((Err(self.session.explain_loss().await), false)),
            }
        }
    }

    fn not_started(&self, failure: &HelperFailure) -> OutputChunk {
        match start_failure("", failure) {
            StartFailure::Program(problem) => {
                let (code, line) = problem.exit(&self.program);
                self.code.send_replace(Some(code));
                Ok((Stream::Stderr, Bytes::from(line)))
            }
            StartFailure::Invalid(error) => Err(error),
        }
    }
}

struct HelperControl {
    exit_code: watch::Receiver<Option<i32>>,
    task: TaskControl,
}

impl AttachedControl for HelperControl {
    fn exit_code(&self) -> BoxFuture<'_, Option<i32>> {
        std::future::ready(*self.exit_code.borrow()).boxed()
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.task.resize(TerminalSize { columns, rows });
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        self.task.kill();
        std::future::ready(()).boxed()
    }
}
