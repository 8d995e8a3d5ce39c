//! The one loop of the helper: frames, output, ends of processes, hunts, the lease.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use quire_step::{FailureReason, FromHelper, HelperError, ToHelper, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper,
    set_dumpable_behavior, wait,
};

use crate::connect::{ConnectError, ConnectVariables, connect};
use crate::link::RunnerLink;
use crate::oom::OomCounter;
use crate::processes::{Hunt, hunt};
use crate::report::TaskFailure;
use crate::sys;
use crate::task::Task;
use crate::{timer, workers};

/// How much is read at once.
const BUFFER: usize = 256 << 10;

pub(crate) struct HelperLoop {
    link: RunnerLink,
    tasks: BTreeMap<u32, Task>,
    hunts: Vec<Hunt>,
    signals: OwnedFd,
    /// Readable when the lease expires.
    lease: Option<OwnedFd>,
    oom: OomCounter,
    buffer: Vec<u8>,
}

/// What a descriptor is waited for.
#[derive(Clone, Copy)]
enum Wakeup {
    LinkInput,
    LinkOutput,
    Signals,
    Lease,
    Reports(u32),
    Output(u32, usize),
    Input(u32),
}

/// The helper is at its end.
struct Quit;

/// Why the helper cannot start.
pub(crate) enum StartError {
    System(Errno),
    Connect(ConnectError),
}

impl HelperLoop {
    pub(crate) fn start(variables: Option<ConnectVariables>) -> Result<Self, StartError> {
        // Neither commands with the same ids nor root without CAP_SYS_PTRACE can look into this
        // process, trace it or take its descriptors.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        set_child_subreaper(Some(getpid()))?;
        let signals = sys::child_signals()?;
        let channel = variables
            .map(connect)
            .transpose()
            .map_err(StartError::Connect)?;
        let mut link = RunnerLink::open(channel)?;
        let system = rustix::system::uname();
        let hello = FromHelper::Hello {
            version: VERSION,
            kernel: system.release().to_bytes(),
            machine: system.machine().to_bytes(),
        };
        link.send(0, &hello);
        Ok(Self {
            link,
            tasks: BTreeMap::new(),
            hunts: Vec::new(),
            signals,
            lease: None,
            oom: OomCounter::open(),
            buffer: vec![0; BUFFER],
        })
    }

    pub(crate) fn run(&mut self) -> ! {
        loop {
            self.link.flush();
            let wakeups = self.wait();
            for wakeup in wakeups {
                if let Err(Quit) = self.handle(wakeup) {
                    self.quit();
                }
            }
            if !self.hunts.is_empty() {
                self.hunt();
            }
            self.settle();
        }
    }

    /// Waits until something can be done, and returns what.
    fn wait(&self) -> Vec<Wakeup> {
        let (input, output) = (PollFlags::IN, PollFlags::OUT);
        let own = [
            (Wakeup::LinkInput, self.link.wants_input(), input),
            (Wakeup::LinkOutput, self.link.wants_output(), output),
            (Wakeup::Signals, Some(self.signals.as_fd()), input),
            (Wakeup::Lease, self.lease.as_ref().map(AsFd::as_fd), input),
        ];
        let of_tasks = self.tasks.iter().flat_map(|(id, task)| {
            let outputs = task.wanted_outputs(&self.link);
            let outputs = outputs.map(|(index, fd)| (Wakeup::Output(*id, index), Some(fd), input));
            outputs.chain([
                (Wakeup::Reports(*id), task.reports(), input),
                (Wakeup::Input(*id), task.wanted_input(), output),
            ])
        });
        let sources: Vec<(Wakeup, BorrowedFd<'_>, PollFlags)> = own
            .into_iter()
            .chain(of_tasks)
            .filter_map(|(wakeup, fd, flags)| Some((wakeup, fd?, flags)))
            .collect();
        let mut polled: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let pause = self.hunts.iter().map(Hunt::pause_ms).min();
        let timeout = pause.map(|milliseconds| Timespec {
            tv_sec: 0,
            tv_nsec: milliseconds * 1_000_000,
        });
        if poll(&mut polled, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = polled.iter().zip(&sources);
        ready
            .filter(|(polled, _)| !polled.revents().is_empty())
            .map(|(_, (wakeup, _, _))| *wakeup)
            .collect()
    }

    fn handle(&mut self, wakeup: Wakeup) -> Result<(), Quit> {
        match wakeup {
            Wakeup::LinkInput => return self.receive(),
            Wakeup::LinkOutput => self.link.flush(),
            Wakeup::Signals => self.reap(),
            Wakeup::Lease => return Err(Quit),
            Wakeup::Reports(id) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.read_reports(id, &mut self.link);
                }
            }
            Wakeup::Output(id, index) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.read_output(id, index, &mut self.link, &mut self.buffer);
                }
            }
            Wakeup::Input(id) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.write_input(id, &mut self.link);
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Quit> {
        let is_open = self.link.receive(&mut self.buffer);
        let mut decoder = self.link.take_decoder();
        loop {
            match decoder.next_frame() {
                Ok(Some((header, body))) => match ToHelper::decode(header.kind, body) {
                    Ok(frame) => self.obey(header.id, &frame)?,
                    Err(error) => return Err(self.refuse(&error.to_string())),
                },
                Ok(None) => break,
                Err(error) => return Err(self.refuse(&error.to_string())),
            }
        }
        self.link.put_decoder_back(decoder);
        if is_open || (self.lease.is_some() && self.link.outlives_input()) {
            return Ok(());
        }
        Err(Quit)
    }

