//! `quire init` in a pid namespace, as PID 1 and as a subreaper, with scripts for children:
//! every exit code, every signal, floods of orphans, children that will not end.
//!
//! Needs root, `unshare` and `perl` (an essential package of Debian); where one is missing the tests fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be"
)]

/// The program under test.
const QUIRE: &str = env!("CARGO_BIN_EXE_quire");

mod appliance;
mod endings;
mod keys;
mod preflight;
mod reaping;
mod restarts;
