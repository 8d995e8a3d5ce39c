//! An interactive session in the container of a run: what a person types is evaluated with the tools of a job.
//!
//! The driver has the pipeline of the run's commit, so that its helper files can be required. Nothing of a session is
//! recorded: it has no rows and no log.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::prepare::{self, PrepareError, PushContext};
use super::run_loop::Runner;
use super::secrets::SecretResolver;
use super::step::{self, Capture};
use quire_executor::{CommandEnd, CommandSpec, ExecutorError, OutputSink, Stream, Workspace};
use quire_pipeline::driver::protocol::{EncodedBytes, FromDriver, JobEnd, ShResult, ToDriver};
use quire_pipeline::driver::{DriverError, DriverHandle, DriverReceiver, DriverSender};
use quire_pipeline::repl::to_fennel;
use quire_types::error_chain;
use quire_types::run::{Outcome, Run};
use quire_types::secret::{RedactStream, Redactor, Secret};
use quire_types::sync::lock;

/// The name of each evaluation. No job can have it.
const EVALUATION: &str = "(input)";
/// The fields of a command's result. Its output has been shown when it is the value of an entry.
const RESULT_FIELDS: [&str; 4] = ["cmd", "exit", "stderr", "stdout"];

/// A chunk of output.
pub type ReplOutput = (Stream, Vec<u8>);

/// The connection to a driver and a workspace.
pub struct ReplSession {
    sender: DriverSender,
    receiver: DriverReceiver,
    workspace: Arc<dyn Workspace>,
    /// The variables of the run.
    env: Vec<(String, String)>,
    secrets: SecretResolver,
    redactor: Redactor,
}

impl Runner {
    /// Starts a session in the workspace of a run. An error is one sentence.
    pub async fn repl(
        &self,
        run: &Run,
        workspace: Arc<dyn Workspace>,
    ) -> Result<ReplSession, String> {
        let deps = self.deps();
        let driver = DriverHandle::spawn(&deps.program)
            .map_err(|error| error_chain::chain(&error))?
            .with_cache(self.0.compiled.clone());
        let files = prepare::files(&self.deps().git, &deps.paths, &run.repo, &run.sha)
            .await
            .map_err(|error| {
                format!("the commit cannot be read: {}", error_chain::chain(&error))
            })?;
        let reason = |error: PrepareError| match error.outcome {
            Outcome::Failed(_, reason) => reason,
            _ => "the pipeline was rejected".to_owned(),
        };
        let source = prepare::source(&files).map_err(reason)?;
        let evaluated = prepare::evaluate(driver, source, files.dockerfile).await;
        let (pipeline, driver) = evaluated.map_err(reason)?;
        let config = deps.config.borrow().clone();
        let (sender, receiver) = driver.split();
        Ok(ReplSession {
            sender,
            receiver,
            workspace,
            env: PushContext::from(run).environment(pipeline.env()),
            secrets: self.secrets_of(run, &config),
            redactor: Redactor::default(),
        })
    }
}

impl ReplSession {
    /// Evaluates an entry to its end, which `interrupt` brings about. Returns the value as text, or `None` if there is
    /// nothing to show.
    ///
    /// # Errors
    /// Fails with [`EntryError::Raised`] if the entry failed, and with [`EntryError::Ended`] if the session cannot go on.
    pub async fn evaluate(
        &mut self,
        text: String,
        output: mpsc::Sender<ReplOutput>,
        interrupt: CancellationToken,
    ) -> Result<Option<String>, EntryError> {
        let evaluate = ToDriver::Evaluate {
            job: EVALUATION.to_owned(),
            text,
            env: self.env.clone(),
        };
        self.sender.send(&evaluate).await?;
        let mut replies = JoinSet::new();
        let mut interrupted = false;
        let end = loop {
            tokio::select! {
                () = interrupt.cancelled(), if !interrupted => {
                    interrupted = true;
                    let job = EVALUATION.to_owned();
                    self.sender.send(&ToDriver::Interrupt { job }).await?;
                }
                Some(reply) = replies.join_next() => {
                    let reply = reply.map_err(|error| EntryError::Ended(error.to_string()))?;
                    self.sender.send(&reply).await?;
                }
                message = self.receiver.recv() => match message? {
                    Some(FromDriver::JobEnded { end, .. }) => break end,
                    Some(request) => self.begin(request, &mut replies, &output, &interrupt)?,
                    None => return Err(EntryError::Ended("the driver has exited".to_owned())),
                },
            }
        };
        // Of an interrupted entry a command may still be ending.
        while replies.join_next().await.is_some() {}
        match end {
            JobEnd::Skipped => Ok(None),
            JobEnd::Complete { output } => Ok(shown_value(self.redactor.redact_json(output))),
            JobEnd::Failed {
                message, location, ..
            }
            | JobEnd::TimedOut { message, location } => {
                let place = location.filter(|place| place.file.starts_with(".quire/"));
                let message = self.redactor.redact_text(&message);
                Err(EntryError::Raised(match place {
                    Some(place) => format!("{place}: {message}"),
                    None => message,
                }))
            }
        }
    }

