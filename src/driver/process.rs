//! The parent's end of the driver: starts the child, speaks with it, says in words how it died.

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

use super::child::UNCONFINED;
use super::compiled::{CompiledCache, CompiledFiles};
use super::protocol::{FromDriver, MAX_LINE_BYTES, PipelineSource, ToDriver};
use crate::pipeline::{Diagnostic, Registration};

/// How long a pipeline's file may take to register its jobs.
pub const REGISTRATION_LIMIT: Duration = Duration::from_secs(5);
/// How much longer the parent waits than the child's own limit, before it ends the child.
const GRACE: Duration = Duration::from_secs(2);
/// How much of what the child says on standard error is kept.
const MAX_LAST_WORDS: u64 = 4 << 10;

/// The owner's word that pipelines are evaluated also where the kernel takes no filter of system calls.
const UNCONFINED_VARIABLE: &str = "QUIRE_DRIVER_UNCONFINED";

/// Whether the owner has given it.
#[must_use]
pub fn unconfined() -> bool {
    std::env::var(UNCONFINED_VARIABLE).is_ok_and(|word| word == "yes")
}

/// The most diagnostics that are taken from a driver.
const MAX_DIAGNOSTICS: usize = 200;

/// Why the driver could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The child could not be started.
    #[error("the pipeline's driver could not be started")]
    Spawn(#[source] std::io::Error),
    /// The pipeline is wrong; at least one diagnostic.
    #[error("the pipeline is wrong: {}", .0.first().map_or_else(|| "no reason was given".to_owned(), ToString::to_string))]
    Rejected(Vec<Diagnostic>),
    /// The file did not register its jobs in time and could not be stopped otherwise.
    #[error("the pipeline's file did not end within {} seconds and was stopped", .0.as_secs())]
    TimedOut(Duration),
    /// The child ended by itself, with how in words.
    #[error("the pipeline's driver died: {0}")]
    Died(String),
    /// The child said something that is not of the protocol.
    #[error("the pipeline's driver said something that cannot be understood: {0}")]
    Protocol(String),
    /// Nothing would stand behind the Lua state.
    #[error(
        "no pipeline is evaluated, for nothing would confine it: {0}; run quire where seccomp is at hand, or set {UNCONFINED_VARIABLE}=yes to do without"
    )]
    Unconfined(String),
    /// Speaking with the child failed.
    #[error("speaking with the pipeline's driver failed")]
    Io(#[source] std::io::Error),
}

/// A running driver. Dropping it ends the child.
#[derive(Debug)]
pub struct Driver {
    sender: DriverSender,
    receiver: DriverReceiver,
    cache: Option<CompiledCache>,
}

impl Driver {
    /// Starts a child of `program` (this binary). It waits for its pipeline, so it can be started
    /// before the source is known. Must be called within a runtime.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn spawn(program: &Path) -> Result<Self, DriverError> {
        Self::spawn_with(program, &["driver"])
    }

    /// The same with less of a claim to the processor than what somebody waits for.
    ///
    /// # Errors
    /// As [`Driver::spawn`].
    pub fn spawn_gently(program: &Path) -> Result<Self, DriverError> {
        Self::spawn_with(program, &["driver", "gently"])
    }

    fn spawn_with(program: &Path, arguments: &[&str]) -> Result<Self, DriverError> {
        let mut child = Command::new(program)
            .args(arguments)
            .args(unconfined().then_some("unconfined"))
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

    /// The same, but what it compiles is kept there, and what is there is not compiled.
    #[must_use]
    pub fn with_cache(self, cache: CompiledCache) -> Self {
        Self {
            cache: Some(cache),
            ..self
        }
    }

    /// Has the pipeline's file evaluated, within [`REGISTRATION_LIMIT`]; gives what it registered.
    /// After an error the child is gone.
    ///
    /// # Errors
    /// [`DriverError::Rejected`] where the file is wrong; the others where the driver failed.
    pub async fn register(&mut self, source: PipelineSource) -> Result<Registration, DriverError> {
        self.register_within(source, REGISTRATION_LIMIT).await
    }

    /// The same with another limit.
    ///
    /// # Errors
    /// As [`Driver::register`].
    pub async fn register_within(
        &mut self,
        source: PipelineSource,
        limit: Duration,
    ) -> Result<Registration, DriverError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let known = self.cache.clone().map(|cache| (cache, source.clone()));
        let compiled = known
            .as_ref()
            .map(|(cache, source)| cache.get(source))
            .unwrap_or_default();
        let mut fresh = CompiledFiles::new();
        let exchange = async {
            self.sender
                .send(&ToDriver::Register {
                    source,
                    limit_ms,
                    compiled,
                })
                .await?;
            match self.receiver.recv().await? {
                Some(FromDriver::Compiled { files }) => fresh = files,
                other => return Ok(other),
            }
            self.receiver.recv().await
        };
        let answer = tokio::time::timeout(limit + GRACE, exchange).await;
        let refusal = match answer {
            Ok(Ok(Some(FromDriver::Registered(mut registration)))) => {
                registration.problems = bounded(registration.problems);
                if let Some((cache, source)) = known {
                    cache.keep(&source, fresh);
                }
                return Ok(registration);
            }
            Ok(Ok(Some(FromDriver::Rejected { diagnostics }))) => {
                DriverError::Rejected(bounded(diagnostics))
            }
            Ok(Ok(Some(_))) => {
                DriverError::Protocol("it did not answer with what it registered".to_owned())
            }
            Ok(Ok(None)) => {
                DriverError::Died("it ended before it had read the pipeline".to_owned())
            }
            Ok(Err(DriverError::Io(error))) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.receiver.death().await
            }
            Ok(Err(error)) => error,
            Err(_) => DriverError::TimedOut(limit),
        };
        self.receiver.kill().await;
        Err(refusal)
    }

    /// Says something to the driver.
    ///
    /// # Errors
    /// As [`DriverSender::send`].
    pub async fn send(&mut self, message: &ToDriver) -> Result<(), DriverError> {
        self.sender.send(message).await
    }

    /// Hears the next thing from the driver.
    ///
    /// # Errors
    /// As [`DriverReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<FromDriver>, DriverError> {
        self.receiver.recv().await
    }

    /// The two directions apart. Dropping the sender lets the child end; dropping the receiver ends it.
    #[must_use]
    pub fn split(self) -> (DriverSender, DriverReceiver) {
        (self.sender, self.receiver)
    }

    /// Ends the child and waits until it is gone.
    pub async fn kill(self) {
        self.receiver.end().await;
    }
}

