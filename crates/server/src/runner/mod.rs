//! The runner: claims runs, drives each from its claim to its outcome, and stops runs on request.
//!
//! ```text
//! claim ─► prepare (git, driver: is there a valid pipeline?) ─► start workspace ─► execute (jobs, steps) ─► end ─► outcome ─► remove
//!             │ rejected                                          │ image, engine        │ stopped, timed out, died
//!             └───────────────────────────────────────────────────┴──────────────────────┴──► end ─► outcome ─► remove
//! ```
//! One loop ([`run_loop`]) is level-triggered on the database: with or without a wake-up it looks for runs to
//! stop and runs to claim. A run ends in one place ([`lifecycle`]), after it is confirmed that nothing of it is running.

mod attempt;
mod checkout;
mod config;
mod evaluations;
mod execute;
mod git_tree;
mod group;
mod job_recorder;
mod kept_containers;
mod lifecycle;
pub mod prepare;
mod reconcile;
mod repl;
mod reuse;
mod run_end;
mod run_loop;
pub(crate) mod schedules;
mod secrets;
mod service_log;
mod start_observer;
mod start_spec;
mod step;
mod turns;

pub use checkout::depth;
pub use config::{GrantResolver, RunnerConfig, SecretNames};
pub use execute::{RunContext, execute_jobs, failure_of};
pub use git_tree::{GitTree, StartedArchive, UnreadableReport};
pub use job_recorder::{RecordError, Recorder};
pub use repl::{EntryError, ReplOutput, ReplSession};
pub use run_loop::{Runner, RunnerDeps};
pub use secrets::{RunSecretResolver, SecretResolver, SecretUser};
pub use service_log::ServiceLogSink;
pub use start_spec::{RunGrants, StartContext, image};
