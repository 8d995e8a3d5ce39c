//! One `sh` on the runner's side: the command for the executor, the capture of its output, and the
//! result for the pipeline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quire_executor::{CommandEnd, CommandSpec, OutputSink, Stream};
use quire_pipeline::driver::protocol::{EncodedBytes, ShCommand, ShOptions, ShResult};
use quire_pipeline::{format_duration, shell_command};
use quire_run_files::logs::StepLog;
use quire_types::secret::Redactor;
use quire_types::sync::lock;

/// The most bytes of each output stream that the pipeline gets; the log has all of it.
pub(super) const MAX_CAPTURE_BYTES: usize = 4 << 20;

/// What the executor is asked to run. Of the command's own variables and its job's, the command's count.
pub(super) fn command<'a>(
    cmd: ShCommand,
    opts: ShOptions,
    job_env: impl Iterator<Item = &'a (String, String)>,
) -> CommandSpec {
    let argv = match cmd {
        ShCommand::Shell(text) => shell_command(text, opts.errexit.unwrap_or(true)),
        ShCommand::Argv(argv) => argv,
    };
    // A correct driver sends valid base64; for any other driver the input is empty.
    let stdin = opts.stdin.map(|text| text.into_bytes().unwrap_or_default());
    let mut env: Vec<(String, String)> = job_env
        .filter(|(name, _)| opts.env.iter().all(|(own, _)| own != name))
        .cloned()
        .collect();
    env.extend(opts.env);
    CommandSpec {
        argv,
        env,
        cwd: opts.cwd,
        stdin,
        timeout: opts.timeout_ms.map(Duration::from_millis),
        merge: opts.merge,
    }
}

/// The command as a person would type it.
pub(super) fn display(cmd: &ShCommand) -> String {
    match cmd {
        ShCommand::Shell(line) => line.clone(),
        ShCommand::Argv(argv) => shell_words::join(argv),
    }
}

/// The log and the captured output of a step, shared by the executor, which writes it for as long as a process of
/// the step lives, and the job loop, which flushes and reads it.
#[derive(Clone)]
pub(super) struct StepOutput(Arc<Mutex<StepOutputState>>);

struct StepOutputState {
    log: StepLog,
    /// Whether the command has ended: what comes now is of processes in the background, and for
    /// the log only.
    ended: bool,
    stdout: Capture,
    stderr: Capture,
    quiet: bool,
}

/// What the pipeline gets of an output stream.
#[derive(Default)]
pub(super) struct Capture {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Capture {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let available = MAX_CAPTURE_BYTES - self.bytes.len();
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(available)]);
        self.truncated |= bytes.len() > available;
    }

    /// What the pipeline sees. It may show it to others, and half a secret would be recognized by nobody.
    pub(super) fn visible_to_pipeline(mut self, redactor: &Redactor) -> EncodedBytes {
        if self.truncated {
            self.bytes.truncate(redactor.safe_prefix_len(&self.bytes));
        }
        EncodedBytes::new(self.bytes)
    }
}

