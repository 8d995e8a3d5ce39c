//! What `init` knows of its children, as it stands in the status file.
//!
//! `init` replaces the file atomically at every change of state; `serve` and `quire health`
//! read it. This file depends on nothing but serde and the clock, so that any module may use it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// The whole status file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process id of `init`, 1 in the appliance.
    pub pid: i32,
    /// The version of the binary that runs as `init`.
    pub version: String,
    /// Where `init` stands as a whole.
    pub phase: Phase,
    /// When `init` began to supervise.
    pub started_at: Millis,
    /// One entry for each child, by name: `sshd`, `serve`.
    pub children: BTreeMap<String, ChildStatus>,
    /// How many public keys may connect.
    pub keys: usize,
    /// What preflight and the keys had to say, one line each.
    pub warnings: Vec<String>,
}

/// Where `init` stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The children have not all been up together yet.
    Starting,
    /// All children have been up together.
    Running,
    /// Told to stop; the children are being ended.
    Stopping,
    /// All is gone; the file is what is left.
    Stopped,
}

/// What is known of one child.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStatus {
    /// Its process id while it runs.
    pub pid: Option<i32>,
    /// What it is doing.
    pub state: ChildState,
    /// When its present, or else its last, process was started.
    pub started_at: Option<Millis>,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last process ended.
    pub last_exit: Option<Exit>,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// Its process is there.
    Running,
    /// It ended, or is not started yet, and will be started.
    #[default]
    Backoff,
    /// It ended and will not be started again: the appliance is stopping.
    Stopped,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why there is no status to be had.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The file cannot be read; `NotFound` means that no `init` is running here.
    #[error("cannot read {}", path.display())]
    Read {
        /// The status file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a status file of this version.
    #[error("{} is not a status file that this version understands", path.display())]
    Parse {
        /// The status file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Status {
    /// Reads the status file.
    ///
    /// # Errors
    /// When there is none, or it is not one.
    pub fn read(path: &Path) -> Result<Self, StatusError> {
        let bytes = std::fs::read(path).map_err(|source| StatusError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| StatusError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Whether every child is running.
    #[must_use]
    pub fn all_running(&self) -> bool {
        !self.children.is_empty()
            && self
                .children
                .values()
                .all(|child| child.state == ChildState::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_the_file_is_what_others_read() {
        let child = ChildStatus {
            pid: Some(7),
            state: ChildState::Running,
            started_at: Some(Millis(5)),
            restarts: 2,
            last_exit: Some(Exit::Signal(9)),
        };
        let status = Status {
            pid: 1,
            version: "0.1.0".into(),
            phase: Phase::Running,
            started_at: Millis(3),
            children: [("sshd".to_owned(), child)].into(),
            keys: 1,
            warnings: vec!["w".into()],
        };
        let text = r#"{"pid":1,"version":"0.1.0","phase":"running","started_at":3,"children":{"sshd":{"pid":7,"state":"running","started_at":5,"restarts":2,"last_exit":{"signal":9}}},"keys":1,"warnings":["w"]}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), text);
        assert_eq!(serde_json::from_str::<Status>(text).unwrap(), status);
        assert!(status.all_running());
    }

    #[test]
    fn a_missing_and_a_torn_file_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        assert!(matches!(Status::read(&path), Err(StatusError::Read { .. })));
        std::fs::write(&path, "{\"pid\":").unwrap();
        assert!(matches!(
            Status::read(&path),
            Err(StatusError::Parse { .. })
        ));
    }
}
