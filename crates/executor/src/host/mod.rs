//! Runs on this machine: a workspace on disk, commands as child processes, each in a session of its
//! own. Without isolation; the log says so.
//!
//! Invariants: a folder that is given as workspace belongs to the executor alone; after `stop`
//! neither the folder nor any process of the run is left (what "of the run" means:
//! [`quire_runtime::process::ProcessTree`]).

mod cache_dirs;
mod cache_links;
mod caches;
mod child_output;
mod config;
mod executor;
mod pack;
mod running;
mod spawn_diagnosis;
mod workspace;
mod workspace_dir;
mod workspace_root;

pub use config::HostConfig;
pub use executor::HostExecutor;
