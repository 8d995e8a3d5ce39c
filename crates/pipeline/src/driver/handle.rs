//! The parent's end of the driver: starts the child, exchanges messages with it, and describes how
//! it exited.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use zeroize::Zeroizing;

use super::child::EXIT_UNSANDBOXED;
use super::compiled::{CompiledCache, CompiledFiles};
use super::protocol::{FromDriver, MAX_LINE_BYTES, PipelineSource, ToDriver};
use crate::{Diagnostic, Registration};

/// The time limit for evaluating a pipeline's file.
pub const REGISTRATION_LIMIT: Duration = Duration::from_secs(5);
/// How long the parent waits for the child to exit, or to keep its own time limit, before it kills
/// the child.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of the child's standard error is read.
const MAX_STDERR_BYTES: u64 = 4 << 10;

/// The environment variable by which the owner allows evaluation without a system call filter.
const ALLOW_UNSANDBOXED_ENV: &str = "QUIRE_DRIVER_UNCONFINED";

/// Whether the owner allows pipelines to be evaluated without a system call filter.
#[must_use]
pub fn allow_unsandboxed() -> bool {
    std::env::var(ALLOW_UNSANDBOXED_ENV).is_ok_and(|word| word == "yes")
}

/// The most diagnostics that are accepted from a driver.
const MAX_DIAGNOSTICS: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("the pipeline's driver process could not be started")]
    Spawn(#[source] std::io::Error),
    /// The pipeline is invalid. There is at least one diagnostic.
    #[error("the pipeline is invalid: {}", .0.first().map_or_else(|| "no reason was given".to_owned(), ToString::to_string))]
    Rejected(Vec<Diagnostic>),
    /// The file did not register its jobs in time, and the child did not stop by itself.
    #[error("evaluating the pipeline took longer than {} seconds and was stopped", .0.as_secs())]
    TimedOut(Duration),
    /// The child exited by itself, for this reason.
    #[error("the pipeline's driver process failed: {0}")]
    Died(String),
    /// Another process killed the child, or the kernel for want of memory.
    #[error("the process that evaluates the pipeline was killed from outside by {0}")]
    Killed(Signal),
    #[error("the pipeline's driver process sent an invalid message: {0}")]
    Protocol(String),
    #[error(
        "pipelines are disabled because the driver process cannot be sandboxed: {0}; use a kernel with seccomp, or set {ALLOW_UNSANDBOXED_ENV}=yes to run pipelines without a sandbox"
    )]
    Unsandboxed(String),
    #[error("communication with the pipeline's driver process failed")]
    Io(#[source] std::io::Error),
}

/// A running driver process. Dropping the handle kills the process.
#[derive(Debug)]
pub struct DriverHandle {
    sender: DriverSender,
    receiver: DriverReceiver,
    cache: Option<CompiledCache>,
}

impl DriverHandle {
    /// Starts a child of `program`, which is this binary. The child waits for its pipeline, so it
    /// can be started before the source is known. Must be called within a Tokio runtime.
    pub fn spawn(program: &Path) -> Result<Self, DriverError> {
        Self::spawn_with(program, &["driver"])
    }

    /// Starts a child with a lower CPU priority, for evaluations that no user waits for.
    pub fn spawn_low_priority(program: &Path) -> Result<Self, DriverError> {
        Self::spawn_with(program, &["driver", "low_priority"])
    }

    fn spawn_with(program: &Path, arguments: &[&str]) -> Result<Self, DriverError> {
        let mut child = Command::new(program)
            .args(arguments)
            .args(allow_unsandboxed().then_some("allow_unsandboxed"))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(DriverError::Spawn)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(DriverError::Spawn(std::io::Error::other(
                "a pipe to the child is missing",
            )));
        };
        let lines = FramedRead::new(output, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        Ok(Self {
            sender: DriverSender { input },
            receiver: DriverReceiver {
                child,
                lines,
                errors: Some(errors),
            },
            cache: None,
        })
    }

    /// Sets the cache of compiled files.
    #[must_use]
    pub fn with_cache(self, cache: CompiledCache) -> Self {
        Self {
            cache: Some(cache),
            ..self
        }
    }

