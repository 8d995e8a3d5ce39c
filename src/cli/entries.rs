//! Where the commands that are whole programs begin.

use std::ffi::OsString;
use std::process::ExitCode;

use super::report::Failure;

/// `quire init`.
pub(super) fn init(_arguments: Vec<OsString>) -> ExitCode {
    absent("init")
}

/// `quire serve`.
pub(super) fn serve() -> ExitCode {
    absent("serve")
}

/// `quire ci`.
pub(super) fn ci(_arguments: Vec<OsString>) -> ExitCode {
    absent("ci")
}

/// `quire driver`.
pub(super) fn driver(_arguments: Vec<OsString>) -> ExitCode {
    absent("driver")
}

fn absent(name: &str) -> ExitCode {
    Failure::failed(format!("`quire {name}` is not part of this build")).print()
}
