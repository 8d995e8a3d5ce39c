//! Pipelines through the binary: `quire ci check` for what is registered, and the driver's child
//! process, spoken to over its protocol by a scripted runner, for what happens while jobs run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

#[path = "../support/needs.rs"]
mod needs;

mod check;
mod compiled;
mod cookbook;
mod docs;
mod escapes;
mod forms;
mod hostile;
mod init;
mod kept;
mod limits;
mod rules;
mod run;
mod support;
mod terminal;
mod unread;
