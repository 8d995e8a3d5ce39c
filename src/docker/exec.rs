//! Commands in a running container.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWrite;

use super::{DockerError, Engine};

/// How much of a stream is read at once.
const CHUNK: usize = 64 << 10;

/// A command for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables, as `NAME=value`, added to the container's.
    pub env: Vec<String>,
    /// Working folder; none for the container's.
    pub folder: Option<String>,
    /// Whether standard input will be fed; else it is empty.
    pub stdin: bool,
    /// Who runs it; none for the container's user.
    pub user: Option<String>,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Of standard output.
    Stdout(Bytes),
    /// Of standard error.
    Stderr(Bytes),
}

/// A started command's ends.
pub struct ExecOutput {
    /// What it writes, until all its outputs are closed.
    pub output: BoxStream<'static, Result<Frame, DockerError>>,
    /// Its standard input; to close it, shut it down.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// How a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecState {
    /// Whether it runs, or is about to.
    pub running: bool,
    /// Whether its process has come into being. The engine answers a start before that.
    pub begun: bool,
    /// Its exit code once it has ended.
    pub exit_code: Option<i64>,
}

const READ: &str = "read the command's output";

impl Engine {
    /// Makes a command ready; gives its id.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] when the container does not run.
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
            env: Some(spec.env.clone()),
            cmd: Some(spec.argv.clone()),
            working_dir: spec.folder.clone(),
            user: spec.user.clone(),
            ..Default::default()
        };
        let made = self.call(
            "prepare the command",
            self.timings().call,
            |docker| async move { docker.create_exec(container, config).await },
        );
        Ok(made.await?.id)
    }

    /// Starts a command that was made ready, attached to its outputs and input.
    ///
    /// # Errors
    /// When the engine does not start it. A program that does not exist is no error here: the
    /// engine says so in the output, and in the exit code.
    pub async fn start_exec(&self, exec: &str) -> Result<ExecOutput, DockerError> {
        let options = StartExecOptions {
            detach: false,
            tty: false,
            output_capacity: Some(CHUNK),
        };
        let started = self.call(
            "start the command",
            self.timings().heavy,
            |docker| async move { docker.start_exec(exec, Some(options)).await },
        );
        match started.await? {
            StartExecResults::Attached { output, input } => {
                let output = output
                    .map_err(|error| DockerError::from_bollard(READ, error))
                    .and_then(|frame| async { frame_of(frame) });
                Ok(ExecOutput {
                    output: output.boxed(),
                    input,
                })
            }
            StartExecResults::Detached => Err(DockerError::Answer {
                attempt: "start the command",
                message: "it is detached".into(),
            }),
        }
    }

    /// What a container's first process writes from now on. Before the container is started, all of it.
    ///
    /// # Errors
    /// When the engine does not hand it out.
    pub async fn attach(
        &self,
        container: &str,
    ) -> Result<BoxStream<'static, Result<Frame, DockerError>>, DockerError> {
        let options = query::AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let attached = self.call(
            "attach to the container",
            self.timings().call,
            |docker| async move { docker.attach_container(container, Some(options)).await },
        );
        let output = attached.await?.output;
        Ok(output
            .map_err(|error| DockerError::from_bollard(READ, error))
            .and_then(|frame| async { frame_of(frame) })
            .boxed())
    }

    /// How a command stands.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] when the engine knows it no more.
    pub async fn exec_state(&self, exec: &str) -> Result<ExecState, DockerError> {
        let asked = self.call(
            "inspect the command",
            self.timings().call,
            |docker| async move { docker.inspect_exec(exec).await },
        );
        let state = asked.await?;
        let (running, exit_code) = (state.running.unwrap_or(false), state.exit_code);
        Ok(ExecState {
            running,
            begun: state.pid.is_some_and(|pid| pid != 0) || exit_code.is_some(),
            exit_code,
        })
    }
}

fn frame_of(frame: LogOutput) -> Result<Frame, DockerError> {
    match frame {
        LogOutput::StdOut { message } => Ok(Frame::Stdout(message)),
        LogOutput::StdErr { message } => Ok(Frame::Stderr(message)),
        // Without a terminal every byte comes in a frame: anything else is the rest of a frame that was cut.
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => Err(DockerError::Lost {
            attempt: READ,
            message: "the stream was cut within a frame".into(),
        }),
    }
}
