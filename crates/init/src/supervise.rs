//! The loop of `init`: signals, ended processes, output and timers. One `poll` waits for all of them.
//!
//! Invariants: nothing in here blocks; once all children run, no event allocates (a changed file of
//! keys and a shutdown do); the process id of a child is used only while it is not yet reaped.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::getpid;

use super::authorized_keys::MergedKeys;
use super::child::Child;
use super::error::InitError;
use super::memory;
use super::output::StderrLog;
use super::preflight::PreparedAppliance;
use super::probe::{self, Prober};
use super::processes;
use super::reap::{self, ReapResult};
use super::report::PreflightReport;
use super::settings::InitSettings;
use super::shutdown::{RunningProcesses, ShutdownAction, ShutdownSequence};
use super::signals::Signals;
use super::spawn::Spawner;
use super::status_file::StatusFile;
use super::volume::DataVolume;
use quire_types::init_status::InitPhase;

/// How often the files of public keys are checked for changes.
const KEYS_INTERVAL: Duration = Duration::from_secs(1);
/// Children that have run together for this long are reported as ready.
const READY_AFTER: Duration = Duration::from_millis(250);
/// How often a shutdown checks conditions that no event reports.
const SHUTDOWN_INTERVAL: Duration = Duration::from_millis(50);
const SSHD: usize = 0;
const SERVE: usize = 1;

