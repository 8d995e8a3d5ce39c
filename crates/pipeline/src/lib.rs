//! The job graph that a pipeline's file registers, and the checks that make it valid.
//!
//! The driver reports what was registered as a [`Registration`]: plain data from a process that ran
//! untrusted code, so all of it is checked. [`Pipeline::check`] is the only way to create a
//! [`Pipeline`], which therefore is always valid. A [`JobTracker`] then says which job may run when.
//! No I/O, no Lua, no clock.

mod check;
mod closest_match;
mod cron;
pub mod data_edit;
mod diagnostic;
pub mod driver;
mod duration;
pub mod fennel;
mod graph;
mod job_tracker;
mod lua_advice;
mod registration;
pub mod repl;
mod shell;
mod source;
mod source_file;
mod table_keys;
mod tokens;
mod units;

pub use check::{MAX_EDGES, MAX_INPUTS, MAX_JOBS, WORKSPACE};
pub use closest_match::closest_match;
pub use cron::{CronError, CronSchedule};
pub use diagnostic::{Diagnostic, Location, MAX_QUOTED, sanitize_message};
pub use duration::{DurationError, format_duration, parse_duration};
pub use graph::{Job, Pipeline, PipelineImage};
pub use job_tracker::{JobSelectionError, JobTracker, JobsOutcome};
pub use registration::{
    ALL_PRIVILEGES, Cache, CheckoutOptions, ContainerOptions, Cron, Group, History, JobOptions,
    JobRegistration, Language, Registration, Resources, Service,
};
pub use shell::shell_command;
pub use source::{CRON_SOURCE, HOOK_SOURCE, Input, Source};
pub use source_file::SourceFile;
pub use units::{format_cpus, format_size, parse_cpus, parse_size};

#[cfg(test)]
mod error_messages;
