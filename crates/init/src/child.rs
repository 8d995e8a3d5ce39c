//! A child of `init`: its program, when it is started, and its output.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use super::error::{EX_CONFIG, InitError};
use super::output::{ChildOutput, StderrLog};
use super::probe::Prober;
use super::processes;
use super::restart::{RestartPolicy, RestartState};
use super::spawn::{Program, Spawner};
use quire_types::init_status::{ChildExit, ChildState, ChildStatus};

/// A child that has not answered for this long is reported as silent: more than one probe was lost.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// `init` keeps both ends of the pipe that all processes of the child write to. So the pipe outlives
/// every process and never reports an end of file.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: &'static str,
    program: Program,
    policy: RestartPolicy,
    reader: OwnedFd,
    writer: PipeWriter,
    output: ChildOutput,
    prober: Prober,
    /// Whether it answers; `None` until it has answered for the first time.
    answers: Option<bool>,
}

impl Child {
    pub(super) fn new(
        name: &'static str,
        program: Program,
        prober: Prober,
        now: Instant,
    ) -> Result<Self, InitError> {
        let (reader, writer) = io::pipe().map_err(InitError::system("create a pipe"))?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(InitError::system("make a pipe non-blocking"))?;
        Ok(Self {
            name,
            program,
            policy: RestartPolicy::new(now),
            reader: reader.into(),
            writer,
            output: ChildOutput::new(name),
            prober,
            answers: None,
        })
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.policy.pid()
    }

    /// Since when it runs; `None` if it does not run.
    pub(super) fn running_since(&self) -> Option<Instant> {
        if let RestartState::Running { since, .. } = self.policy.state() {
            Some(since)
        } else {
            None
        }
    }

    pub(super) fn next_start(&self) -> Option<Instant> {
        self.policy.next_start()
    }

    /// When its next probe is due; `None` if it does not run.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.pid().map(|_| self.prober.next_step())
    }

    /// The connection whose answer to a probe is awaited.
    pub(super) fn probe_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pid().and_then(|_| self.prober.awaited_fd())
    }

    pub(super) fn output_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Starts it if it is due, and returns whether that was tried.
    pub(super) fn start_if_due(
        &mut self,
        now: Instant,
        jitter: u32,
        spawner: &Spawner,
        log: &mut StderrLog,
    ) -> bool {
        if !self.policy.is_due(now) {
            return false;
        }
        match spawner.start(&self.program, self.writer.as_fd()) {
            Ok(pid) => {
                self.policy.started(pid, Instant::now());
                self.prober.restarted(now);
            }
            Err(errno) => {
                let delay = self.policy.ended(None, now, jitter).unwrap_or_default();
                log.write(format_args!(
                    "cannot start {}: {}; retrying in {delay:.1?}",
                    self.name,
                    errno.desc()
                ));
            }
        }
        true
    }

    pub(super) fn restart_now(&mut self, now: Instant) {
        self.policy.restart_now(now);
    }

    /// Forbids any further start.
    pub(super) fn stop(&mut self) {
        self.policy.stop();
    }

    pub(super) fn read_output(&mut self, log: &mut StderrLog) {
        let prober = &self.prober;
        let is_wanted = |line: &[u8]| !prober.is_about_probe(line);
        self.output.read(self.reader.as_fd(), log, is_wanted);
    }

    /// Asks it whether it answers, and ends its process if it has not answered for `limit`: it hangs. A limit of zero
    /// ends nothing. Returns whether the status has changed.
    pub(super) fn probe(&mut self, now: Instant, limit: Duration, log: &mut StderrLog) -> bool {
        let Some(pid) = self.policy.pid() else {
            return false;
        };
        self.prober.advance(now);
        let silent = self.prober.silent_for(now);
        let answers = self.prober.has_answered().then_some(silent < SILENT_AFTER);
        if !limit.is_zero() && silent >= limit {
            log.write(format_args!(
                "{} has not answered for {} s; killing it, so that it is restarted",
                self.name,
                silent.as_secs()
            ));
            processes::send(pid, Signal::SIGKILL);
            self.prober.restarted(now);
        }
        std::mem::replace(&mut self.answers, answers) != answers
    }

    /// Records and logs that its process has ended.
    pub(super) fn ended(&mut self, exit: ChildExit, jitter: u32, log: &mut StderrLog) {
        // The last output of the process comes before the line about its end.
        self.read_output(log);
        self.output.flush_partial(log);
        let name = self.name;
        match self.policy.ended(Some(exit), Instant::now(), jitter) {
            None => log.write(format_args!("{name} ended with {exit}")),
            Some(delay) if exit == ChildExit::Code(EX_CONFIG) => log.write(format_args!(
                "{name} cannot use its configuration ({exit}); fix the configuration; {name} is restarted every {} s, and immediately after a HUP signal",
                delay.as_secs()
            )),
            Some(Duration::ZERO) => log.write(format_args!(
                "{name} ended with {exit}; restarting it immediately"
            )),
            Some(delay) => log.write(format_args!(
                "{name} ended with {exit}; restarting it in {delay:.1?}"
            )),
        }
    }

    /// Updates everything in `status` but the time of the last start.
    pub(super) fn update(&self, status: &mut ChildStatus) {
        status.pid = self.policy.pid();
        status.answers = self.answers;
        status.restarts = self.policy.restarts();
        status.last_exit = self.policy.last_exit();
        status.state = match self.policy.state() {
            RestartState::Running { .. } => ChildState::Running,
            RestartState::Waiting { .. } => ChildState::Backoff,
            RestartState::Stopped => ChildState::Stopped,
        };
    }
}
