//! Pipelines through the binary: `quire ci check` for what is registered, and the driver's child
//! process, spoken to over its protocol by a scripted runner, for what happens while jobs run.

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
mod links;
mod places;
mod rules;
mod run;
mod shell;
mod support;
mod terminal;
mod unread;
