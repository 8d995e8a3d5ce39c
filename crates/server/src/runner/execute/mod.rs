//! Runs the jobs of a prepared pipeline in a started workspace.
//!
//! One event loop per run ([`job_loop`]) decides which job starts when and handles what the jobs ask
//! for: commands ([`step_handlers`]), files and artifacts ([`file_handlers`]), and the end of each job
//! ([`job_handlers`]). The functions of the jobs wait in the driver process, not here.

mod db_quota;
mod driver_writer;
mod exit;
mod file_handlers;
mod file_requests;
mod job_handlers;
mod job_loop;
mod step_handlers;
#[cfg(test)]
mod tests;

pub use exit::failure_of;
pub use job_loop::{RunContext, execute_jobs};