/// What a driver says is wrong, as much of it as a person reads.
fn bounded(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics
        .into_iter()
        .take(MAX_DIAGNOSTICS)
        .map(Diagnostic::bounded)
        .collect()
}

/// The direction to the driver.
#[derive(Debug)]
pub struct DriverSender {
    input: ChildStdin,
}

impl DriverSender {
    /// Says something. Not cancel-safe: a message that was cut off makes the driver give up. It may
    /// wait until the driver reads, so what the driver says must be taken meanwhile.
    ///
    /// # Errors
    /// [`DriverError::Io`] where the child is gone (`recv` says how), or the message is too long.
    pub async fn send(&mut self, message: &ToDriver) -> Result<(), DriverError> {
        let mut line = match message {
            // Its whole size at once (a byte takes six at most): a buffer that grows leaves copies of what it held.
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

/// The direction from the driver; owns the child.
#[derive(Debug)]
pub struct DriverReceiver {
    child: Child,
    lines: FramedRead<ChildStdout, LinesCodec>,
    errors: Option<ChildStderr>,
}

impl DriverReceiver {
    /// The next message; `None` once the child has ended in order, after its input was closed.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`DriverError::Died`] where it ended otherwise, [`DriverError::Protocol`] where it said
    /// something else than messages. After an error the child should be ended.
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
            None => self.ended().await,
        }
    }

    /// The child closed its output: how it ended.
    async fn ended(&mut self) -> Result<Option<FromDriver>, DriverError> {
        let Ok(waited) = tokio::time::timeout(GRACE, self.child.wait()).await else {
            self.kill().await;
            return Err(DriverError::Died(
                "it closed its output and went on".to_owned(),
            ));
        };
        let status = waited.map_err(DriverError::Io)?;
        if status.success() {
            Ok(None)
        } else {
            Err(self.died(status).await)
        }
    }

    /// How the child died, where writing to it failed.
    async fn death(&mut self) -> DriverError {
        match self.ended().await {
            Ok(_) => DriverError::Died("it ended before it had read the pipeline".to_owned()),
            Err(error) => error,
        }
    }

    async fn died(&mut self, status: ExitStatus) -> DriverError {
        use std::os::unix::process::ExitStatusExt;
        let mut words = String::new();
        if let Some(errors) = self.errors.take() {
            let _ = tokio::time::timeout(
                GRACE,
                errors.take(MAX_LAST_WORDS).read_to_string(&mut words),
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
            Some(Signal::SIGABRT) if words.contains("memory allocation") => {
                "it needed more memory than it may have".to_owned()
            }
            Some(Signal::SIGSEGV) => "it crashed, perhaps for want of stack or memory".to_owned(),
            Some(signal) => format!("it was ended by {signal}"),
            None => format!("it ended with {status}"),
        };
        let first = words.lines().find(|line| !line.trim().is_empty());
        if status.code() == Some(UNCONFINED.into()) {
            return DriverError::Unconfined(first.unwrap_or_default().chars().take(300).collect());
        }
        match first {
            Some(line) if signal.is_none() => DriverError::Died(format!(
                "{how}: {}",
                line.chars().take(300).collect::<String>()
            )),
            _ => DriverError::Died(how),
        }
    }

    /// Ends the child and whatever shares its group, and waits until it is gone. Safe to repeat.
    pub async fn kill(&mut self) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // Until it is waited for, its id and so its group's belong to nobody else.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.kill().await;
    }

    async fn end(mut self) {
        self.kill().await;
    }
}
