//! The helper program: the first process of a run's container. `docs/step-protocol.md` says what it
//! does; the runner controls it through frames, on its standard input and output or on a connection
//! that it opens.
//!
//! ```text
//! runner ◄─ frames ─► link ◄─► supervisor ─┬─ nanny ─── first process of a command ─── …
//!                                          ├─ nanny ─── …
//!                                          └─ worker (tree, file, user)
//! ```
//!
//! The supervisor is one thread with one loop. It never blocks: what could block (disks, name files,
//! programs) happens in a child. Each command is below a nanny, which adopts every orphan of
//! the command, so all its descendants are found from there. Children report to the
//! supervisor in frames of the same protocol, through a pipe of their own.
//!
//! Invariants: commands never receive a descriptor of the link or of another task, nor the
//! environment of the helper; a child of the supervisor that it did not start belongs to a command
//! whose nanny was killed, and is killed.

#![no_std]

extern crate alloc;

mod accounts;
mod blocking;
mod command;
mod connect;
mod files;
mod home;
mod identity;
mod link;
mod oom;
mod owner;
mod processes;
mod report;
mod stdio;
mod supervisor;
mod sys;
mod tar_reader;
mod tar_writer;
mod task;
mod timer;
mod tree;
mod workers;

use alloc::string::ToString;
use core::fmt;

pub use connect::ConnectVariables;

/// Runs the helper until its end. With the variables it connects; without them its standard input
/// and output are the link.
pub fn run(variables: Option<ConnectVariables>) -> ! {
    match supervisor::HelperLoop::start(variables) {
        Ok(mut supervisor) => supervisor.run(),
        Err(error) => give_up(error),
    }
}

/// Ends the helper when it cannot start, or after a mistake in it, with a line on standard error.
pub fn give_up(message: impl fmt::Display) -> ! {
    let line = message.to_string();
    let [_, _, error] = sys::standard_fds();
    for part in ["quire step: ", &line, "\n"] {
        let _ = rustix::io::write(error, part.as_bytes());
    }
    sys::exit(70)
}
