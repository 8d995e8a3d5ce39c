//! Moves branches to the commits that were pushed to `refs/for-green/BRANCH`, once their runs are green.
//!
//! Owns: the order of the landings of a branch, the commits that are made of those that are no fast-forwards, and the refs of
//! commits that wait to land. Runs are made by the intake alone: what is tested has a ref, and the ref has an event.
//!
//! The rows of the database say what is to be done, and git says what is done already. A branch is moved by one
//! compare-and-swap, after the row says so; the row says that it has landed in the transaction that records the move. So
//! each step may be the last one before a crash.

mod deps;
mod error;
mod service;
mod worker;

pub use deps::LandingDeps;
pub use service::LandingService;
