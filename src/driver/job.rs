//! One call of a job's function: what it waits for, and which failed commands nobody looked at.

use std::collections::BTreeMap;
use std::time::Instant;

use mlua::Thread;

use super::protocol::JobEnd;
use crate::pipeline::Place;

/// A command that was run for a job.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// As a person would type it, shortened.
    pub(super) text: String,
    /// Where it was called.
    pub(super) place: Option<Place>,
    /// Its exit code, once it ended.
    pub(super) exit: i32,
}

impl Command {
    /// The end of a job that this command failed.
    pub(super) fn failure(&self) -> JobEnd {
        JobEnd::Failed {
            message: format!("`{}` failed with exit code {}", self.text, self.exit),
            exit_code: Some(self.exit),
            place: self.place.clone(),
        }
    }
}

/// What a job waits for.
#[derive(Debug)]
pub(super) enum Wait {
    /// A command.
    Command(u64, Command),
    /// What a tool beside `sh` was asked for.
    Answer(u64, Wanted),
}

/// What a tool beside `sh` gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The secret of this name.
    Secret(String),
    /// What a file holds.
    Text,
    /// What the file at this path holds, read as JSON.
    Json(String),
    /// Nothing, once it is done.
    Nothing,
}

/// A job whose function was called and has not ended.
#[derive(Debug)]
pub(super) struct JobRun {
    /// The thread that its function runs in.
    pub(super) thread: Thread,
    /// What `(env name)` gives.
    pub(super) env: Vec<(String, String)>,
    /// When it must have ended.
    pub(super) deadline: Option<Instant>,
    /// Its time limit as a person writes it.
    pub(super) limit: String,
    /// What it waits for.
    pub(super) wait: Option<Wait>,
    /// Commands that failed and whose exit code nobody has read, by call.
    pub(super) unread: BTreeMap<u64, Command>,
    /// Commands that ended, by call; for the message where the result itself is returned.
    pub(super) failed: BTreeMap<u64, Command>,
    /// Whether it has run a command.
    pub(super) ran: bool,
    /// Set where it has failed while its thread still stands; the thread is not resumed.
    pub(super) failure: Option<JobEnd>,
}

impl JobRun {
    /// A call that is about to begin.
    pub(super) fn new(
        thread: Thread,
        env: Vec<(String, String)>,
        deadline: Option<Instant>,
        limit: String,
    ) -> Self {
        Self {
            thread,
            env,
            deadline,
            limit,
            wait: None,
            unread: BTreeMap::new(),
            failed: BTreeMap::new(),
            ran: false,
            failure: None,
        }
    }

    /// A command ended; from now on its exit code, where it is not 0, wants to be read.
    pub(super) fn command_ended(&mut self, call: u64, mut command: Command, exit: i32) {
        command.exit = exit;
        if exit != 0 {
            self.failed.insert(call, command.clone());
            self.unread.insert(call, command);
        }
    }

    /// The failed command that nobody looked at, as the end of this job.
    pub(super) fn unread_failure(&self) -> Option<JobEnd> {
        self.unread.values().next().map(Command::failure)
    }
}
