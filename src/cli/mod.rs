//! The command line.

mod ci;

use std::ffi::OsString;
use std::process::ExitCode;

/// Parses the arguments, does what they say, and gives the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    // The driver is started often and by quire only: it parses nothing.
    if arguments.get(1).is_some_and(|argument| argument == "driver") && arguments.len() == 2 {
        return crate::driver::child_main();
    }
    if arguments.get(1).is_some_and(|argument| argument == "ci") {
        return ci::main(arguments.into_iter().skip(1));
    }
    ExitCode::FAILURE
}
