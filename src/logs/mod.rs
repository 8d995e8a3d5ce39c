//! Run logs: one append-only file per step, in the Kubernetes CRI log format.

use serde::{Deserialize, Serialize};

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
