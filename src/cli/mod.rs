//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub mod init;

#[derive(Debug, clap::Parser)]
#[command(name = "quire", version)]
struct Quire {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::Init),
}

/// Parses the arguments, does what they say, and gives the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match Quire::parse_from(arguments).command {
        Command::Init(init) => init::run(init),
    }
}
