//! The helper of a run's container as a real process: in containers of a real engine, driven through its standard
//! input and output, or through the connection that it opens. What a runner can see of it, and what a command cannot do to it.
//!
//! Without an engine these tests fail; scripts/test leaves them out if `QUIRE_SKIP` names `docker`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod attacks;
mod client;
mod commands;
mod connection;
mod files;
mod images;
mod kill;
mod program;
mod protocol;
mod trees;
