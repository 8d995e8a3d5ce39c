//! A task in the supervisor: the process that does its work, and what passes between it and the link.
//!
//! ```text
//! running ─ report: exited or failed ─► reported ─ output so far is sent ─► told ─┐
//!    └───────────────── the process ended (no descendants are left) ──────────────┴─► DONE
//! ```
//!
//! [`Task::settle`] is level-triggered: it looks at what is known and sends what is due.

use alloc::vec::Vec;

use quire_step::{
    ExitStatus, FailureReason, FrameDecoder, FromHelper, HelperError, INPUT_CREDIT, OUTPUT_CREDIT,
    TerminalSize,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, WaitStatus};

use crate::link::RunnerLink;
use crate::oom::OomCounter;
use crate::report::TaskFailure;
use crate::stdio::{self, OutputKind, TaskStdio};

/// CREDIT is sent when so much of the input was taken, or all.
const INPUT_CREDIT_STEP: usize = 256 << 10;

/// The control character that a terminal takes as the end of its input.
const END_OF_TRANSMISSION: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// The process is a nanny.
    Command,
    /// The process does the work itself.
    Worker,
}

pub(crate) struct Task {
    kind: TaskKind,
    process: Pid,
    reports: OwnedFd,
    decoder: FrameDecoder,
    outputs: Vec<TaskOutput>,
    input: TaskInput,
    is_terminal: bool,
    /// How many further bytes of output may be sent.
    credit: u64,
    exit: Option<ExitStatus>,
    failure: Option<TaskFailure>,
    /// Whether EXITED or ERROR was sent.
    told: bool,
    ended: Option<WaitStatus>,
    killed: bool,
}

struct TaskOutput {
    pipe: Option<OwnedFd>,
    kind: OutputKind,
    /// How many bytes must be sent before the end of the process is told.
    owed: u64,
}

struct TaskInput {
    pipe: Option<OwnedFd>,
    buffer: Vec<u8>,
    written: usize,
    at_end: bool,
    /// How many further bytes the runner may send.
    window: usize,
    /// How many bytes were taken since the last CREDIT.
    taken: usize,
}

/// The runner sent more input than it had credit for.
pub(crate) struct WindowExceeded;

impl Task {
    pub(crate) fn new(kind: TaskKind, process: Pid, reports: OwnedFd, stdio: TaskStdio) -> Self {
        let outputs = stdio.outputs.into_iter().map(|(pipe, kind)| TaskOutput {
            pipe: Some(pipe),
            kind,
            owed: 0,
        });
        Self {
            kind,
            process,
            reports,
            decoder: FrameDecoder::new(),
            outputs: outputs.collect(),
            input: TaskInput {
                pipe: stdio.input,
                buffer: Vec::new(),
                written: 0,
                at_end: false,
                window: INPUT_CREDIT as usize,
                taken: 0,
            },
            is_terminal: stdio.is_terminal,
            credit: u64::from(OUTPUT_CREDIT),
            exit: None,
            failure: None,
            told: false,
            ended: None,
            killed: false,
        }
    }

    pub(crate) const fn process(&self) -> Pid {
        self.process
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(crate) const fn set_killed(&mut self) {
        self.killed = true;
    }

    pub(crate) const fn add_credit(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes as u64);
    }

    pub(crate) fn resize(&self, size: TerminalSize) {
        let master = self.outputs.first().and_then(|output| output.pipe.as_ref());
        if let Some(master) = master.filter(|_| self.is_terminal) {
            // A terminal whose size cannot be set keeps the old one.
            let _ = stdio::resize(master, size);
        }
    }

