//! Renames repositories, and keeps their former names as redirects.
//!
//! ```text
//! reserved ──► intended ──► repository moved ──► folders of runs moved ──► recorded ──► (links cleared)
//! link at      row in       one exchange: a      one exchange each:        one          as the runs end
//! the new      former_names link stays at the    a link stays             transaction  that began by the
//! place                     old place                                                   old name
//! ```
//! The command does all of it at once. Once the intent is recorded the rename will be completed, even if the command
//! or the server is killed: the server continues it at its start, before anything else, and at each poll. Each step
//! may be done twice.
//!
//! Nothing is stopped, and nothing has to wait. At each moment the old name redirects to the same repository and the
//! same runs: on disk by links, in the database by the table `former_names`, through which names are resolved when
//! they are looked up or recorded. So active pushes and runs, followers and events in the spool need no special case.

mod error;
mod renamer;
mod run_folders;
mod steps;

pub use error::RenameError;
pub use renamer::{RenameLock, Renamer};
pub use run_folders::{remove_empty_run_folders, remove_run_folders, run_folders};
