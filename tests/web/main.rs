//! The web as a whole: the real router over loopback, with a database and log files of its own.
//!
//! `browser.rs` drives it with Chromium. `QUIRE_SCREENSHOTS=<folder>` keeps what that saw.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../support/browser.rs"]
mod chromium;
#[path = "../support/needs.rs"]
mod needs;

mod access;
mod browser;
mod client;
mod limits;
mod live;
mod pages;
mod seed;
mod site;
