//! The tests that need neither Docker nor a namespace of their own, in one binary, so that one
//! linking is enough. Each folder is a tier of scripts/test: `cargo test --test it web::` runs one.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests start real programs and fail by panicking"
)]

/// The program under test.
const QUIRE: &str = env!("CARGO_BIN_EXE_quire");

mod integration;
mod pipelines;
mod ssh;
mod web;