    pub(crate) fn reports(&self) -> Option<BorrowedFd<'_>> {
        (!self.has_ended()).then(|| self.reports.as_fd())
    }

    /// The descriptors to wait for output on, with their positions.
    pub(crate) fn wanted_outputs(
        &self,
        link: &RunnerLink,
    ) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let wanted = link.takes_task_output() && (self.credit > 0 || !link.is_output_open());
        let outputs = self.outputs.iter().enumerate().filter(move |_| wanted);
        outputs.filter_map(|(index, output)| Some((index, output.pipe.as_ref()?.as_fd())))
    }

    pub(crate) fn wanted_input(&self) -> Option<BorrowedFd<'_>> {
        let has_more = self.input.buffer.len() > self.input.written;
        self.input
            .pipe
            .as_ref()
            .filter(|_| has_more)
            .map(AsFd::as_fd)
    }

    pub(crate) fn add_input(&mut self, bytes: &[u8]) -> Result<(), WindowExceeded> {
        let Some(window) = self.input.window.checked_sub(bytes.len()) else {
            return Err(WindowExceeded);
        };
        self.input.window = window;
        let input = &mut self.input;
        if input.at_end {
            return Ok(());
        }
        let mut rest = bytes;
        // What the pipe takes at once is not copied.
        if let Some(pipe) = input.pipe.as_ref().filter(|_| input.buffer.is_empty()) {
            let count = rustix::io::write(pipe, rest).unwrap_or_default();
            input.taken += count;
            rest = rest.get(count..).unwrap_or_default();
        }
        if input.pipe.is_some() {
            input.buffer.extend_from_slice(rest);
        } else {
            input.taken += rest.len();
        }
        Ok(())
    }

    pub(crate) fn end_input(&mut self) {
        self.input.at_end = true;
        if self.is_terminal {
            self.input.buffer.push(END_OF_TRANSMISSION);
        }
    }

    /// Writes as much of the input as the process takes, and grants credit for it.
    pub(crate) fn write_input(&mut self, id: u32, link: &mut RunnerLink) {
        let input = &mut self.input;
        while let Some(pipe) = &input.pipe {
            let rest = input.buffer.get(input.written..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match rustix::io::write(pipe, rest) {
                Ok(count) => {
                    input.written += count;
                    input.taken += count;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The process closed its input: what comes is dropped.
                Err(_) => {
                    input.taken += rest.len();
                    input.written = input.buffer.len();
                    input.pipe = None;
                }
            }
        }
        if input.written == input.buffer.len() {
            input.buffer.clear();
            input.written = 0;
            if input.at_end && !self.is_terminal {
                input.pipe = None;
            }
        } else if input.written >= INPUT_CREDIT_STEP {
            // Input that never stops must not grow the buffer.
            input.buffer.drain(..input.written);
            input.written = 0;
        }
        let is_due = input.taken >= INPUT_CREDIT_STEP || input.buffer.is_empty();
        if is_due && input.taken > 0 && !input.at_end {
            input.window += input.taken;
            link.send(
                id,
                &FromHelper::Credit(u32::try_from(input.taken).unwrap_or(u32::MAX)),
            );
            input.taken = 0;
        }
    }

    /// Sends what is in a pipe, as far as the credit goes.
    pub(crate) fn read_output(
        &mut self,
        id: u32,
        index: usize,
        link: &mut RunnerLink,
        buffer: &mut [u8],
    ) {
        let is_heard = link.is_output_open();
        let Some(output) = self.outputs.get_mut(index) else {
            return;
        };
        let Some(pipe) = &output.pipe else {
            return;
        };
        let length = match usize::try_from(self.credit) {
            Ok(credit) if is_heard => buffer.len().min(credit),
            _ => buffer.len(),
        };
        let room = buffer.get_mut(..length).unwrap_or_default();
        if room.is_empty() {
            return;
        }
        match rustix::io::read(pipe, &mut *room) {
            Ok(count) if count > 0 => {
                let bytes = room.get(..count).unwrap_or_default();
                let frame = match output.kind {
                    OutputKind::Stdout => FromHelper::Stdout(bytes),
                    OutputKind::Stderr => FromHelper::Stderr(bytes),
                    OutputKind::Data => FromHelper::Data(bytes),
                };
                link.send(id, &frame);
                output.owed = output.owed.saturating_sub(count as u64);
                if is_heard {
                    self.credit = self.credit.saturating_sub(count as u64);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The end, which a terminal reports as an error.
            Ok(_) | Err(_) => {
                output.pipe = None;
                output.owed = 0;
            }
        }
    }

    /// Reads what the process reported so far. Answers to WHO are passed on at once.
    pub(crate) fn read_reports(&mut self, id: u32, link: &mut RunnerLink) {
        let mut buffer = [0; 4096];
        while let Ok(count) = rustix::io::read(&self.reports, &mut buffer) {
            if count == 0 {
                break;
            }
            self.decoder.add(buffer.get(..count).unwrap_or_default());
        }
        loop {
            let Ok(Some((header, body))) = self.decoder.next_frame() else {
                return;
            };
            match FromHelper::decode(header.kind, body) {
                Ok(FromHelper::Exited(status)) => {
                    self.exit = self.exit.or(Some(status));
                    self.set_owed();
                }
                Ok(FromHelper::Error(error)) if self.failure.is_none() => {
                    self.failure = Some(TaskFailure {
                        reason: error.reason,
                        errno: error.errno,
                        detail: error.detail.to_vec(),
                    });
                }
                Ok(user @ FromHelper::User { .. }) => link.send(id, &user),
                _ => {}
            }
        }
    }

    /// The process was reaped: it has no descendants, or it was killed.
    pub(crate) fn end(&mut self, id: u32, status: WaitStatus, link: &mut RunnerLink) {
        self.read_reports(id, link);
        self.ended = Some(status);
        self.set_owed();
    }

    /// What is in the pipes now has to be sent before the end is told.
    fn set_owed(&mut self) {
        for output in &mut self.outputs {
            output.owed = match &output.pipe {
                // The bytes of a terminal can still be on their way; its end comes after them.
                Some(_) if self.is_terminal && self.ended.is_none() => u64::MAX,
                Some(pipe) => ioctl_fionread(pipe).unwrap_or_default(),
                None => 0,
            };
        }
    }

    /// Sends what is due. Returns whether the task is at its end.
    pub(crate) fn settle(&mut self, id: u32, link: &mut RunnerLink, oom: &mut OomCounter) -> bool {
        let is_drained = self.outputs.iter().all(|output| output.owed == 0);
        let is_dropped = self.killed && self.credit == 0;
        if !is_drained && !is_dropped {
            return false;
        }
        if !self.told && (self.failure.is_some() || self.exit.is_some() || self.ended.is_some()) {
            self.tell(id, link, oom);
        }
        if self.ended.is_some() {
            link.send(id, &FromHelper::Done);
        }
        self.ended.is_some()
    }

    fn tell(&mut self, id: u32, link: &mut RunnerLink, oom: &mut OomCounter) {
        self.told = true;
        if let Some(failure) = &self.failure {
            let frame = FromHelper::Error(HelperError {
                reason: failure.reason,
                errno: failure.errno,
                detail: &failure.detail,
            });
            link.send(id, &frame);
            return;
        }
        if let Some(kills) = oom.news() {
            link.send(0, &FromHelper::Oom { kills });
        }
        match (self.kind, self.exit) {
            (TaskKind::Command, Some(status)) => link.send(id, &FromHelper::Exited(status)),
            (TaskKind::Command, None) if !self.killed => {
                link.send(id, &FromHelper::Exited(ExitStatus::Lost));
            }
            (TaskKind::Worker, _) if !self.killed && !self.ended_well() => {
                let frame = FromHelper::Error(HelperError {
                    reason: FailureReason::Killed,
                    errno: 0,
                    detail: b"",
                });
                link.send(id, &frame);
            }
            _ => {}
        }
    }

    /// Whether the process exited by itself. A nanny that did not may have left descendants.
    pub(crate) fn ended_well(&self) -> bool {
        self.ended
            .is_some_and(|status| status.exit_status() == Some(0))
    }
}
