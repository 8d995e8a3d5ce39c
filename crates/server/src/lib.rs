//! The work of `quire serve`: the queue of runs, the intake of pushes, the runner and housekeeping.

mod addresses;
pub mod backup;
pub mod control;
pub mod doctor;
pub mod findings;
pub mod forge;
pub mod health_watch;
pub mod hooks;
pub mod housekeeping;
pub mod intake;
pub mod landing;
pub mod metrics;
pub mod mirror;
pub mod notify;
pub mod part_problem;
pub mod published_certificate;
pub mod queue;
mod ref_move;
pub mod rename;
pub mod repo_settings;
pub mod runner;
pub mod secrets;
pub mod sequence;
mod tls_roots;
pub mod trash;
mod webhook_signature;
mod workers;
