//! Follows a run to its end, for `run logs --follow`, `run wait` and the push option `ci.wait`.
//!
//! It polls rows and log files, so no notification can be lost. The state is read before the log: once the
//! state is final, the log is complete.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{CommandError, FAILED};
use quire_run_files::logs::{Cursor, LogFollower, LogLine, StepKey};
use quire_server::forge::landings;
use quire_store::Store;
use quire_types::names::RunId;
use quire_types::paths::Paths;
use quire_types::run::{FailureKind, Run, RunJob, RunState, RunStep};

const POLL_INTERVAL_MS: u16 = 100;
/// The most bytes of a log that are read at once.
const BATCH_BYTES: usize = 256 << 10;

/// Where a followed run is read from.
pub(super) trait RunReader {
    fn run(&self, id: RunId) -> Result<Run, CommandError>;
    /// The jobs of a run, without what they returned.
    fn jobs(&self, id: RunId) -> Result<Vec<RunJob>, CommandError>;
    /// Updates the known steps of a run, which are empty at first.
    fn steps(&self, id: RunId, known: &mut Vec<RunStep>) -> Result<(), CommandError>;
    /// The run that was queued in place of this one.
    fn successor(&self, id: RunId) -> Result<Option<RunId>, CommandError>;
    /// What becomes of the commit of a run that has ended, if it is to land on a branch.
    fn landing(&self, _run: &Run) -> Result<Option<FollowedLanding>, CommandError> {
        Ok(None)
    }
    /// The next lines of the log; empty if there are no more for now.
    fn lines(&mut self, run: &Run, steps: &[RunStep]) -> Result<Vec<LogLine>, CommandError>;
    /// Waits until the next poll. Returns `false` if the reader of the output is gone.
    fn pause(&mut self) -> bool;
}

/// What becomes of a commit whose run has ended, each with a line for the user.
pub(super) enum FollowedLanding {
    /// The end of its run is not all that it waits for.
    Waits(String),
    /// Another commit was made of it, whose run this is.
    Retested(RunId, String),
    Ended(String),
}

/// Receives what happens to a followed run.
pub(super) trait RunObserver {
    /// The run's row was read.
    fn run_read(&mut self, run: &Run);
    /// The log has new lines.
    fn log_lines(&mut self, lines: &[LogLine], steps: &[RunStep]) -> Result<(), CommandError>;
    /// All lines of these steps that have ended were passed on.
    fn caught_up(&mut self, _steps: &[RunStep]) -> Result<(), CommandError> {
        Ok(())
    }
    /// Another run is followed from here, for the reason in this line.
    fn continued(&mut self, why: &str);
    /// How far the commit of the run has come that is to land on a branch.
    fn landing(&mut self, _note: &str) {}
}

/// Reads what there is of a run now or, with `follow`, until the run ends. If the run was orphaned and requeued,
/// continues with the new run. If its commit is to land on a branch, continues until that has ended. Returns the run that was read last.
pub(super) fn read_run(
    reader: &mut dyn RunReader,
    mut id: RunId,
    follow: bool,
    observer: &mut dyn RunObserver,
) -> Result<Run, CommandError> {
    let mut steps = Vec::new();
    let mut last_note = None;
    loop {
        let run = reader.run(id)?;
        observer.run_read(&run);
        reader.steps(id, &mut steps)?;
        loop {
            let lines = reader.lines(&run, &steps)?;
            if lines.is_empty() {
                break;
            }
            observer.log_lines(&lines, &steps)?;
        }
        observer.caught_up(&steps)?;
        if !follow {
            return Ok(run);
        }
        if run.state.is_final() {
            let cut_off = run.failure_kind == Some(FailureKind::Orphaned);
            let successor = if cut_off { reader.successor(id)? } else { None };
            let next = match successor {
                Some(next) => Some((next, requeued_note(&run, next))),
                None => match reader.landing(&run)? {
                    None => return Ok(run),
                    Some(FollowedLanding::Ended(note)) => {
                        observer.landing(&note);
                        return Ok(run);
                    }
                    Some(FollowedLanding::Retested(next, note)) => Some((next, note)),
                    Some(FollowedLanding::Waits(note)) => {
                        if last_note.as_ref() != Some(&note) {
                            observer.landing(&note);
                            last_note = Some(note);
                        }
                        None
                    }
                },
            };
            if let Some((next, note)) = next {
                observer.continued(&note);
                id = next;
                steps.clear();
                continue;
            }
        }
        if !reader.pause() {
            return Err(CommandError::exit_only(FAILED));
        }
    }
}

/// Reads runs from the database and the log files of the volume.
pub(super) struct VolumeReader<'a> {
    store: Store,
    paths: &'a Paths,
    follower: Option<(RunId, LogFollower)>,
}

impl<'a> VolumeReader<'a> {
    pub(super) fn new(store: Store, paths: &'a Paths) -> Self {
        Self {
            store,
            paths,
            follower: None,
        }
    }
}

