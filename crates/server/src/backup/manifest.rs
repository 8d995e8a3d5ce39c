//! The first and the last entry of a backup.

use serde::{Deserialize, Serialize};

use quire_types::clock::Millis;
use quire_types::names::RepoName;

/// The format that this quire writes. Older ones can be read.
pub(super) const FORMAT: u32 = 1;
/// The name of the first entry.
pub(super) const HEADER_NAME: &str = "quire-backup.json";
/// The name of the last entry.
pub(super) const END_NAME: &str = "quire-backup-end.json";

/// The first entry: who wrote the backup, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupHeader {
    pub(super) format: u32,
    /// The version of quire that wrote it.
    pub(super) quire: String,
    pub(super) created_at_ms: Millis,
}

/// The last entry: what the backup contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupEnd {
    /// The repositories that were copied completely.
    pub(super) repos: Vec<RepoName>,
    /// The repositories of which a part could not be read.
    pub(super) incomplete: Vec<RepoName>,
    /// The entries of the trash, by their ids. Backups of older versions have none.
    #[serde(default)]
    pub(super) trash: Vec<String>,
    /// The rows of the database.
    pub(super) runs: u64,
    pub(super) pushes: u64,
    /// Whether the server was running, so that the restored database may not know what ran afterwards.
    pub(super) while_running: bool,
    /// What could not be read, and is therefore missing.
    pub(super) problems: Vec<String>,
}