/// Supervises both children.
#[derive(Debug)]
pub(super) struct Supervisor<'a> {
    settings: &'a InitSettings,
    signals: &'a Signals,
    spawner: &'a Spawner,
    log: &'a mut StderrLog,
    children: [Child; 2],
    keys: MergedKeys,
    next_key_check: Instant,
    ready_message: String,
    no_keys_hint: String,
    shutdown: Option<ShutdownSequence>,
    reaped: ReapResult,
    status: StatusFile,
    jitter: Jitter,
    /// Whether standard error was a terminal at the start.
    on_terminal: bool,
    /// Holds the lock on the data folder.
    _volume: DataVolume,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(
        settings: &'a InitSettings,
        signals: &'a Signals,
        spawner: &'a Spawner,
        prepared: PreparedAppliance,
        report: &'a mut PreflightReport,
    ) -> Result<Self, InitError> {
        let now = Instant::now();
        let listen = if settings.native && !settings.listen.is_unspecified() {
            settings.listen
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        let interval = match settings.unresponsive_after {
            Duration::ZERO => probe::INTERVAL,
            limit => probe::INTERVAL.min(limit / 4),
        };
        let prober =
            |protocol, port| Prober::new(protocol, SocketAddr::new(listen, port), interval);
        let children = [
            Child::new(
                "sshd",
                prepared.sshd,
                prober(probe::SSH, settings.ssh_port),
                now,
            )?,
            Child::new(
                "serve",
                prepared.serve,
                prober(probe::HTTP, settings.http_port),
                now,
            )?,
        ];
        let status = StatusFile::new(
            settings.paths.init_status(),
            [children[SSHD].name, children[SERVE].name],
            std::mem::take(&mut report.warnings),
        );
        let mut supervisor = Self {
            settings,
            signals,
            spawner,
            log: &mut report.log,
            children,
            keys: prepared.keys,
            next_key_check: now,
            ready_message: prepared.ready_message,
            no_keys_hint: prepared.no_keys_hint,
            shutdown: None,
            reaped: ReapResult::ChildrenAlive,
            jitter: Jitter::new(status.started_at().0.unsigned_abs() as u32),
            status,
            on_terminal: io::stderr().is_terminal(),
            _volume: prepared.volume,
        };
        supervisor.report_key_problems();
        Ok(supervisor)
    }

    /// Runs until a stop is requested and everything has ended.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.handle_signals(now);
            if self.shutdown.is_some() {
                if self.continue_shutdown(now) {
                    break;
                }
            } else {
                self.start_due_children(now);
                self.check_keys(now);
                self.probe_children(now);
                self.check_ready(now);
            }
            self.publish();
            self.wait(Instant::now());
            self.signals.drain();
            self.read_output();
            self.reap();
        }
        self.read_output();
        self.status.set_phase(InitPhase::Stopped);
        self.publish();
        self.log.write(format_args!("stopped"));
    }

    fn handle_signals(&mut self, now: Instant) {
        if self.signals.take_reload() && self.shutdown.is_none() {
            if self.on_terminal && !io::stderr().is_terminal() {
                // The kernel sends HUP when the terminal is closed: that ends a native appliance.
                self.signals.request_stop();
            } else {
                self.reload(now);
            }
        }
        if self.signals.stop_requested() && self.shutdown.is_none() {
            self.log
                .write(format_args!("stopping within {:?}", self.settings.grace));
            self.shutdown = Some(ShutdownSequence::begin(now, self.settings.grace));
            self.status.set_phase(InitPhase::Stopping);
            for child in &mut self.children {
                child.stop();
            }
        }
    }

    fn reload(&mut self, now: Instant) {
        self.log.write(format_args!("reloading"));
        for child in &mut self.children {
            match child.pid() {
                Some(pid) => processes::send(pid, Signal::SIGHUP),
                None => child.restart_now(now),
            }
        }
        self.rebuild_keys();
    }

    fn start_due_children(&mut self, now: Instant) {
        for child in &mut self.children {
            let jitter = self.jitter.next();
            if child.start_if_due(now, jitter, self.spawner, self.log) {
                self.status.child_started(child.name);
            }
        }
    }

    /// Asks the children whether they answer.
    fn probe_children(&mut self, now: Instant) {
        for child in &mut self.children {
            if child.probe(now, self.settings.unresponsive_after, self.log) {
                self.status.child_changed();
            }
        }
    }

    fn check_keys(&mut self, now: Instant) {
        if now >= self.next_key_check {
            self.next_key_check = now + KEYS_INTERVAL;
            if self.keys.changed() {
                self.rebuild_keys();
            }
        }
    }

    fn rebuild_keys(&mut self) {
        if let Err(error) = self.keys.rebuild() {
            self.log.write(format_args!(
                "warning: cannot update the keys that sshd reads: {error}; the previous keys stay in force"
            ));
            return;
        }
        for problem in self.keys.problems() {
            self.log.write(format_args!("warning: {problem}"));
        }
        self.log.write(format_args!(
            "reloaded the public keys: {} can connect",
            self.keys.count()
        ));
        self.report_key_problems();
    }

    fn report_key_problems(&mut self) {
        self.status
            .set_keys(self.keys.count(), self.keys.problems());
    }

    /// Reports once that the appliance is ready.
    fn check_ready(&mut self, now: Instant) {
        if self.ready_at().is_none_or(|at| at > now) {
            return;
        }
        self.status.set_phase(InitPhase::Running);
        // The status file is up to date before the log says so.
        self.publish();
        self.log.write(format_args!(
            "{} ({} keys)",
            self.ready_message,
            self.keys.count()
        ));
        if self.keys.count() == 0 {
            self.log.write(format_args!("{}", self.no_keys_hint));
        }
        memory::release_boot_memory();
    }

    /// When the children are ready; `None` if one does not run, or that was reported already.
    fn ready_at(&self) -> Option<Instant> {
        if self.status.phase() != InitPhase::Starting {
            return None;
        }
        let sshd = self.children[SSHD].running_since()?;
        let serve = self.children[SERVE].running_since()?;
        Some(sshd.max(serve) + READY_AFTER)
    }

    fn publish(&mut self) {
        self.status.publish(&self.children, self.log);
    }

    /// Waits for a signal, for output, for the answer to a probe, until the log can be written, or until the next timer.
    fn wait(&self, now: Instant) {
        let reading = if self.reads_output(now) {
            PollFlags::POLLIN
        } else {
            PollFlags::empty()
        };
        let mut fds = vec![
            PollFd::new(self.signals.fd(), PollFlags::POLLIN),
            PollFd::new(self.children[SSHD].output_fd(), reading),
            PollFd::new(self.children[SERVE].output_fd(), reading),
        ];
        if let Some(log) = self.log.pending_fd() {
            fds.push(PollFd::new(log, PollFlags::POLLOUT));
        }
        // Nothing reads the answers once a stop has begun.
        let probed = self.children.iter().filter(|_| self.shutdown.is_none());
        let probes = probed.filter_map(Child::probe_fd);
        fds.extend(probes.map(|probe| PollFd::new(probe, PollFlags::POLLIN)));
        let timeout = self.next_timer(now).saturating_duration_since(now);
        // Rounded up: a millisecond too early would be a wake-up for nothing.
        let millis = if self.reaped == ReapResult::More {
            0
        } else {
            timeout.as_nanos().div_ceil(1_000_000)
        };
        let _ = poll(
            &mut fds,
            PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX)),
        );
    }

    fn next_timer(&self, now: Instant) -> Instant {
        let interval = if self.shutdown.is_some() {
            now + SHUTDOWN_INTERVAL
        } else {
            self.next_key_check
        };
        let probed = self.children.iter().filter(|_| self.shutdown.is_none());
        self.children
            .iter()
            .filter_map(Child::next_start)
            .chain(probed.filter_map(Child::next_probe))
            .chain(self.ready_at())
            .chain(self.log.paused_until().filter(|until| *until > now))
            .fold(interval, Instant::min)
    }

    /// Whether the output of the children is read: not while the log is full, up to a time limit.
    fn reads_output(&self, now: Instant) -> bool {
        self.log.paused_until().is_none_or(|until| until <= now)
    }

    fn read_output(&mut self) {
        self.log.flush();
        if self.reads_output(Instant::now()) {
            for child in &mut self.children {
                child.read_output(self.log);
            }
        }
    }

    fn reap(&mut self) {
        let pids = [self.children[SSHD].pid(), self.children[SERVE].pid()];
        let mut exits = [None; 2];
        let ended = |pid, exit| {
            if let Some(index) = pids.iter().position(|own| *own == Some(pid)) {
                exits[index] = Some(exit);
            }
        };
        self.reaped = if self.settings.leave_zombies {
            reap::reap_only(pids, ended)
        } else {
            reap::reap_ended(ended)
        };
        for (child, exit) in self.children.iter_mut().zip(exits) {
            if let Some(exit) = exit {
                child.ended(exit, self.jitter.next(), self.log);
                self.status.child_changed();
            }
        }
    }

    /// Takes the next steps of the shutdown, and returns whether it is complete.
    fn continue_shutdown(&mut self, now: Instant) -> bool {
        let Some(shutdown) = &mut self.shutdown else {
            return true;
        };
        let sshd = self.children[SSHD].pid();
        let serve = self.children[SERVE].pid();
        let me = getpid().as_raw();
        loop {
            let git_sessions = shutdown.needs_git_sessions()
                && serve.is_none()
                && processes::has_git_session(&processes::list(), me, sshd);
            let remaining = RunningProcesses {
                serve: serve.is_some(),
                sshd: sshd.is_some(),
                git_sessions,
                any: self.reaped != ReapResult::NoChildren,
            };
            match shutdown.next_action(now, remaining) {
                ShutdownAction::TermServe => processes::send_if_running(serve, Signal::SIGTERM),
                ShutdownAction::TermSshd => processes::send_if_running(sshd, Signal::SIGTERM),
                ShutdownAction::TermAll => processes::send_to_all(me, Signal::SIGTERM),
                ShutdownAction::KillAll => {
                    processes::send_to_all(me, Signal::SIGKILL);
                    return false;
                }
                ShutdownAction::Wait => return false,
                ShutdownAction::Exit => break,
            }
        }
        if self.reaped != ReapResult::NoChildren {
            self.log.write(format_args!(
                "the time to stop is over; killing the remaining processes"
            ));
            processes::send_to_all(me, Signal::SIGKILL);
        }
        true
    }
}

/// Numbers that differ from call to call (xorshift). Nothing depends on their quality.
#[derive(Debug)]
struct Jitter(u32);

impl Jitter {
    fn new(seed: u32) -> Self {
        // Zero would stay zero for ever.
        Self((seed ^ std::process::id()) | 1)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}