impl RunReader for VolumeReader<'_> {
    fn run(&self, id: RunId) -> Result<Run, CommandError> {
        self.store
            .runs()
            .get(id)?
            .ok_or_else(|| CommandError::not_found(format!("there is no run `{id}` any more")))
    }

    fn jobs(&self, id: RunId) -> Result<Vec<RunJob>, CommandError> {
        Ok(self.store.jobs().list_without_outputs(id)?)
    }

    fn steps(&self, id: RunId, known: &mut Vec<RunStep>) -> Result<(), CommandError> {
        // A finished step does not change any more; numbers begin with 1.
        let finished = known
            .iter()
            .zip(1..)
            .take_while(|(step, seq)| step.seq == *seq && step.finished_at_ms.is_some())
            .count();
        known.truncate(finished);
        known.extend(self.store.steps().list_since(
            id,
            u32::try_from(finished).unwrap_or(u32::MAX),
            &[],
        )?);
        Ok(())
    }

    fn successor(&self, id: RunId) -> Result<Option<RunId>, CommandError> {
        Ok(self.store.runs().successor_of(id)?)
    }

    fn landing(&self, run: &Run) -> Result<Option<FollowedLanding>, CommandError> {
        // A retry by a user tests for nothing.
        if run.event_id.is_none() {
            return Ok(None);
        }
        let Some(landing) = self.store.landings().of_ref(&run.repo, &run.ref_name)? else {
            return Ok(None);
        };
        let commit = run.sha.short();
        let note = format!("{commit} {}", landings::sentence(&landing));
        if landing.state.is_final() {
            return Ok(Some(FollowedLanding::Ended(note)));
        }
        let newest = self.store.landings().run_of(&landing)?;
        Ok(Some(match newest.filter(|newest| *newest != run.id) {
            Some(next) => {
                let (branch, made) = (landing.branch.short(), landing.tested_sha.short());
                let note = format!(
                    "{branch} has moved; {made} was made of {commit} and is tested as run {next}"
                );
                FollowedLanding::Retested(next, note)
            }
            None => FollowedLanding::Waits(note),
        }))
    }

    fn lines(&mut self, run: &Run, steps: &[RunStep]) -> Result<Vec<LogLine>, CommandError> {
        let ended = run.state.is_final();
        let key = |step: &RunStep| StepKey {
            seq: step.seq,
            job: step.job_id.clone(),
            done: ended || step.finished_at_ms.is_some(),
        };
        let keys: Vec<StepKey> = steps.iter().map(key).collect();
        let folder = self.paths.run_dir(&run.repo, run.id);
        if self.follower.as_ref().is_none_or(|(id, _)| *id != run.id) {
            self.follower = Some((run.id, LogFollower::open(folder.clone(), Cursor::default())));
        }
        let Some((_, follower)) = &mut self.follower else {
            return Ok(Vec::new());
        };
        follower.lies_in(folder);
        let batch = follower.poll(&keys, BATCH_BYTES);
        batch.map(|batch| batch.lines).map_err(|error| {
            CommandError::failed(format!("the log of run {} cannot be read: {error}", run.id))
        })
    }

    /// Polls standard output, so that a closed connection ends the command.
    fn pause(&mut self) -> bool {
        let stdout = io::stdout();
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let _ = poll(&mut polled, PollTimeout::from(POLL_INTERVAL_MS));
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        !polled[0]
            .revents()
            .is_some_and(|events| events.intersects(gone))
    }
}

/// Prints a line of quire on standard error.
pub(super) fn print_note(text: &str) {
    let text = quire_types::text::single_line(text);
    let _ = io::stderr().write_all(format!("quire: {text}\n").as_bytes());
}

/// Reports why a run waits, whenever that changes.
#[derive(Default)]
pub(super) struct WaitNotes {
    last: Option<(RunId, RunState, Option<String>)>,
}

impl WaitNotes {
    /// Returns a line if it differs from the last one.
    pub(super) fn next(&mut self, run: &Run) -> Option<String> {
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

/// The line about a run that was requeued as another.
pub(super) fn requeued_note(orphaned: &Run, new: RunId) -> String {
    format!(
        "run {} was interrupted when quire stopped; it was queued again as run {new}",
        orphaned.id
    )
}

/// Reports the waiting of a run, and not its log.
pub(super) struct StateObserver {
    wait_notes: WaitNotes,
    quiet: bool,
}

impl StateObserver {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            wait_notes: WaitNotes::default(),
            quiet,
        }
    }
}

impl RunObserver for StateObserver {
    fn run_read(&mut self, run: &Run) {
        if let Some(line) = self.wait_notes.next(run).filter(|_| !self.quiet) {
            print_note(&line);
        }
    }

    fn log_lines(&mut self, _lines: &[LogLine], _steps: &[RunStep]) -> Result<(), CommandError> {
        Ok(())
    }

    fn continued(&mut self, why: &str) {
        if !self.quiet {
            print_note(why);
        }
    }

    fn landing(&mut self, note: &str) {
        if !self.quiet {
            print_note(note);
        }
    }
}
