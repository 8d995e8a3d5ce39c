//! Commands in a running container.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncWrite;

use super::client::Engine;
use super::error::DockerError;
use super::transport::AnswerLimit;

/// How many bytes of a stream are read at once.
const READ_BUFFER: usize = 64 << 10;

const READ_OUTPUT: &str = "read the command's output";

/// A command to run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `None` for the container's.
    pub workdir: Option<String>,
    /// Whether the caller writes to standard input; otherwise it is empty.
    pub stdin: bool,
    /// `None` for the container's user.
    pub user: Option<String>,
}

/// A chunk of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputFrame {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// The streams of a started command, or of a container's first process.
pub struct ContainerStreams {
    /// Ends when both outputs are closed.
    pub output: BoxStream<'static, Result<OutputFrame, DockerError>>,
    /// Standard input; shut it down to close it.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// The state of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecState {
    /// Whether it runs, or is about to.
    pub running: bool,
    /// Whether its process exists or has existed. The engine responds to a start before that.
    pub started: bool,
    /// `None` while it runs.
    pub exit_code: Option<i64>,
}

impl Engine {
    /// Prepares a command and returns its id.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the container does not run.
    pub async fn create_exec(
        &self,
        container: &str,
        spec: &ExecSpec,
    ) -> Result<String, DockerError> {
        let config = ExecConfig {
            attach_stdin: Some(spec.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            cmd: Some(spec.argv.clone()),
            working_dir: spec.workdir.clone(),
            user: spec.user.clone(),
            ..Default::default()
        };
        let created = self.call_on(
            "prepare the command",
            self.timeouts().call,
            container,
            |docker, container| async move { docker.create_exec(&container, config).await },
        );
        Ok(created.await?.id)
    }

    /// Starts a prepared command and attaches to its streams.
    ///
    /// A program that does not exist is no error here: the engine says so in the output and by
    /// the exit code.
    pub async fn start_exec(&self, exec: &str) -> Result<ContainerStreams, DockerError> {
        let options = StartExecOptions {
            detach: false,
            tty: false,
            output_capacity: Some(READ_BUFFER),
        };
        let limit = AnswerLimit::of_pieces();
        let limited = limit.clone();
        let started = self.call_on(
            "start the command",
            self.timeouts().lifecycle,
            exec,
            |docker, exec| async move {
                let docker = limited.attach(docker);
                docker.start_exec(&exec, Some(options)).await
            },
        );
        match started.await? {
            StartExecResults::Attached { output, input } => Ok(ContainerStreams {
                output: output_frames(output, limit),
                input,
            }),
            StartExecResults::Detached => Err(DockerError::InvalidResponse {
                attempt: "start the command",
                message: "the command is detached".into(),
            }),
        }
    }

    /// Attaches to the streams of a container's first process: everything that it writes from now
    /// on, which is everything if the container has not been started. With `stdin`, standard input
    /// of the container is closed when this client leaves.
    pub async fn attach(
        &self,
        container: &str,
        stdin: bool,
    ) -> Result<ContainerStreams, DockerError> {
        let options = query::AttachContainerOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let limit = AnswerLimit::of_pieces();
        let limited = limit.clone();
        let attached = self.call_on(
            "attach to the container",
            self.timeouts().call,
            container,
            |docker, container| async move {
                let docker = limited.attach(docker);
                docker.attach_container(&container, Some(options)).await
            },
        );
        let attached = attached.await?;
        Ok(ContainerStreams {
            output: output_frames(attached.output, limit),
            input: attached.input,
        })
    }

    /// Returns the state of a command.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if the engine has forgotten it.
    pub async fn exec_state(&self, exec: &str) -> Result<ExecState, DockerError> {
        let inspected = self.call_on(
            "inspect the command",
            self.timeouts().call,
            exec,
            |docker, exec| async move { docker.inspect_exec(&exec).await },
        );
        let state = inspected.await?;
        Ok(ExecState {
            running: state.running.unwrap_or(false),
            started: state.pid.is_some_and(|pid| pid != 0) || state.exit_code.is_some(),
            exit_code: state.exit_code,
        })
    }
}

fn output_frames(
    output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static,
    limit: AnswerLimit,
) -> BoxStream<'static, Result<OutputFrame, DockerError>> {
    output
        .inspect(move |_| limit.renew())
        .map_err(|error| DockerError::from_bollard(READ_OUTPUT, error))
        .and_then(|frame| async { output_frame(frame) })
        .boxed()
}

fn output_frame(frame: LogOutput) -> Result<OutputFrame, DockerError> {
    match frame {
        LogOutput::StdOut { message } => Ok(OutputFrame::Stdout(message)),
        LogOutput::StdErr { message } => Ok(OutputFrame::Stderr(message)),
        // Without a terminal every byte comes in a frame: anything else is the rest of a frame
        // that was cut off.
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => Err(DockerError::ConnectionLost {
            attempt: READ_OUTPUT,
            message: "the stream was cut off within a frame".into(),
        }),
    }
}
