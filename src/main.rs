//! The `quire` binary: parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    quire::cli::main(std::env::args_os().collect())
}
