//! Following a run to its end: what `run logs --follow`, `run wait` and the push option
//! `ci.wait` do.
//!
//! Reads rows and log files again and again; nothing is pushed to it, so nothing can be missed.
//! The state is read before the log: once it is final, what the log then holds is all there is.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::report::{FAILED, Failure};
use crate::logs::{Cursor, LogFollower, LogLine, StepKey};
use crate::names::RunId;
use crate::paths::Paths;
use crate::run::{FailureKind, JobRow, Run, RunState, StepRow};
use crate::store::Store;

/// How often it looks, in milliseconds.
const TICK_MS: u16 = 100;
/// How much log is read at once.
const BATCH_BYTES: usize = 256 << 10;

/// Where runs are read from; a test has one that moves by itself.
pub(super) trait Source {
    fn run(&self, id: RunId) -> Result<Run, Failure>;
    /// Its jobs, without what they returned.
    fn jobs(&self, id: RunId) -> Result<Vec<JobRow>, Failure>;
    /// Brings the known steps of a run up to date; none are known at first.
    fn steps(&self, id: RunId, known: &mut Vec<StepRow>) -> Result<(), Failure>;
    /// The run that was queued in place of this one.
    fn successor(&self, id: RunId) -> Result<Option<RunId>, Failure>;
    /// The next lines of the log; none where there are no more for now.
    fn lines(&mut self, run: &Run, steps: &[StepRow]) -> Result<Vec<LogLine>, Failure>;
    /// Waits a little; `false` where nobody listens any more.
    fn pause(&mut self) -> bool;
}

/// Who hears about a run.
pub(super) trait Sink {
    /// What the run's row says now.
    fn run(&mut self, run: &Run);
    /// More of the log.
    fn lines(&mut self, lines: &[LogLine], steps: &[StepRow]) -> Result<(), Failure>;
    /// The run was cut off; its repetition is followed from here.
    fn moved(&mut self, from: &Run, to: RunId);
}

/// Reads a run to what there is now or, with `follow`, to its end. A run that quire's own death
/// cut off and that was queued again goes on as its repetition. Gives the last run it read.
pub(super) fn to_end(
    source: &mut dyn Source,
    mut id: RunId,
    follow: bool,
    sink: &mut dyn Sink,
) -> Result<Run, Failure> {
    let mut steps = Vec::new();
    loop {
        let run = source.run(id)?;
        sink.run(&run);
        source.steps(id, &mut steps)?;
        loop {
            let lines = source.lines(&run, &steps)?;
            if lines.is_empty() {
                break;
            }
            sink.lines(&lines, &steps)?;
        }
        if !follow {
            return Ok(run);
        }
        if run.state.is_final() {
            let cut_off = run.failure_kind == Some(FailureKind::Orphaned);
            match if cut_off { source.successor(id)? } else { None } {
                Some(next) => {
                    sink.moved(&run, next);
                    id = next;
                    steps.clear();
                    continue;
                }
                None => return Ok(run),
            }
        }
        if !source.pause() {
            return Err(Failure::silent(FAILED));
        }
    }
}

/// The appliance's own rows and files.
pub(super) struct Appliance<'a> {
    store: Store,
    paths: &'a Paths,
    follower: Option<(RunId, LogFollower)>,
}

impl<'a> Appliance<'a> {
    pub(super) fn new(store: Store, paths: &'a Paths) -> Self {
        Self {
            store,
            paths,
            follower: None,
        }
    }
}

impl Source for Appliance<'_> {
    fn run(&self, id: RunId) -> Result<Run, Failure> {
        self.store
            .run(id)?
            .ok_or_else(|| Failure::not_found(format!("there is no run `{id}` any more")))
    }

    fn jobs(&self, id: RunId) -> Result<Vec<JobRow>, Failure> {
        Ok(self.store.jobs_without_outputs(id)?)
    }

    fn steps(&self, id: RunId, known: &mut Vec<StepRow>) -> Result<(), Failure> {
        // A step that has ended never changes again; numbers begin with 1.
        let settled = known
            .iter()
            .zip(1..)
            .take_while(|(step, seq)| step.seq == *seq && step.finished_at_ms.is_some())
            .count();
        known.truncate(settled);
        known.extend(self.store.steps_since(
            id,
            u32::try_from(settled).unwrap_or(u32::MAX),
            &[],
        )?);
        Ok(())
    }

    fn successor(&self, id: RunId) -> Result<Option<RunId>, Failure> {
        Ok(self.store.successor_of(id)?)
    }

    fn lines(&mut self, run: &Run, steps: &[StepRow]) -> Result<Vec<LogLine>, Failure> {
        let over = run.state.is_final();
        let key = |step: &StepRow| StepKey {
            seq: step.seq,
            job: step.job_id.clone(),
            done: over || step.finished_at_ms.is_some(),
        };
        let keys: Vec<StepKey> = steps.iter().map(key).collect();
        let folder = self.paths.run(&run.repo, run.id);
        if self.follower.as_ref().is_none_or(|(id, _)| *id != run.id) {
            self.follower = Some((run.id, LogFollower::open(folder.clone(), Cursor::default())));
        }
        let Some((_, follower)) = &mut self.follower else {
            return Ok(Vec::new());
        };
        follower.lies_in(folder);
        let batch = follower.poll(&keys, BATCH_BYTES);
        batch.map(|batch| batch.lines).map_err(|error| {
            Failure::failed(format!("the log of run {} cannot be read: {error}", run.id))
        })
    }

    /// Waits on standard output, which tells when its reader is gone: a closed connection ends us.
    fn pause(&mut self) -> bool {
        let stdout = io::stdout();
        let mut ends = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let _ = poll(&mut ends, PollTimeout::from(TICK_MS));
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        !ends[0]
            .revents()
            .is_some_and(|events| events.intersects(gone))
    }
}

/// A line for the person beside the output.
pub(super) fn say(text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = io::stderr().write_all(format!("quire: {text}\n").as_bytes());
}

/// Tells why a run waits, whenever that changes.
#[derive(Default)]
pub(super) struct Waiting {
    last: Option<(RunId, RunState, Option<String>)>,
}

impl Waiting {
    pub(super) fn heard(&mut self, run: &Run) -> Option<String> {
        let now = (run.id, run.state, run.message.clone());
        if self.last.as_ref() == Some(&now) {
            return None;
        }
        self.last = Some(now);
        let why = match run.message.as_deref() {
            None => "waits".to_owned(),
            Some(why) if why.starts_with("waits") => why.to_owned(),
            Some(why) => format!("waits: {why}"),
        };
        (run.state == RunState::Pending).then(|| format!("run {} {why}", run.id))
    }
}

/// The line about a run that goes on as another.
pub(super) fn moved(from: &Run, to: RunId) -> String {
    format!(
        "run {} was cut off when quire stopped; run {to} repeats it",
        from.id
    )
}

/// Hears a run without its log.
pub(super) struct Hush {
    waiting: Waiting,
    silent: bool,
}

impl Hush {
    pub(super) fn new(silent: bool) -> Self {
        Self {
            waiting: Waiting::default(),
            silent,
        }
    }
}

impl Sink for Hush {
    fn run(&mut self, run: &Run) {
        if let Some(line) = self.waiting.heard(run).filter(|_| !self.silent) {
            say(&line);
        }
    }

    fn lines(&mut self, _lines: &[LogLine], _steps: &[StepRow]) -> Result<(), Failure> {
        Ok(())
    }

    fn moved(&mut self, from: &Run, to: RunId) {
        if !self.silent {
            say(&moved(from, to));
        }
    }
}
