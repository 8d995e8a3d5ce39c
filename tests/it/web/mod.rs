//! The web as a whole: the real router over loopback, with a database and log files of its own.
//!
//! `browser.rs` drives it with Chromium. `QUIRE_SCREENSHOTS=<folder>` keeps what that saw.

mod access;
mod archives;
mod browser;
mod client;
mod feeds;
mod git_http;
mod highlighting;
mod history_pages;
mod limits;
mod live;
mod pages;
mod patches;
mod repository;
mod repository_browser;
mod search;
mod seed;
mod site;
mod strangers;
mod tokens;
mod transfer;
mod visibility;
