//! The command line: from what was typed to what is done and its exit code.
//!
//! The push path (`exec`, `hook`, their links, and `health`, which runs every few seconds) is
//! told apart by its first words, before any parser is built. Everything else goes through clap.
//! The management commands ([`manage`]) are the same here and over SSH.

mod artifacts;
mod attach;
mod cache;
mod ci;
mod exec;
mod follow;
mod gc;
mod health;
mod init;
mod key;
mod login;
mod logs;
mod manage;
mod output;
mod owner;
mod repo;
mod report;
mod run;
mod schedule;
mod start;
mod status;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};

use crate::driver::Manner;
use crate::hook;
use crate::paths::Paths;

/// A git forge for one person.
#[derive(Parser)]
#[command(name = "quire", version = VERSION.as_str())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Manage(manage::Manage),
    /// Start the appliance: supervise sshd and `quire serve`.
    Init(init::Init),
    /// Run the server: pages, queue, runs. `quire init` starts it.
    Serve,
    /// Pipelines of a working tree: check, run, init.
    Ci(ci::CiArguments),
    /// Ask the server on this machine whether it is well; exit code 0 or 1.
    Health,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// What sshd runs for every connection.
    #[command(hide = true, disable_help_flag = true)]
    Exec(Rest),
    /// What git runs after a push.
    #[command(hide = true)]
    Hook(HookArgs),
    /// Evaluates a pipeline for the server.
    #[command(hide = true)]
    Driver,
}

/// Arguments that a module reads by itself.
#[derive(clap::Args)]
struct Rest {
    /// See `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(clap::Args)]
struct HookArgs {
    /// Which hook.
    #[arg(value_parser = ["post-receive"])]
    name: String,
}

/// The version, with the commit where the build knew it.
static VERSION: LazyLock<String> =
    LazyLock::new(
        || match option_env!("QUIRE_COMMIT").filter(|commit| !commit.is_empty()) {
            Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
            None => env!("CARGO_PKG_VERSION").to_owned(),
        },
    );

/// Parses the arguments, does what they say, and gives the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if let Some(code) = without_parser(&arguments) {
        return code;
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        // Clap's own exit codes are ours: 0 for help and version, 2 for usage.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    dispatch(cli.command)
}

/// The commands that must start in no time.
fn without_parser(arguments: &[OsString]) -> Option<ExitCode> {
    let name = arguments
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    let words: Vec<Option<&str>> = arguments.iter().skip(1).map(|word| word.to_str()).collect();
    match (name, words.as_slice()) {
        ("post-receive", _) | (_, [Some("hook"), Some("post-receive")]) => Some(post_receive()),
        ("quire-shell" | "-quire-shell", _) => Some(exec::shell(&arguments[1..])),
        (_, [Some("exec"), ..]) => Some(exec::exec(&arguments[2..])),
        (_, [Some("driver"), manner @ ..]) => {
            let is = |word| manner.contains(&Some(word));
            Some(crate::driver::child_main(Manner {
                gently: is("gently"),
                unconfined: is("unconfined"),
            }))
        }
        (_, [Some("health")]) => Some(health::health(&Paths::from_environment())),
        _ => None,
    }
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Manage(manage) => manage::here(manage),
        Command::Init(init) => init::run(init),
        Command::Serve => serve(),
        Command::Ci(arguments) => ci::run(arguments),
        Command::Driver => crate::driver::child_main(Manner::default()),
        Command::Health => health::health(&Paths::from_environment()),
        Command::Exec(rest) => exec::exec(&rest.arguments),
        Command::Hook(_) => post_receive(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "quire", &mut io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// `quire serve`: why it ended, in words, where it was not told to.
fn serve() -> ExitCode {
    match crate::serve::run(&Paths::from_environment()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::serve(&error),
    }
}

/// The push stands already: whatever happens, the hook succeeds.
fn post_receive() -> ExitCode {
    let paths = Paths::from_environment();
    // As root (a push by path inside the container) the spool file must still be the owner's.
    let _ = owner::become_owner(&paths);
    hook::post_receive(&paths, io::stdin().lock());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests;
