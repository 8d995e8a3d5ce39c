//! The database: the only place with SQL. One writer connection, readers beside it (WAL).
//!
//! Every state change is one conditional UPDATE with the old state in its WHERE; one that
//! changes no row is an error. Times that would run backwards (the clock was set back) are
//! lifted to the time before them, so the CHECK constraints hold whatever the clock does.
//! Calls are synchronous and short; async code goes through [`Store::call`].

mod artifacts;
mod error;
mod events;
mod former_names;
mod jobs;
mod kept;
mod lists;
mod migrate;
mod open;
mod queue;
mod repeat;
mod retention;
mod row;
mod runs;
mod schedules;
mod sessions;
#[cfg(test)]
mod tests;
mod uses;

pub use error::StoreError;
pub use events::{Recorded, RefsNow, SeenRef};
pub use former_names::FormerName;
pub use jobs::JobResult;
pub use kept::Kept;
pub use lists::{Counts, RepoSummary, RunFilter};
pub use open::{Journal, Store};
pub use queue::{NewRun, SupersedeDecision};
pub use repeat::Repeat;
pub use retention::{HeldRun, LastUpkeep, RemovedFiles};
pub use schedules::{NewSchedule, ScheduleRow, ScheduleSource};
pub use sessions::SignIn;
pub use uses::{CacheUse, ImageRow, LayerRow};
