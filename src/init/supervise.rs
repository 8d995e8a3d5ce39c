//! The loop: signals, ends of processes, output, timers. One `poll` waits for all of them.
//!
//! Invariants: nothing in here blocks; once all is up, no event allocates (a changed key file
//! and a shutdown do); a child's process id is used only while the child is not yet reaped.

use std::fs::File;
use std::io::{self, IsTerminal, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use crate::clock::Clock;

use super::boot::{Ready, Report, key_hint};
use super::children::{CONFIG_EXIT, Life, State};
use super::error::BootError;
use super::keys::Keys;
use super::memory;
use super::output::{Lines, Output};
use super::processes;
use super::reap::{self, Remaining};
use super::settings::Settings;
use super::shutdown::{Act, Left, Shutdown};
use super::signals::Signals;
use super::spawn::{Program, Spawner};
use super::status::{ChildState, ChildStatus, Exit, Phase, Status};
use super::volume::Volume;

/// How often the sources of keys are looked at.
const KEYS_EVERY: Duration = Duration::from_secs(1);
/// Children that have been up together for so long are called ready.
const SETTLED: Duration = Duration::from_millis(250);
/// How often a shutdown looks again at what cannot be waited for.
const STOPPING_EVERY: Duration = Duration::from_millis(50);
const SSHD: usize = 0;
const SERVE: usize = 1;

/// A child: its program, its life, and the pipe that all its processes write to. `init` keeps both
/// ends, so the pipe outlives every process and never says that it is closed.
#[derive(Debug)]
struct Child {
    name: &'static str,
    program: Program,
    life: Life,
    reader: OwnedFd,
    writer: PipeWriter,
    lines: Lines,
}

/// The supervisor of both children.
#[derive(Debug)]
pub(super) struct Supervisor<'a> {
    settings: &'a Settings,
    signals: &'a Signals,
    spawner: &'a Spawner,
    output: &'a mut Output,
    children: [Child; 2],
    keys: Keys,
    keys_at: Instant,
    greeting: String,
    shutdown: Option<Shutdown>,
    remaining: Remaining,
    status: Status,
    /// Those of preflight; the ones of the keys come and go.
    warnings: usize,
    status_file: StatusFile,
    changed: bool,
    chance: u32,
    terminal: bool,
    _volume: Volume,
}

/// The status file, and what it takes to write it without allocating.
#[derive(Debug)]
struct StatusFile {
    path: PathBuf,
    beside: PathBuf,
    bytes: Vec<u8>,
    failed: bool,
}

impl StatusFile {
    fn write(&mut self, status: &Status, output: &mut Output) {
        self.bytes.clear();
        let written = serde_json::to_writer(&mut self.bytes, status)
            .map_err(io::Error::from)
            .and_then(|()| {
                File::create(&self.beside)?.write_all(&self.bytes)?;
                std::fs::rename(&self.beside, &self.path)
            });
        if let Err(error) = &written
            && !self.failed
        {
            output.say(format_args!(
                "warning: cannot write {}: {error}",
                self.path.display()
            ));
        }
        self.failed = written.is_err();
    }
}

fn child(name: &'static str, program: Program, now: Instant) -> Result<Child, BootError> {
    let (reader, writer) = io::pipe().map_err(BootError::system("make a pipe"))?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(BootError::system("set up a pipe"))?;
    Ok(Child {
        name,
        program,
        life: Life::new(now),
        reader: reader.into(),
        writer,
        lines: Lines::new(name),
    })
}

