//! The state of a job whose function was called: what it waits for, and which failed commands its
//! code has not checked.

use std::collections::BTreeMap;
use std::time::Instant;

use mlua::Thread;

use super::protocol::JobEnd;
use crate::Location;

/// A call of `sh`.
#[derive(Debug, Clone)]
pub(super) struct ShCall {
    /// The command as a user would type it, shortened.
    pub(super) text: String,
    pub(super) location: Option<Location>,
    /// The exit code, once the command ended.
    pub(super) exit: i32,
}

impl ShCall {
    /// How a job ends that fails because of this command.
    pub(super) fn failure(&self) -> JobEnd {
        JobEnd::Failed {
            message: format!("`{}` failed with exit code {}", self.text, self.exit),
            exit_code: Some(self.exit),
            location: self.location.clone(),
        }
    }
}

/// A call that a job waits for, with its number.
#[derive(Debug)]
pub(super) enum Pending {
    Command(u64, ShCall),
    Reply(u64, PendingReply),
}

impl Pending {
    pub(super) fn call(&self) -> u64 {
        match self {
            Self::Command(call, _) | Self::Reply(call, _) => *call,
        }
    }
}

/// What becomes of the runner's reply to a request of a tool other than `sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PendingReply {
    /// The value of the secret with this name.
    Secret(String),
    /// The value of the secret with this name, parsed as JSON.
    SecretJson(String),
    /// The content of a file.
    Text,
    /// The content of the file at this path, parsed as JSON.
    Json(String),
    /// Nothing: the reply only says that the request was carried out.
    Done,
}

/// A job whose function was called and has not ended.
#[derive(Debug)]
pub(super) struct RunningJob {
    pub(super) thread: Thread,
    /// The variables that `(env name)` returns.
    pub(super) env: Vec<(String, String)>,
    pub(super) deadline: Option<Instant>,
    /// The time limit as a user writes it.
    pub(super) limit: String,
    pub(super) pending: Option<Pending>,
    /// Failed commands whose exit code has not been read, by call.
    pub(super) unchecked: BTreeMap<u64, ShCall>,
    /// Failed commands, by call. Needed if the job returns the result of one.
    pub(super) failed: BTreeMap<u64, ShCall>,
    pub(super) ran_command: bool,
    /// The last line of its code that was executed, while other jobs run.
    pub(super) last_line: Option<(String, u32)>,
    /// The sources for which `jobs` returned nil, because the run started from another one.
    pub(super) other_sources: Vec<String>,
    /// Set once the job has failed in the middle of a call. Its thread is not resumed.
    pub(super) failure: Option<JobEnd>,
}

impl RunningJob {
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
            pending: None,
            unchecked: BTreeMap::new(),
            failed: BTreeMap::new(),
            ran_command: false,
            last_line: None,
            other_sources: Vec::new(),
            failure: None,
        }
    }

    /// Records the end of a command. If it failed, the job must read its exit code before it runs
    /// another command or returns.
    pub(super) fn command_ended(&mut self, call: u64, mut command: ShCall, exit: i32) {
        command.exit = exit;
        if exit != 0 {
            self.failed.insert(call, command.clone());
            self.unchecked.insert(call, command);
        }
    }

    /// How this job ends because of its first failed command that was not checked.
    pub(super) fn unchecked_failure(&self) -> Option<JobEnd> {
        self.unchecked.values().next().map(ShCall::failure)
    }
}
