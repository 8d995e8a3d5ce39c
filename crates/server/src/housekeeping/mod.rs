//! Keeps the volume in order while the server runs: removes what `:keep` no longer asks for, and lets git
//! maintain its repositories.
//!
//! ```text
//! ended run ──marked as removed (row)──► files deleted ──► row deleted, if the run is too old or one too many
//! ```
//! The mark comes first, so that a crash at any point leaves nothing that the next round does not finish.
//! Transactions are short, with a pause between them: a round may remove thousands of runs while pushes
//! are recorded and pages are read. [`policy`] alone decides what is removed; it does no I/O.

mod caches;
mod cleanup_pass;
mod clock_guard;
mod commit_graphs;
mod deps;
mod error;
mod files;
mod git_maintenance;
mod images;
mod policy;
mod retention;
mod service;
mod trash;
mod undo;

pub use deps::{HousekeepingDeps, RetentionLimits};
pub use error::HousekeepingError;
pub use images::remove_surplus_builds;
pub use service::{Housekeeping, ProblemsByComponent};