    /// The runner does not speak the protocol.
    fn refuse(&mut self, problem: &str) -> Quit {
        let failure = TaskFailure::plain(FailureReason::Protocol, problem.as_bytes());
        self.send_failure(0, &failure);
        self.link.flush();
        Quit
    }

    fn obey(&mut self, id: u32, frame: &ToHelper<'_>) -> Result<(), Quit> {
        match frame {
            ToHelper::Ping { nonce, lease } => {
                self.link.send(0, &FromHelper::Pong { nonce: *nonce });
                return self.renew_lease(*lease);
            }
            ToHelper::Quit => return Err(Quit),
            ToHelper::Kill => self.kill(id),
            ToHelper::Stdin(bytes) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    if task.add_input(bytes).is_err() {
                        return Err(self.refuse("STDIN exceeds its credit"));
                    }
                    task.write_input(id, &mut self.link);
                }
            }
            ToHelper::StdinEof => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.end_input();
                    task.write_input(id, &mut self.link);
                }
            }
            ToHelper::Credit(bytes) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.add_credit(*bytes);
                }
            }
            ToHelper::Resize(size) => {
                if let Some(task) = self.tasks.get(&id) {
                    task.resize(*size);
                }
            }
            begin => {
                if id == 0 || self.tasks.contains_key(&id) {
                    return Err(self.refuse("the id of a new task is in use"));
                }
                match workers::start(begin) {
                    Some(Ok(task)) => {
                        self.tasks.insert(id, task);
                    }
                    Some(Err(failure)) => {
                        self.send_failure(id, &failure);
                        self.link.send(id, &FromHelper::Done);
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn send_failure(&mut self, id: u32, failure: &TaskFailure) {
        let frame = FromHelper::Error(HelperError {
            reason: failure.reason,
            errno: failure.errno,
            detail: &failure.detail,
        });
        self.link.send(id, &frame);
    }

    fn renew_lease(&mut self, seconds: u32) -> Result<(), Quit> {
        if seconds == 0 {
            self.lease = None;
            return Ok(());
        }
        let timer = match self.lease.take() {
            Some(timer) => timer,
            None => timer::create().map_err(|_| self.refuse("there is no timer for a lease"))?,
        };
        timer::set(&timer, Duration::from_secs(u64::from(seconds)))
            .map_err(|_| self.refuse("the timer of the lease cannot be set"))?;
        self.lease = Some(timer);
        Ok(())
    }

    fn kill(&mut self, id: u32) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.set_killed();
            if !task.has_ended() {
                let process = task.process();
                self.add_hunt(process);
            }
        }
    }

    fn add_hunt(&mut self, root: Pid) {
        if !self.hunts.iter().any(|hunt| hunt.is_for(root)) {
            self.hunts.push(Hunt::new(root));
        }
    }

    fn hunt(&mut self) {
        let known: Vec<i32> = self
            .tasks
            .values()
            .filter(|task| !task.has_ended())
            .map(|task| task.process().as_raw_nonzero().get())
            .collect();
        hunt(&mut self.hunts, |pid| known.contains(&pid));
        let own = getpid();
        let mut kept = Vec::new();
        for hunt in self.hunts.drain(..) {
            if !hunt.is_over() {
                kept.push(hunt);
            } else if !hunt.is_for(own) {
                // The nanny may have been stopped. Children that it has not reaped become those of
                // this process.
                for task in self.tasks.values() {
                    if hunt.is_for(task.process()) && !task.has_ended() {
                        let _ = kill_process(task.process(), Signal::KILL);
                    }
                }
            }
        }
        self.hunts = kept;
    }

    /// Reaps all children that ended. After a nanny that did not end by itself, or a child that is
    /// unknown, there can be others that belong to no task any more.
    fn reap(&mut self) {
        // The signal is taken; another one makes the descriptor readable again.
        let mut signal = [0; 128];
        let _ = rustix::io::read(&self.signals, &mut signal);
        let mut has_strays = false;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let task = self
                .tasks
                .iter_mut()
                .find(|(_, task)| task.process() == pid && !task.has_ended());
            match task {
                Some((id, task)) => {
                    task.end(*id, status, &mut self.link);
                    has_strays |= !task.ended_well();
                    self.hunts.retain(|hunt| !hunt.is_for(pid));
                }
                None => has_strays = true,
            }
        }
        if has_strays {
            self.add_hunt(getpid());
        }
    }

    fn settle(&mut self) {
        let (link, oom) = (&mut self.link, &mut self.oom);
        self.tasks.retain(|id, task| !task.settle(*id, link, oom));
    }

    /// Ends the helper. The end of the first process of a container is that of all others; in
    /// another place everything that was started is killed first.
    fn quit(&mut self) -> ! {
        let own = getpid();
        if own.as_raw_nonzero().get() != 1 {
            // The nannies are prey as well.
            self.tasks.clear();
            let mut hunts = [Hunt::new(own)];
            loop {
                while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
                hunt(&mut hunts, |_| false);
                if hunts.iter().all(Hunt::is_over) {
                    break;
                }
                let pause = Timespec {
                    tv_sec: 0,
                    tv_nsec: 1_000_000,
                };
                let _ = poll(&mut [], Some(&pause));
            }
        }
        sys::exit(0)
    }
}

impl From<Errno> for StartError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => write!(f, "the helper cannot start: {errno}"),
            Self::Connect(error) => error.fmt(f),
        }
    }
}