impl<'a> Supervisor<'a> {
    /// Takes over what preflight made.
    pub(super) fn new(
        settings: &'a Settings,
        signals: &'a Signals,
        spawner: &'a Spawner,
        ready: Ready,
        report: &'a mut Report,
    ) -> Result<Self, BootError> {
        let now = Instant::now();
        let started_at = Clock::system().now();
        let path = settings.paths.status();
        let mut supervisor = Self {
            settings,
            signals,
            spawner,
            output: &mut report.output,
            children: [
                child("sshd", ready.sshd, now)?,
                child("serve", ready.serve, now)?,
            ],
            keys: ready.keys,
            keys_at: now,
            greeting: ready.greeting,
            shutdown: None,
            remaining: Remaining::Alive,
            warnings: report.warnings.len(),
            status: Status {
                pid: getpid().as_raw(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                phase: Phase::Starting,
                started_at,
                children: ["sshd", "serve"]
                    .map(|name| (name.to_owned(), ChildStatus::default()))
                    .into(),
                keys: 0,
                warnings: std::mem::take(&mut report.warnings),
            },
            status_file: StatusFile {
                beside: path.with_extension("new"),
                path,
                bytes: Vec::with_capacity(4096),
                failed: false,
            },
            changed: true,
            chance: (started_at.0.unsigned_abs() as u32 ^ std::process::id()) | 1,
            terminal: io::stderr().is_terminal(),
            _volume: ready._volume,
        };
        supervisor.show_keys();
        Ok(supervisor)
    }

    /// Runs until everything is gone after a request to stop.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.heed_signals(now);
            if self.shutdown.is_some() {
                if self.stop_step(now) {
                    break;
                }
            } else {
                self.start_due(now);
                self.tick(now);
            }
            self.publish();
            self.wait(Instant::now());
            self.signals.clear();
            self.read_output();
            self.reap();
        }
        self.read_output();
        self.status.phase = Phase::Stopped;
        self.changed = true;
        self.publish();
        self.output.say(format_args!("stopped"));
    }

    fn heed_signals(&mut self, now: Instant) {
        if self.signals.take_hang_up() && self.shutdown.is_none() {
            if self.terminal && !io::stderr().is_terminal() {
                // The terminal that it ran in is gone: nobody is there to reload for.
                self.signals.ask_to_stop();
            } else {
                self.reload(now);
            }
        }
        if self.signals.stop_asked() && self.shutdown.is_none() {
            self.output
                .say(format_args!("stopping, within {:?}", self.settings.grace));
            self.shutdown = Some(Shutdown::begin(now, self.settings.grace));
            self.status.phase = Phase::Stopping;
            self.changed = true;
            for child in &mut self.children {
                child.life.stop();
            }
        }
    }

    fn reload(&mut self, now: Instant) {
        self.output.say(format_args!("reloading"));
        for child in &mut self.children {
            match child.life.pid() {
                Some(pid) => send(pid, Signal::SIGHUP),
                None => child.life.hurry(now),
            }
        }
        self.renew_keys();
    }

    fn start_due(&mut self, now: Instant) {
        for index in 0..self.children.len() {
            let chance = self.chance();
            let child = &mut self.children[index];
            if !child.life.due(now) {
                continue;
            }
            self.changed = true;
            match self.spawner.start(&child.program, child.writer.as_fd()) {
                Ok(pid) => child.life.started(pid, Instant::now()),
                Err(errno) => {
                    let delay = child.life.ended(None, now, chance).unwrap_or_default();
                    self.output.say(format_args!(
                        "cannot start {}: {}; trying again in {delay:.1?}",
                        child.name,
                        errno.desc()
                    ));
                }
            }
            if let Some(status) = self.status.children.get_mut(child.name) {
                status.started_at = Some(Clock::system().now());
            }
        }
    }

    /// What is due by time alone: the sources of keys, and the word that all is up.
    fn tick(&mut self, now: Instant) {
        if now >= self.keys_at {
            self.keys_at = now + KEYS_EVERY;
            if self.keys.changed() {
                self.renew_keys();
            }
        }
        if self.ready_at().is_some_and(|at| at <= now) {
            self.status.phase = Phase::Running;
            self.changed = true;
            self.publish();
            self.output.say(format_args!(
                "{} ({} keys)",
                self.greeting,
                self.keys.count()
            ));
            if self.keys.count() == 0 {
                let (file, other) = key_hint(self.settings);
                self.output.say(format_args!(
                    "no key may connect yet: put a public key into {} (also: {other}, QUIRE_AUTHORIZED_KEYS); it is taken at once",
                    file.display()
                ));
            }
            memory::give_back();
        }
    }

    /// When the children may be called ready, if all run and that was not said yet.
    fn ready_at(&self) -> Option<Instant> {
        if self.status.phase != Phase::Starting {
            return None;
        }
        let since = |child: &Child| {
            if let State::Running { since, .. } = child.life.state() {
                Some(since)
            } else {
                None
            }
        };
        Some(since(&self.children[SSHD])?.max(since(&self.children[SERVE])?) + SETTLED)
    }

    fn renew_keys(&mut self) {
        if let Err(error) = self.keys.renew() {
            self.output.say(format_args!(
                "warning: cannot renew the keys that sshd reads: {error}; the former ones stay"
            ));
            return;
        }
        for problem in self.keys.problems() {
            self.output.say(format_args!("warning: {problem}"));
        }
        self.output.say(format_args!(
            "keys read again: {} may connect",
            self.keys.count()
        ));
        self.show_keys();
    }

    fn show_keys(&mut self) {
        self.status.keys = self.keys.count();
        self.status.warnings.truncate(self.warnings);
        self.status.warnings.extend_from_slice(self.keys.problems());
        self.changed = true;
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for child in &self.children {
            if let Some(status) = self.status.children.get_mut(child.name) {
                status.pid = child.life.pid();
                status.restarts = child.life.restarts();
                status.last_exit = child.life.last_exit();
                status.state = match child.life.state() {
                    State::Running { .. } => ChildState::Running,
                    State::Waiting { .. } => ChildState::Backoff,
                    State::Stopped => ChildState::Stopped,
                };
            }
        }
        self.status_file.write(&self.status, self.output);
    }

    /// Waits for a signal, output, a reader of ours, or the next point in time.
    fn wait(&self, now: Instant) {
        let reading = if self.reads(now) {
            PollFlags::POLLIN
        } else {
            PollFlags::empty()
        };
        let (pending, writing) = match self.output.pending() {
            Some(fd) => (fd, PollFlags::POLLOUT),
            None => (self.signals.fd(), PollFlags::POLLIN),
        };
        let mut fds = [
            PollFd::new(self.signals.fd(), PollFlags::POLLIN),
            PollFd::new(self.children[SSHD].reader.as_fd(), reading),
            PollFd::new(self.children[SERVE].reader.as_fd(), reading),
            PollFd::new(pending, writing),
        ];
        let until = self.next_time(now).saturating_duration_since(now);
        // Rounded up: a millisecond too early would be a turn for nothing.
        let millis = if self.remaining == Remaining::More {
            0
        } else {
            until.as_nanos().div_ceil(1_000_000)
        };
        let _ = poll(
            &mut fds,
            PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX)),
        );
    }

    fn next_time(&self, now: Instant) -> Instant {
        let mut next = if self.shutdown.is_some() {
            now + STOPPING_EVERY
        } else {
            self.keys_at
        };
        for time in self
            .children
            .iter()
            .filter_map(|child| child.life.wakes_at())
        {
            next = next.min(time);
        }
        for time in [
            self.ready_at(),
            self.output.full_until().filter(|until| *until > now),
        ]
        .into_iter()
        .flatten()
        {
            next = next.min(time);
        }
        next
    }

    /// Whether the children's output is taken: not while ours is full, for a while.
    fn reads(&self, now: Instant) -> bool {
        self.output.full_until().is_none_or(|until| until <= now)
    }

    fn read_output(&mut self) {
        self.output.flush();
        if self.reads(Instant::now()) {
            for child in &mut self.children {
                child.lines.read(child.reader.as_fd(), self.output);
            }
        }
    }

    fn reap(&mut self) {
        let mut ends = [None; 2];
        let pids = [
            self.children[SSHD].life.pid(),
            self.children[SERVE].life.pid(),
        ];
        let mut ended = |pid, exit| {
            if let Some(index) = pids.iter().position(|own| *own == Some(pid)) {
                ends[index] = Some(exit);
            }
        };
        if self.settings.leave_zombies {
            for (pid, exit) in pids
                .into_iter()
                .flatten()
                .filter_map(|pid| reap::next(pid).ok().flatten())
            {
                ended(pid, exit);
            }
            self.remaining = if ends
                .iter()
                .zip(pids)
                .all(|(end, pid)| end.is_some() || pid.is_none())
            {
                Remaining::None
            } else {
                Remaining::Alive
            };
        } else {
            self.remaining = reap::round(ended);
        }
        for (index, end) in ends.into_iter().enumerate() {
            if let Some(exit) = end {
                self.ended(index, exit);
            }
        }
    }

    fn ended(&mut self, index: usize, exit: Exit) {
        let chance = self.chance();
        let child = &mut self.children[index];
        // Its last words before ours about it.
        child.lines.read(child.reader.as_fd(), self.output);
        child.lines.finish(self.output);
        let name = child.name;
        match child.life.ended(Some(exit), Instant::now(), chance) {
            None => self.output.say(format_args!("{name} ended with {exit}")),
            Some(delay) if exit == Exit::Code(CONFIG_EXIT) => self.output.say(format_args!(
                "{name} cannot use its configuration ({exit}): mend it; it is tried again every {} s, and at once after HUP",
                delay.as_secs()
            )),
            Some(Duration::ZERO) => self.output.say(format_args!("{name} ended with {exit}; starting it again at once")),
            Some(delay) => self.output.say(format_args!("{name} ended with {exit}; starting it again in {delay:.1?}")),
        }
        self.changed = true;
    }

    /// One step of the way out; true when there is nothing left to do.
    fn stop_step(&mut self, now: Instant) -> bool {
        let Some(mut shutdown) = self.shutdown.take() else {
            return true;
        };
        let (sshd, serve) = (
            self.children[SSHD].life.pid(),
            self.children[SERVE].life.pid(),
        );
        let me = getpid().as_raw();
        let done = loop {
            let pushes = shutdown.asks_for_pushes()
                && serve.is_none()
                && processes::pushes(&processes::all(), me, sshd);
            let left = Left {
                serve: serve.is_some(),
                sshd: sshd.is_some(),
                pushes,
                any: self.remaining != Remaining::None,
            };
            match shutdown.step(now, left) {
                Act::TermServe => serve.into_iter().for_each(|pid| send(pid, Signal::SIGTERM)),
                Act::TermSshd => sshd.into_iter().for_each(|pid| send(pid, Signal::SIGTERM)),
                Act::TermRest => send_to_all(me, Signal::SIGTERM),
                Act::KillRest => {
                    send_to_all(me, Signal::SIGKILL);
                    break false;
                }
                Act::Wait => break false,
                Act::Leave => break true,
            }
        };
        if done && self.remaining != Remaining::None {
            self.output
                .say(format_args!("the grace is over: what is left is killed"));
            send_to_all(me, Signal::SIGKILL);
        }
        self.shutdown = Some(shutdown);
        done
    }

    /// A number that differs from time to time; nothing depends on it being more.
    fn chance(&mut self) -> u32 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 17;
        self.chance ^= self.chance << 5;
        self.chance
    }
}

fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// To every process there is, where this is PID 1; else to every one below this one.
fn send_to_all(me: i32, signal: Signal) {
    if me == 1 {
        send(-1, signal);
    } else {
        for process in processes::below(&processes::all(), me) {
            send(process.pid, signal);
        }
    }
}
