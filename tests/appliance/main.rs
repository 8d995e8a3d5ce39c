//! The product as a user meets it: the image that image/Dockerfile builds, started by
//! compose.yaml, driven by real ssh and git clients, its pipelines run by a real Docker
//! engine, its pages read by a real browser.
//!
//! Needs a Docker engine and the image (scripts/image; `QUIRE_IMAGE` names another).
//! Everything made here is named `quire-test-<pid>-…`, listens on loopback, and is removed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests start real programs and fail by panicking"
)]

mod appliance;
mod boot;
mod browser;
mod client;
mod docker;
mod image;
mod keys;
mod program;
mod pushes;
mod restarts;
mod web;