    /// Evaluates the pipeline's file within [`REGISTRATION_LIMIT`] and returns what it registered.
    /// After an error the child has exited.
    ///
    /// # Errors
    /// Fails with [`DriverError::Rejected`] if the file is invalid, and with the other errors if the
    /// driver failed.
    pub async fn register(&mut self, source: PipelineSource) -> Result<Registration, DriverError> {
        self.register_within(source, REGISTRATION_LIMIT).await
    }

    /// Like [`DriverHandle::register`], with another time limit.
    pub async fn register_within(
        &mut self,
        source: PipelineSource,
        limit: Duration,
    ) -> Result<Registration, DriverError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let cache = self.cache.clone().map(|cache| (cache, source.clone()));
        let compiled = cache
            .as_ref()
            .map(|(cache, source)| cache.get(source))
            .unwrap_or_default();
        let mut newly_compiled = CompiledFiles::new();
        let exchange = async {
            self.sender
                .send(&ToDriver::Register {
                    source,
                    limit_ms,
                    compiled,
                })
                .await?;
            match self.receiver.recv().await? {
                Some(FromDriver::Compiled { files }) => newly_compiled = files,
                other => return Ok(other),
            }
            self.receiver.recv().await
        };
        let reply = tokio::time::timeout(limit + EXIT_TIMEOUT, exchange).await;
        let error = match reply {
            Ok(Ok(Some(FromDriver::Registered(mut registration)))) => {
                registration.problems = truncate_all(registration.problems);
                if let Some((cache, source)) = cache {
                    cache.insert(&source, newly_compiled);
                }
                return Ok(registration);
            }
            Ok(Ok(Some(FromDriver::Rejected { diagnostics }))) => {
                DriverError::Rejected(truncate_all(diagnostics))
            }
            Ok(Ok(Some(_))) => {
                DriverError::Protocol("it did not reply with a registration".to_owned())
            }
            Ok(Ok(None)) => {
                DriverError::Died("it exited before it had read the pipeline".to_owned())
            }
            Ok(Err(DriverError::Io(error))) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.receiver.exit_reason().await
            }
            Ok(Err(error)) => error,
            Err(_) => DriverError::TimedOut(limit),
        };
        self.receiver.kill().await;
        Err(error)
    }

    /// Sends a message, as [`DriverSender::send`] does.
    pub async fn send(&mut self, message: &ToDriver) -> Result<(), DriverError> {
        self.sender.send(message).await
    }

    /// Receives the next message, as [`DriverReceiver::recv`] does.
    pub async fn recv(&mut self) -> Result<Option<FromDriver>, DriverError> {
        self.receiver.recv().await
    }

    /// Splits the handle into its two directions. Dropping the sender lets the child exit; dropping
    /// the receiver kills it.
    #[must_use]
    pub fn split(self) -> (DriverSender, DriverReceiver) {
        (self.sender, self.receiver)
    }

    /// Kills the child and waits until it has exited.
    pub async fn kill(mut self) {
        self.receiver.kill().await;
    }
}

/// Limits the number of diagnostics and the length of each.
fn truncate_all(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics
        .into_iter()
        .take(MAX_DIAGNOSTICS)
        .map(Diagnostic::truncated)
        .collect()
}

/// Sends messages to the driver process.
#[derive(Debug)]
pub struct DriverSender {
    input: ChildStdin,
}

impl DriverSender {
    /// Sends a message. Not cancel-safe: the driver exits after half a message. Sending may wait
    /// until the driver reads, so the caller must receive messages in the meantime.
    ///
    /// # Errors
    /// Fails with [`DriverError::Io`] if the child has exited (`recv` returns the reason), or if the
    /// message is too long.
    pub async fn send(&mut self, message: &ToDriver) -> Result<(), DriverError> {
        let mut line = match message {
            // Reserves the whole size, at most six bytes for each byte: a growing buffer would leave
            // copies of the secret in freed memory.
            ToDriver::SecretValue {
                value: Ok(secret), ..
            } => Zeroizing::new(Vec::with_capacity(secret.expose().len() * 6 + 128)),
            _ => Zeroizing::default(),
        };
        serde_json::to_writer(&mut *line, message)
            .map_err(|error| DriverError::Io(error.into()))?;
        if line.len() > MAX_LINE_BYTES {
            return Err(DriverError::Io(std::io::Error::other(
                "the message is longer than a line may be",
            )));
        }
        line.push(b'\n');
        self.input.write_all(&line).await.map_err(DriverError::Io)
    }
}

