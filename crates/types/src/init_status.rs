//! The status file of `quire init`: the state of its children, the keys and the warnings.
//!
//! `init` replaces the file atomically after every change of state. The health checks, the metrics
//! and the tests read it with [`InitStatus::read`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// `init` writes a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitStatus {
    /// The process id of `init`, 1 in the container.
    pub pid: i32,
    /// The version of the binary that runs as `init`.
    pub version: String,
    /// How far the start or the stop of the appliance is.
    pub phase: InitPhase,
    /// When `init` began to supervise.
    pub started_at: Millis,
    /// One entry per child, by name: `sshd` and `serve`.
    pub children: BTreeMap<String, ChildStatus>,
    /// How many public keys can connect.
    pub keys: usize,
    /// The warnings of preflight and about keys, one line each.
    pub warnings: Vec<String>,
}

/// How far the start or the stop of the appliance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitPhase {
    /// The children have not all run together yet.
    Starting,
    /// All children have run together. This stays so if one ends later.
    Running,
    /// A stop was requested, and the children are being ended.
    Stopping,
    /// Everything has ended.
    Stopped,
}

/// A child of `init`, over all its processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStatus {
    /// The process id; `None` if it does not run.
    pub pid: Option<i32>,
    /// Whether it runs.
    pub state: ChildState,
    /// When its current or last process was started.
    pub started_at: Option<Millis>,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last process ended.
    pub last_exit: Option<ChildExit>,
    /// Whether it answers at its port; `None` if it has not answered yet, or if an older version wrote the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<bool>,
}

/// Whether a child runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// Its process exists.
    Running,
    /// It has ended, or was not started yet, and will be started.
    #[default]
    Backoff,
    /// It has ended and will not be started again, because the appliance is stopping.
    Stopped,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildExit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl std::fmt::Display for ChildExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why the status file cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants")]
pub enum InitStatusError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a status file that this version of quire understands", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl InitStatus {
    /// Reads the status file. Returns `None` if it does not exist: no `quire init` runs here.
    ///
    /// # Errors
    /// The file cannot be read, or another program or version wrote it.
    pub fn read(path: &Path) -> Result<Option<Self>, InitStatusError> {
        let mut text = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(InitStatusError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| InitStatusError::Parse {
                path: path.to_owned(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_the_file_stays_as_it_is() {
        let child = |state, pid, last_exit| ChildStatus {
            pid,
            state,
            started_at: Some(Millis(5)),
            restarts: 2,
            last_exit,
            answers: None,
        };
        let status = InitStatus {
            pid: 1,
            version: "0.1.0".into(),
            phase: InitPhase::Running,
            started_at: Millis(3),
            children: [(
                "sshd".to_owned(),
                child(ChildState::Running, Some(7), Some(ChildExit::Signal(9))),
            )]
            .into(),
            keys: 1,
            warnings: vec!["w".into()],
        };
        let text = r#"{"pid":1,"version":"0.1.0","phase":"running","started_at":3,"children":{"sshd":{"pid":7,"state":"running","started_at":5,"restarts":2,"last_exit":{"signal":9}}},"keys":1,"warnings":["w"]}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), text);
        assert_eq!(serde_json::from_str::<InitStatus>(text).unwrap(), status);
        let words = [
            serde_json::to_string(&[
                InitPhase::Starting,
                InitPhase::Running,
                InitPhase::Stopping,
                InitPhase::Stopped,
            ]),
            serde_json::to_string(&[
                ChildState::Running,
                ChildState::Backoff,
                ChildState::Stopped,
            ]),
            serde_json::to_string(&[ChildExit::Code(3), ChildExit::Signal(9)]),
        ];
        assert_eq!(
            words.map(Result::unwrap),
            [
                r#"["starting","running","stopping","stopped"]"#,
                r#"["running","backoff","stopped"]"#,
                r#"[{"code":3},{"signal":9}]"#,
            ]
        );
    }

    #[test]
    fn a_missing_and_a_truncated_file_are_different() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        assert!(matches!(InitStatus::read(&path), Ok(None)));
        std::fs::write(&path, "{\"pid\":").unwrap();
        assert!(matches!(
            InitStatus::read(&path),
            Err(InitStatusError::Parse { .. })
        ));
        assert!(matches!(
            InitStatus::read(folder.path()),
            Err(InitStatusError::Read { .. })
        ));
    }
}
