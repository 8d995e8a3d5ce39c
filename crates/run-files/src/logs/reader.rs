//! Following a run's logs: what is there, then what comes, from any position.
//!
//! ```text
//! arm a watch on the run ─► read the steps' rows ─► poll() until nothing is left ─► sleep on the watch
//! ```
//!
//! In that order nothing can be missed: whatever is written after the poll wakes the watch. A
//! [`Cursor`] taken after any poll resumes exactly behind the lines given so far.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::cursor::Cursor;
use super::file::{Lines, open, owned};
use super::line::LogLine;
use quire_types::names::JobName;
use quire_types::paths::Paths;

/// A step, as far as its log matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKey {
    /// Its number in the run.
    pub seq: u32,
    /// Its job.
    pub job: JobName,
    /// Whether it has ended: nothing is appended to its log any more.
    pub done: bool,
}

/// The result of one poll.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Lines in the order of their times; those of one file in the file's order.
    pub lines: Vec<LogLine>,
    /// Whether there may be more to read right now.
    pub more: bool,
}

/// Reads the logs of one run as they grow. Holds no file open between polls, but their folder: so it does not
/// care where that is moved when the repository is renamed.
#[derive(Debug)]
pub struct LogFollower {
    folder: PathBuf,
    held: Option<File>,
    cursor: Cursor,
    /// The running step that was read last: the next one has its turn first.
    turn: u32,
}

impl LogFollower {
    /// Follows the run in this folder from a position on.
    #[must_use]
    pub fn open(run_folder: PathBuf, cursor: Cursor) -> Self {
        Self {
            folder: run_folder,
            held: None,
            cursor,
            turn: 0,
        }
    }

    /// Says where the run's folder lies by now, or will: a run that has not begun makes it by its repository's name.
    pub fn lies_in(&mut self, run_folder: PathBuf) {
        if self.folder != run_folder {
            self.folder = run_folder;
            self.held = None;
        }
    }

    /// A path to the run's folder, wherever it lies.
    fn place(&mut self) -> PathBuf {
        if self.held.is_none() {
            self.held = File::open(&self.folder).ok();
        }
        let held = self
            .held
            .as_ref()
            .map(|held| PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())));
        held.filter(|held| held.is_dir())
            .unwrap_or_else(|| self.folder.clone())
    }

    /// The position behind the last line given.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Reads on: the run's own log, then ended steps to their end, then the running ones in turns.
    /// `steps` are the steps of the run in order, all or those not read to their end. Takes up to about `max_bytes` of memory, and returns
    /// at least one line where there is one. After an error the position is as before.
    pub fn poll(&mut self, steps: &[StepKey], max_bytes: usize) -> io::Result<Batch> {
        let folder = self.place();
        let mut poll = Poll {
            cursor: self.cursor.clone(),
            budget: max_bytes.max(1),
            lines: Vec::new(),
            more: false,
        };
        poll.own_log(&folder)?;
        let unread: Vec<&StepKey> = steps
            .iter()
            .filter(|step| !self.cursor.is_read(step.seq))
            .collect();
        let (ended, running): (Vec<&StepKey>, Vec<&StepKey>) =
            unread.into_iter().partition(|step| step.done);
        for step in ended {
            poll.step(&folder, step)?;
        }
        let first = running.partition_point(|step| step.seq <= self.turn);
        for step in running[first..].iter().chain(&running[..first]) {
            if poll.step(&folder, step)? {
                self.turn = step.seq;
            }
        }
        self.cursor = poll.cursor;
        // Within a millisecond, what quire says of a step follows the lines of the step.
        poll.lines
            .sort_by_key(|(time, line)| (*time, line.seq.is_none()));
        Ok(Batch {
            lines: poll.lines.into_iter().map(|(_, line)| line).collect(),
            more: poll.more,
        })
    }
}

/// One poll under way.
struct Poll {
    cursor: Cursor,
    /// What is left of it.
    budget: usize,
    /// With each line the latest time in its file up to it, for a clock that was set back must not change the order.
    lines: Vec<(i64, LogLine)>,
    more: bool,
}

impl Poll {
    fn own_log(&mut self, folder: &std::path::Path) -> io::Result<()> {
        let (next, _) = self.file(&Paths::run_log(folder), self.cursor.run_offset(), None)?;
        self.cursor.set_run_offset(next);
        Ok(())
    }

    /// Reads on in a step's log; says whether it had its turn.
    fn step(&mut self, folder: &std::path::Path, step: &StepKey) -> io::Result<bool> {
        if self.budget == 0 {
            self.more = true;
            return Ok(false);
        }
        let path = Paths::step_log(folder, &step.job, step.seq);
        let (next, more) = self.file(&path, self.cursor.step_offset(step.seq), Some(step))?;
        if step.done && !more {
            self.cursor.set_read(step.seq);
        } else {
            self.cursor.set_step_offset(step.seq, next);
        }
        Ok(true)
    }

    fn file(
        &mut self,
        path: &std::path::Path,
        offset: u64,
        step: Option<&StepKey>,
    ) -> io::Result<(u64, bool)> {
        let Some((file, end)) = open(path)? else {
            return Ok((0, false));
        };
        let (lines, mut latest) = (&mut self.lines, i64::MIN);
        let source = Lines {
            file: &file,
            end,
            ended: step.is_some_and(|step| step.done),
        };
        let progress = source.read(offset, self.budget, &mut |parsed| {
            latest = latest.max(parsed.time.0);
            let mut line = owned(&parsed);
            line.seq = step.map(|step| step.seq);
            line.job = step.map(|step| step.job.clone());
            lines.push((latest, line));
        })?;
        self.budget = self.budget.saturating_sub(progress.spent);
        self.more |= progress.more;
        Ok((progress.next, progress.more))
    }
}

#[cfg(test)]
mod tests;
