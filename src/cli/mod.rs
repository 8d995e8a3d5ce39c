//! The command line: parses arguments, runs the command and returns its exit code.
//!
//! The push path (`exec`, `hook`, their links, and `health`, which runs every few seconds) is
//! recognized by its first words, before any parser is built. clap parses everything else.
//! The management commands ([`commands`]) are the same on the machine itself and over SSH.

mod args;
mod artifacts;
mod async_runtime;
mod attach;
mod backup;
mod build_fold;
mod cache;
mod ci;
mod client;
mod commands;
mod config;
mod configuration;
mod context;
mod doctor;
mod elf_program;
mod error;
mod exec;
mod follow;
mod gc;
mod greeting;
mod health;
mod help;
mod import;
mod init;
mod inverse_error;
mod key;
mod log_document;
mod login;
mod logs;
mod mirror;
mod notify;
mod operation_sentence;
mod operations;
mod output;
mod plain_relocations;
mod privileges;
mod reconcile;
mod remote;
mod repl;
mod repo;
mod repo_setting_error;
mod repo_settings;
mod repo_show;
mod restore;
mod run;
mod run_list;
mod run_show;
#[cfg(test)]
mod sample;
mod schedule;
mod secret;
mod setting_error;
mod start;
mod status;
mod terminal;
mod trash;
mod undo;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::hook;
use quire_pipeline::driver::ChildOptions;
use quire_types::paths::Paths;

/// A git forge for one person
#[derive(Parser)]
#[command(name = "quire", version = VERSION.as_str())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Manage(commands::ManagementCommand),
    /// Start the appliance: supervise sshd and `quire serve`
    Init(init::Init),
    /// Run the server; `quire init` starts it
    Serve,
    /// Restore a backup into an empty data folder
    Restore(restore::Restore),
    /// Check and run pipelines on this machine
    Ci(ci::CiArguments),
    /// Name appliances whose commands are run from this machine
    #[command(after_help = remote::EXAMPLES)]
    Remote(remote::RemoteArgs),
    /// Check the health of the server on this machine; the exit code is 0 or 1
    Health,
    /// Print completions for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Serve an SSH connection; sshd runs this
    #[command(hide = true, disable_help_flag = true)]
    Exec(PassthroughArgs),
    /// Run a git hook; git runs this
    #[command(hide = true)]
    Hook(HookArgs),
    /// Evaluate a pipeline; the server runs this
    #[command(hide = true)]
    Driver,
    /// Make and prove one backup in the folder of scheduled backups; the server runs this
    #[command(hide = true)]
    StoredBackup(backup::MakeStored),
    /// Print the engine that the configuration file names, if it names one; `init` runs this
    #[command(hide = true)]
    Engine {
        /// The data folder.
        data: std::path::PathBuf,
    },
}

/// Arguments that the command parses by itself.
#[derive(clap::Args)]
struct PassthroughArgs {
    /// See `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(clap::Args)]
struct HookArgs {
    /// Which hook.
    #[arg(value_parser = ["pre-receive", "proc-receive", "post-receive"])]
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

/// Parses the arguments, runs the command and returns the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if let Some(code) = fast_path(&arguments) {
        return code;
    }
    if let Some((name, words)) = on_remote(&arguments) {
        return remote::run_there(name, words);
    }
    let parsed = help::grouped(Cli::command())
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // Clap's own exit codes are ours: 0 for help and version, 2 for usage.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    dispatch(cli.command)
}

/// The remote that runs the command, if one is named before it. What follows is parsed there, not here.
fn on_remote(arguments: &[OsString]) -> Option<(&str, &[OsString])> {
    match arguments {
        [_, flag, name, words @ ..] if flag == "--remote" => Some((name.to_str()?, words)),
        [_, flag, words @ ..] => Some((flag.to_str()?.strip_prefix("--remote=")?, words)),
        _ => None,
    }
}

/// Runs the commands that must start fast, without building a parser.
fn fast_path(arguments: &[OsString]) -> Option<ExitCode> {
    let name = arguments
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    let words: Vec<Option<&str>> = arguments.iter().skip(1).map(|word| word.to_str()).collect();
    match (name, words.as_slice()) {
        ("post-receive", _) | (_, [Some("hook"), Some("post-receive")]) => Some(post_receive()),
        ("pre-receive", _) | (_, [Some("hook"), Some("pre-receive")]) => Some(pre_receive()),
        ("proc-receive", _) | (_, [Some("hook"), Some("proc-receive")]) => Some(proc_receive()),
        ("quire-shell" | "-quire-shell", _) => Some(exec::shell(&arguments[1..])),
        (_, [Some("exec"), ..]) => Some(exec::exec(&arguments[2..])),
        (_, [Some("driver"), manner @ ..]) => {
            let is = |word| manner.contains(&Some(word));
            Some(quire_pipeline::driver::child_main(ChildOptions {
                low_priority: is("gently"),
                allow_unsandboxed: is("unconfined"),
            }))
        }
        (_, [Some("health")]) => Some(health::health(&Paths::from_environment())),
        _ => None,
    }
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Manage(manage) => commands::run_local(manage),
        Command::Init(init) => init::run(init),
        Command::Serve => serve(),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::StoredBackup(arguments) => backup::stored(&arguments),
        Command::Ci(arguments) => ci::run(arguments),
        Command::Remote(arguments) => remote::run(&arguments),
        Command::Driver => quire_pipeline::driver::child_main(ChildOptions::default()),
        Command::Health => health::health(&Paths::from_environment()),
        Command::Engine { data } => engine(data),
        Command::Exec(rest) => exec::exec(&rest.arguments),
        Command::Hook(hook) if hook.name == "pre-receive" => pre_receive(),
        Command::Hook(hook) if hook.name == "proc-receive" => proc_receive(),
        Command::Hook(_) => post_receive(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quire", &mut text);
            // A reader such as `head` may close the pipe.
            match io::stdout().write_all(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Reads the file only: `init` knows the variables. What is wrong with the file is said by the server.
fn engine(data: std::path::PathBuf) -> ExitCode {
    let paths = Paths::new(data, "");
    let Some(loaded) = quire_config::Config::load_for_command(&paths) else {
        return ExitCode::FAILURE;
    };
    if matches!(loaded.origin("ci.engine"), quire_config::Origin::File) {
        let _ = writeln!(io::stdout(), "{}", loaded.config.ci.engine);
    }
    ExitCode::SUCCESS
}

fn serve() -> ExitCode {
    match crate::serve::run(&Paths::from_environment()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::serve(&error),
    }
}

/// Git changes nothing if this fails.
fn pre_receive() -> ExitCode {
    match hook::pre_receive(&Paths::from_environment(), io::stdin().lock()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Git refuses what this hook does not accept.
fn proc_receive() -> ExitCode {
    let paths = Paths::from_environment();
    // As root (a push by path inside the container) the refs must still be the owner's.
    let _ = privileges::drop_to_data_owner(&paths);
    match hook::proc_receive(&paths, io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Git has accepted the push already, so the exit code is 0 whatever happens.
fn post_receive() -> ExitCode {
    let paths = Paths::from_environment();
    // As root (a push by path inside the container) the spool file must still be the owner's.
    let _ = privileges::drop_to_data_owner(&paths);
    hook::post_receive(&paths, io::stdin().lock());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod commands_document;
#[cfg(test)]
mod printed_tests;
#[cfg(test)]
mod tests;