impl StepOutput {
    pub(super) fn new(log: StepLog) -> Self {
        Self(Arc::new(Mutex::new(StepOutputState {
            log,
            ended: false,
            stdout: Capture::default(),
            stderr: Capture::default(),
            quiet: false,
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut StepOutputState) -> T) -> T {
        work(&mut lock(&self.0))
    }

    /// Flushes an unfinished line that has not grown since the last call.
    pub(super) fn tick(&self) {
        self.with(|state| {
            if std::mem::replace(&mut state.quiet, true) {
                state.log.idle();
            }
        });
    }

    /// Writes a line of quire to the log of the step.
    pub(super) fn line(&self, text: &str) {
        self.with(|state| state.log.line(Stream::Stderr, text));
    }

    /// Returns the result for the pipeline. The log closes with the last clone: processes in the
    /// background may still write to it.
    pub(super) fn finish(&self, exit: i32, error: Option<String>, redactor: &Redactor) -> ShResult {
        self.with(|state| {
            let stdout = std::mem::take(&mut state.stdout);
            let stderr = std::mem::take(&mut state.stderr);
            state.ended = true;
            if stdout.truncated || stderr.truncated {
                state.log.line(
                    Stream::Stderr,
                    &format!("quire: the pipeline gets the first {} MiB of this output; the log has all of it", MAX_CAPTURE_BYTES >> 20),
                );
            }
            state.log.write_held();
            ShResult { exit, stdout: stdout.visible_to_pipeline(redactor), stderr: stderr.visible_to_pipeline(redactor), error }
        })
    }
}

impl OutputSink for StepOutput {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.with(|state| {
            state.quiet = false;
            state.log.write(stream, bytes);
            match stream {
                _ if state.ended => {}
                Stream::Stdout => state.stdout.append(bytes),
                Stream::Stderr => state.stderr.append(bytes),
            }
        });
    }
}

/// Why a command was interrupted, for the author of the pipeline; `None` if it was not.
pub(super) fn interruption_message(
    end: &CommandEnd,
    timeout: Option<Duration>,
    job_timed_out: Option<u64>,
) -> Option<String> {
    match end {
        CommandEnd::Exited(_) => None,
        CommandEnd::TimedOut => {
            let limit = timeout.map_or(0, |limit| {
                u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
            });
            Some(format!(
                "the command timed out after {}",
                format_duration(limit)
            ))
        }
        CommandEnd::Cancelled => Some(match job_timed_out {
            Some(limit) => format!("the job timed out after {}", format_duration(limit)),
            None => "the run was stopped".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_bounded() {
        let mut capture = Capture::default();
        for _ in 0..9 {
            capture.append(&vec![b'x'; MAX_CAPTURE_BYTES / 8]);
        }
        assert!(capture.truncated && capture.bytes.len() == MAX_CAPTURE_BYTES);
    }

    #[test]
    fn a_secret_cut_by_the_limit_is_not_visible() {
        let secret = quire_types::secret::Secret::new("hunter2-hunter2-x".to_owned());
        let redactor = Redactor::new([("token", &secret)]);
        let seen = |room: usize| {
            let mut capture = Capture::default();
            capture.append(&vec![b'.'; MAX_CAPTURE_BYTES - room]);
            capture.append(b"hunter2-hunter2-x!");
            capture.visible_to_pipeline(&redactor).into_bytes().unwrap()[MAX_CAPTURE_BYTES - room..]
                .to_vec()
        };
        for room in 0..17 {
            assert_eq!(seen(room), b"", "{room}");
        }
        // Whole, it can be recognized, and what only begins like one at the end of all there is stays.
        assert_eq!(seen(17), b"hunter2-hunter2-x");
        assert_eq!(seen(18), b"hunter2-hunter2-x!");
        let mut capture = Capture::default();
        capture.append(b"hunter2-");
        assert_eq!(
            capture.visible_to_pipeline(&redactor).into_bytes().unwrap(),
            b"hunter2-"
        );
    }

    #[test]
    fn commands_are_displayed_as_typed() {
        assert_eq!(
            display(&ShCommand::Argv(vec!["echo".into(), "a b".into()])),
            "echo 'a b'"
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let opts = ShOptions {
            env: vec![pair("A", "own"), pair("C", "own")],
            ..ShOptions::default()
        };
        let command = command(
            ShCommand::Shell("true".into()),
            opts,
            [pair("A", "job"), pair("B", "job")].iter(),
        );
        assert_eq!(command.argv, ["sh", "-c", "true"]);
        assert_eq!(
            command.env,
            [pair("B", "job"), pair("A", "own"), pair("C", "own")]
        );
        assert!(matches!(
            EncodedBytes::new(vec![0xff]),
            EncodedBytes::Encoded { .. }
        ));
    }
}
