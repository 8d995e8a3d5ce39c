//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

/// Parses the arguments, does what they say, and gives the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let _ = arguments;
    ExitCode::FAILURE
}