/// Receives messages from the driver process, and owns the process.
#[derive(Debug)]
pub struct DriverReceiver {
    child: Child,
    lines: FramedRead<ChildStdout, LinesCodec>,
    errors: Option<ChildStderr>,
}

impl DriverReceiver {
    /// Receives the next message. Returns `None` once the child has exited successfully, after its
    /// input was closed. Cancel-safe.
    ///
    /// # Errors
    /// Fails with [`DriverError::Died`] if the child exited in another way, and with
    /// [`DriverError::Protocol`] if it sent something other than messages. After an error the caller
    /// should kill the child.
    pub async fn recv(&mut self) -> Result<Option<FromDriver>, DriverError> {
        match self.lines.next().await {
            Some(Ok(line)) => match serde_json::from_str(&line) {
                Ok(message) => Ok(Some(message)),
                Err(error) => Err(DriverError::Protocol(error.to_string())),
            },
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => Err(DriverError::Protocol(
                format!("a line is longer than {MAX_LINE_BYTES} bytes"),
            )),
            Some(Err(LinesCodecError::Io(error)))
                if error.kind() == std::io::ErrorKind::InvalidData =>
            {
                Err(DriverError::Protocol("a line is not text".to_owned()))
            }
            Some(Err(LinesCodecError::Io(error))) => Err(DriverError::Io(error)),
            None => self.exited().await,
        }
    }

    /// Waits for the child to exit after it closed its output.
    async fn exited(&mut self) -> Result<Option<FromDriver>, DriverError> {
        let Ok(waited) = tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await else {
            self.kill().await;
            return Err(DriverError::Died(
                "it closed its output but kept running".to_owned(),
            ));
        };
        let status = waited.map_err(DriverError::Io)?;
        if status.success() {
            Ok(None)
        } else {
            Err(self.exit_error(status).await)
        }
    }

    /// The reason why the child exited, after writing to it has failed.
    async fn exit_reason(&mut self) -> DriverError {
        match self.exited().await {
            Ok(_) => DriverError::Died("it exited before it had read the pipeline".to_owned()),
            Err(error) => error,
        }
    }

    async fn exit_error(&mut self, status: ExitStatus) -> DriverError {
        use std::os::unix::process::ExitStatusExt;
        let mut stderr = String::new();
        if let Some(errors) = self.errors.take() {
            let _ = tokio::time::timeout(
                EXIT_TIMEOUT,
                errors.take(MAX_STDERR_BYTES).read_to_string(&mut stderr),
            )
            .await;
        }
        let signal = status
            .signal()
            .and_then(|signal| Signal::try_from(signal).ok());
        let how = match signal {
            Some(Signal::SIGALRM) => {
                "a single call of a built-in function took longer than 30 seconds".to_owned()
            }
            Some(Signal::SIGABRT) if stderr.contains("memory allocation") => {
                "it exceeded its memory limit".to_owned()
            }
            Some(
                signal @ (Signal::SIGKILL | Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP),
            ) => return DriverError::Killed(signal),
            Some(Signal::SIGSEGV) => "it crashed, possibly out of stack or memory".to_owned(),
            Some(signal) => format!("it was killed by {signal}"),
            None => format!("it exited with {status}"),
        };
        let first = stderr.lines().find(|line| !line.trim().is_empty());
        if status.code() == Some(EXIT_UNSANDBOXED.into()) {
            return DriverError::Unsandboxed(first.unwrap_or_default().chars().take(300).collect());
        }
        match first {
            Some(line) if signal.is_none() => DriverError::Died(format!(
                "{how}: {}",
                line.chars().take(300).collect::<String>()
            )),
            _ => DriverError::Died(how),
        }
    }

    /// Kills the child's process group and waits until the child has exited. May be called again.
    pub async fn kill(&mut self) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // Until the child has been waited for, no other process can have its id.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.kill().await;
    }
}
