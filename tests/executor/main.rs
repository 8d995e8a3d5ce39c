//! The executors against the real thing: child processes, a Docker engine with `debian:trixie-slim`, and
//! a swarm of two engines. What a pipeline can see is one suite, run against all.
//!
//! Without an engine the Docker part fails, unless `QUIRE_SKIP` names `docker`. The tests `on_swarm` and
//! those of `swarm` need the engines of `scripts/other-engine --swarm`.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

/// The program under test.
const QUIRE: &str = env!("CARGO_BIN_EXE_quire");

/// Makes each test end early where `QUIRE_SKIP` names docker.
macro_rules! fixture {
    () => {
        match $crate::support::Fixture::docker() {
            Some(fixture) => fixture,
            None => return,
        }
    };
}

mod attach;
mod builds;
mod caches;
mod docker;
mod doctor;
mod engine_away;
mod files;
mod host;
mod images;
mod kinds;
mod lfs;
mod network;
mod pressure;
mod refusing;
mod registry;
mod repl;
mod services;
mod settings;
mod suite;
mod support;
mod swarm;
mod warm;