    /// Carries out a request of the entry in a task that returns the reply.
    fn begin(
        &self,
        request: FromDriver,
        replies: &mut JoinSet<ToDriver>,
        output: &mpsc::Sender<ReplOutput>,
        cancel: &CancellationToken,
    ) -> Result<(), EntryError> {
        let workspace = self.workspace.clone();
        match request {
            FromDriver::Sh {
                call, cmd, opts, ..
            } => {
                let command = step::command(cmd, opts, self.env.iter());
                let sink = EntryOutput::new(&self.redactor, output.clone());
                let (cancel, redactor) = (cancel.clone(), self.redactor.clone());
                replies.spawn(async move {
                    let result = run_command(&*workspace, command, sink, cancel, &redactor).await;
                    ToDriver::ShEnded { call, result }
                });
            }
            FromDriver::ReadFile { call, path, .. } => {
                replies.spawn(async move {
                    let content = workspace.read_file(&path).await;
                    let content = content.map(EncodedBytes::new).map_err(describe);
                    ToDriver::FileRead { call, content }
                });
            }
            FromDriver::WriteFile {
                call,
                path,
                content,
                ..
            } => {
                // The driver sends valid base64.
                let content = content.into_bytes().unwrap_or_default();
                replies.spawn(async move {
                    let done = workspace.write_file(&path, content).await;
                    let done = done.map_err(describe);
                    ToDriver::Done { call, done }
                });
            }
            FromDriver::Secret {
                call, name, json, ..
            } => {
                let value = self.secret(&name, json);
                replies.spawn(std::future::ready(ToDriver::SecretValue { call, value }));
            }
            FromDriver::Artifact { call, .. } => {
                let done = Err("only the jobs of a run can keep artifacts".to_owned());
                replies.spawn(std::future::ready(ToDriver::Done { call, done }));
            }
            FromDriver::Log { text, .. } => {
                let line = format!("{}\n", self.redactor.redact_text(&text));
                let _ = output.try_send((Stream::Stdout, line.into_bytes()));
            }
            FromDriver::Compiled { .. }
            | FromDriver::Registered(_)
            | FromDriver::Rejected { .. }
            | FromDriver::JobEnded { .. } => {
                let message = "the driver sent a message that is not expected";
                return Err(EntryError::Ended(message.to_owned()));
            }
        }
        Ok(())
    }

    /// The value of a secret, which is redacted from now on.
    fn secret(&self, name: &str, json: bool) -> Result<Secret, String> {
        let secret = (self.secrets)(name)?;
        if json {
            self.redactor.add_json(name, &secret);
        } else {
            self.redactor.add(name, &secret);
        }
        Ok(secret)
    }
}

/// Runs a command to its end, which `cancel` brings about.
async fn run_command(
    workspace: &dyn Workspace,
    command: CommandSpec,
    sink: EntryOutput,
    cancel: CancellationToken,
    redactor: &Redactor,
) -> ShResult {
    let timeout = command.timeout;
    let end = workspace
        .run_command(command, Box::new(sink.clone()), cancel)
        .await;
    let (exit, error) = match &end {
        Ok(CommandEnd::Exited(code)) => (*code, None),
        Ok(end) => (-1, step::interruption_message(end, timeout, None)),
        Err(error) => (-1, Some(error.to_string())),
    };
    sink.finish(exit, error, redactor)
}

/// Why an entry has no value.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Its code failed.
    #[error("{0}")]
    Raised(String),
    /// The session cannot go on.
    #[error("the session has ended: {0}")]
    Ended(String),
}

impl From<DriverError> for EntryError {
    fn from(error: DriverError) -> Self {
        Self::Ended(error_chain::chain(&error))
    }
}

fn describe(error: ExecutorError) -> String {
    error.to_string()
}

/// The value of an entry as it is shown.
fn shown_value(value: serde_json::Value) -> Option<String> {
    let is_result = value.as_object().is_some_and(|fields| {
        fields.len() == RESULT_FIELDS.len()
            && RESULT_FIELDS.iter().all(|name| fields.contains_key(*name))
    });
    (!is_result && !value.is_null()).then(|| to_fennel(&value))
}

/// Passes the output of a command on, and keeps what the entry can read of it.
#[derive(Clone)]
struct EntryOutput(Arc<Mutex<EntryOutputState>>);

struct EntryOutputState {
    output: mpsc::Sender<ReplOutput>,
    stdout: (Capture, RedactStream),
    stderr: (Capture, RedactStream),
    /// Whether output was left out, because the person's connection did not take it.
    incomplete: bool,
}

impl EntryOutput {
    fn new(redactor: &Redactor, output: mpsc::Sender<ReplOutput>) -> Self {
        Self(Arc::new(Mutex::new(EntryOutputState {
            output,
            stdout: (Capture::default(), redactor.stream()),
            stderr: (Capture::default(), redactor.stream()),
            incomplete: false,
        })))
    }

    /// The result for the entry.
    fn finish(&self, exit: i32, error: Option<String>, redactor: &Redactor) -> ShResult {
        let mut state = lock(&self.0);
        let last = [
            (Stream::Stdout, state.stdout.1.finish()),
            (Stream::Stderr, state.stderr.1.finish()),
        ];
        for (stream, bytes) in last {
            state.show(stream, bytes);
        }
        if std::mem::take(&mut state.incomplete) {
            let note = b"quire: output was left out, because the connection is too slow for it\n";
            state.show(Stream::Stderr, note.to_vec());
        }
        let captured =
            |capture: &mut Capture| std::mem::take(capture).visible_to_pipeline(redactor);
        ShResult {
            exit,
            stdout: captured(&mut state.stdout.0),
            stderr: captured(&mut state.stderr.0),
            error,
        }
    }
}

impl EntryOutputState {
    fn show(&mut self, stream: Stream, bytes: Vec<u8>) {
        if !bytes.is_empty() && self.output.try_send((stream, bytes)).is_err() {
            self.incomplete = true;
        }
    }
}

impl OutputSink for EntryOutput {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let mut state = lock(&self.0);
        let (capture, redacted) = match stream {
            Stream::Stdout => &mut state.stdout,
            Stream::Stderr => &mut state.stderr,
        };
        capture.append(bytes);
        let shown = redacted.push(bytes).into_owned();
        state.show(stream, shown);
    }
}
