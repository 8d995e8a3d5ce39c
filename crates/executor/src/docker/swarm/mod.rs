//! Runs on the machines of a Docker swarm: one service for a run, whose task executes the run's container
//! once, on the node that the swarm's scheduler chooses. The engine at the socket is a manager.
//!
//! No engine but the manager's can be reached, so the helper in the container connects back to the
//! appliance, through an encrypted channel with a token that is used once.
//!
//! ```text
//! appliance ──── create service ───► manager ─── task ───► node
//!     ▲                                                      │ starts
//!     └────────── channel, frames ────────────────────── helper
//! ```
//!
//! Invariants: a swarm never starts a second task for a run. The helper has a lease, which the
//! appliance renews through the channel; without it, the helper ends with everything that it started. So a
//! run has ended when the swarm says so, or when the connection has been closed for as
//! long as a lease lasts.

mod callback;
mod channel_stream;
pub(super) mod cleanup;
mod config;
mod engine_errors;
mod executor;
mod helper_config;
mod job;
mod job_starter;
mod last_nodes;
mod lease;
mod place;
mod registry;
mod services;
mod start;
mod warm_job;

pub use config::{SwarmConfig, SwarmRegistry};
pub use executor::SwarmExecutor;
