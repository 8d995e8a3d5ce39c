//! Removes repositories into the trash, restores them, and deletes what has been there for too long.
//!
//! ```text
//! repository ──► removing ──► complete ──► restoring ──► repository
//!     ▲             │            └───────► deleting ──► nothing
//!     └─────────────┘ cut off before the folder was moved
//! ```
//! An entry has everything of its repository: the folder with refs, objects, configuration and objects of Git LFS, the rows of
//! runs and pushes in a file, and the folders of the runs with their logs and artifacts. Nothing else of quire knows of it, so
//! a new repository of the same name has nothing to do with it.
//!
//! The folder of the repository moves first, and leaves its name reserved until the rest has followed. What was cut off is
//! completed by the server: at its start, before anything else, and at each poll of [`crate::rename`], whose lock all of this
//! holds. Each step may be done twice.

mod entry;
mod finish;
mod remove;
mod restore;
mod run_files;

pub use entry::TrashedRepo;
