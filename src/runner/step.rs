//! One `sh` on the runner's side: what it becomes for the executor, where its output goes, and
//! what the pipeline is told of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::driver::protocol::{ShCommand, ShOptions, ShResult, Text};
use crate::executor::{Command, CommandEnd, OutputSink, Stream};
use crate::logs::StepLog;
use crate::pipeline::format_duration;
use crate::secret::Redactor;

/// How much of each output the pipeline itself gets to see, in bytes; the log has all of it.
pub(super) const CAPTURE_BYTES: usize = 4 << 20;

/// What the executor is asked to run. Of the command's own variables and its job's, the command's count.
pub(super) fn command<'a>(
    cmd: ShCommand,
    opts: ShOptions,
    job_env: impl Iterator<Item = &'a (String, String)>,
) -> Command {
    let argv = match cmd {
        ShCommand::Shell(line) => vec!["sh".to_owned(), "-c".to_owned(), line],
        ShCommand::Argv(argv) => argv,
    };
    // Only a driver gone wild sends what is no base64; it gets nothing fed.
    let stdin = opts.stdin.map(|text| text.into_bytes().unwrap_or_default());
    let mut env: Vec<(String, String)> = job_env
        .filter(|(name, _)| opts.env.iter().all(|(own, _)| own != name))
        .cloned()
        .collect();
    env.extend(opts.env);
    Command {
        argv,
        env,
        cwd: opts.cwd,
        stdin,
        timeout: opts.timeout_ms.map(Duration::from_millis),
    }
}

/// The command as a person would type it.
pub(super) fn display(cmd: &ShCommand) -> String {
    match cmd {
        ShCommand::Shell(line) => line.clone(),
        ShCommand::Argv(argv) => shell_words::join(argv),
    }
}

/// A step's log and captured output, shared by the executor that fills it and the runner that ticks and reads it.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Inner>>);

struct Inner {
    log: Option<StepLog>,
    stdout: Capture,
    stderr: Capture,
    quiet: bool,
}

#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    cut: bool,
}

impl Capture {
    fn take(&mut self, bytes: &[u8]) {
        let room = CAPTURE_BYTES - self.bytes.len();
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }

    /// What the pipeline sees. It may show it to others, and half a secret would be recognized by nobody.
    fn seen(mut self, redactor: &Redactor) -> Text {
        if self.cut {
            self.bytes.truncate(redactor.before_cut(&self.bytes));
        }
        Text::new(self.bytes)
    }
}

impl Output {
    pub(super) fn new(log: StepLog) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            log: Some(log),
            stdout: Capture::default(),
            stderr: Capture::default(),
            quiet: false,
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Called on a timer: an unfinished line that nobody adds to becomes visible.
    pub(super) fn tick(&self) {
        self.with(|inner| {
            if std::mem::replace(&mut inner.quiet, true)
                && let Some(log) = &mut inner.log
            {
                log.idle();
            }
        });
    }

    /// A line of quire's own in the step's log.
    pub(super) fn line(&self, text: &str) {
        self.with(|inner| {
            if let Some(log) = &mut inner.log {
                log.line(Stream::Stderr, text);
            }
        });
    }

    /// Closes the log and gives what was captured.
    pub(super) fn finish(&self, exit: i32, error: Option<String>, redactor: &Redactor) -> ShResult {
        self.with(|inner| {
            let (stdout, stderr) = (std::mem::take(&mut inner.stdout), std::mem::take(&mut inner.stderr));
            if let Some(mut log) = inner.log.take() {
                if stdout.cut || stderr.cut {
                    log.line(
                        Stream::Stderr,
                        &format!("quire: the pipeline sees the first {} MiB of this output; the log has all of it", CAPTURE_BYTES >> 20),
                    );
                }
                log.finish();
            }
            ShResult { exit, stdout: stdout.seen(redactor), stderr: stderr.seen(redactor), error }
        })
    }
}

impl OutputSink for Output {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.with(|inner| {
            inner.quiet = false;
            if let Some(log) = &mut inner.log {
                log.write(stream, bytes);
            }
            match stream {
                Stream::Stdout => inner.stdout.take(bytes),
                Stream::Stderr => inner.stderr.take(bytes),
            }
        });
    }
}

/// Why a command that did not run to its end did not, for the pipeline's author.
pub(super) fn cut_short(
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
            capture.take(&vec![b'x'; CAPTURE_BYTES / 8]);
        }
        assert!(capture.cut && capture.bytes.len() == CAPTURE_BYTES);
    }

    #[test]
    fn a_secret_that_the_limit_cuts_in_two_is_not_seen_at_all() {
        let secret = crate::secret::Secret::new("hunter2-hunter2-x".to_owned());
        let redactor = Redactor::new([("token", &secret)]);
        let seen = |room: usize| {
            let mut capture = Capture::default();
            capture.take(&vec![b'.'; CAPTURE_BYTES - room]);
            capture.take(b"hunter2-hunter2-x!");
            capture.seen(&redactor).into_bytes().unwrap()[CAPTURE_BYTES - room..].to_vec()
        };
        for room in 0..17 {
            assert_eq!(seen(room), b"", "{room}");
        }
        // Whole, it can be recognized, and what only begins like one at the end of all there is stays.
        assert_eq!(seen(17), b"hunter2-hunter2-x");
        assert_eq!(seen(18), b"hunter2-hunter2-x!");
        let mut capture = Capture::default();
        capture.take(b"hunter2-");
        assert_eq!(capture.seen(&redactor).into_bytes().unwrap(), b"hunter2-");
    }

    #[test]
    fn commands_read_as_typed() {
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
        assert!(matches!(Text::new(vec![0xff]), Text::Encoded { .. }));
    }
}
