//! Backups of the whole appliance: one archive (tar, compressed with zstd), written while pushes and runs go on, and
//! restored into an empty folder.
//!
//! ```text
//! header ─ spool ─ database ─ repositories ─ everything else ─ end
//! ```
//! - Each repository's refs are read before its objects, so an archive has every object that its refs name. `git gc` of a
//!   repository waits while it is copied; pushes do not.
//! - The spool is read before the database, so a push that is recorded meanwhile is in one of them. A push that is in
//!   neither is found by the comparison of refs.
//! - The last entry says which repositories are complete. An archive without it was cut off, and is not restored.
//! - What was made with a running server may miss what ran afterwards. The restored appliance therefore holds all runs
//!   until the owner decides (see [`crate::sequence`]).

mod archive_reader;
mod archive_writer;
mod error;
mod manifest;
mod repo_files;
mod restore;
mod scheduled;
mod stored_backup;
mod stored_backups;
mod tolerant_file;
mod trash_entries;
mod write;

pub use error::BackupError;
pub use restore::{RestoreSummary, restore};
pub use scheduled::{BackupPlan, BackupState, ScheduledBackups};
pub use stored_backup::make_stored;
pub use stored_backups::{BackupFolder, StoredBackup};
pub use write::{BackupContent, BackupSummary, write};
