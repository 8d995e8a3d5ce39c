//! The management commands: one parser and one implementation, for the machine itself and for SSH.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use super::args::OutputArgs;
use super::context::{Caller, Context};
use super::error::CommandError;
use super::output::Output;
use super::{
    backup, cache, client, config, doctor, gc, key, login, mirror, notify, operations, privileges,
    reconcile, repo, run, schedule, secret, status,
};
use quire_types::clock::Clock;
use quire_types::paths::Paths;
use quire_types::push_event::PUSH_OPTIONS;

/// A command that works the same on the machine itself and over SSH.
#[derive(Subcommand)]
pub(super) enum ManagementCommand {
    /// List, create, import, rename, remove and restore repositories
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// List, follow, start, cancel and retry runs
    #[command(subcommand)]
    Run(run::RunCommand),
    /// List and clear the caches that runs share
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// List schedules
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// List and test the targets of notifications
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// List the mirrors of repositories, and push to them now
    #[command(subcommand)]
    Mirror(mirror::MirrorCommand),
    /// List, add and remove SSH keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Set, list and remove secrets
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Show and change the settings in force, and check a file
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a one-time link that signs a browser in, or manage access tokens
    ///
    /// A token is for programs that read pages and for git over HTTP. It ends with the key that made it.
    Login(login::LoginCommand),
    /// Load the configuration file again, and say what changed
    ///
    /// A file that does not load changes nothing. Some settings take effect only when quire is restarted; they are named.
    Reload(OutputArgs),
    /// List what users did, the newest operation first
    ///
    /// A push, a command and a button of a page that change something are operations. `undo` takes one back.
    #[command(after_help = operations::LOG_EXAMPLES)]
    Log(operations::LogArgs),
    /// Take an operation back, or say why that is not possible
    ///
    /// The undo is an operation of its own, which can be taken back in the same way.
    #[command(after_help = operations::UNDO_EXAMPLES)]
    Undo(operations::UndoOperationArgs),
    /// Show the health of each component
    Status(OutputArgs),
    /// Check everything by using it, and say what to do about each fault
    ///
    /// Reads every page of the database, lets git check the repositories that were changed last, and starts a container as a
    /// run does. The exit code is 1 if something does not work.
    Doctor(OutputArgs),
    /// Remove expired runs, logs, artifacts and caches now
    ///
    /// The server does this by itself every hour. The retention settings (`:keep`) say what expires.
    Gc(OutputArgs),
    /// Write a backup of everything to standard output
    ///
    /// The backup is one archive (tar, compressed with zstd). Pushes and runs go on meanwhile. It contains the host keys of the
    /// appliance, so keep it as carefully as a private key. `quire restore` restores it into an empty folder.
    Backup(backup::Backup),
    /// Write this program to standard output, for another machine
    ///
    /// It runs on Linux of the same architecture, and standard error says what else it needs. There it checks and runs pipelines
    /// (`quire ci`), and runs these commands with `quire --remote NAME COMMAND`.
    #[command(after_help = client::EXAMPLES)]
    Client,
    /// Decide what happens after an older copy of the database was put in place
    ///
    /// Until then nothing runs, since what the copy does not know may have run already.
    Reconcile(reconcile::Reconcile),
}

impl ManagementCommand {
    fn format(&self) -> OutputArgs {
        match self {
            Self::Repo(command) => command.format(),
            Self::Run(command) => command.format(),
            Self::Cache(command) => command.format(),
            Self::Schedule(command) => command.format(),
            Self::Notify(command) => command.format(),
            Self::Mirror(command) => command.format(),
            Self::Key(command) => command.format(),
            Self::Secret(command) => command.format(),
            Self::Config(command) => command.format(),
            Self::Reconcile(command) => command.format(),
            Self::Login(command) => command.format(),
            Self::Log(arguments) => arguments.format,
            Self::Undo(arguments) => arguments.format,
            // Standard output is the archive, or the program.
            Self::Backup(_) | Self::Client => OutputArgs::default(),
            Self::Status(format)
            | Self::Doctor(format)
            | Self::Reload(format)
            | Self::Gc(format) => *format,
        }
    }
}

// Not a doc comment: clap would print it as the first line of `ssh git@host help`.
#[derive(Parser)]
#[command(
    name = "quire",
    bin_name = "ssh git@host",
    no_binary_name = true,
    about = "Manage the repositories and runs of a quire appliance over SSH",
    after_help = PUSH_OPTIONS_HELP.as_str()
)]
pub(super) struct RemoteCli {
    #[command(subcommand)]
    command: ManagementCommand,
}

/// The push options, as `help` prints them.
static PUSH_OPTIONS_HELP: LazyLock<String> = LazyLock::new(|| {
    let mut help = "Push options (git push -o OPTION):".to_owned();
    for (option, what) in PUSH_OPTIONS {
        help += &format!("\n  {option:<12}  {what}");
    }
    help
});

/// Runs a command that was typed on the machine itself.
pub(super) fn run_local(command: ManagementCommand) -> ExitCode {
    let paths = Paths::from_environment();
    match privileges::drop_to_data_owner(&paths)
        .and_then(|()| dispatch(&paths, command, &Caller::default()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

/// Runs a command that came over SSH, split into words.
pub(super) fn run_remote(paths: &Paths, words: &[String], caller: &Caller) -> ExitCode {
    match RemoteCli::try_parse_from(words) {
        Ok(remote) => match dispatch(paths, remote.command, caller) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.print(),
        },
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn dispatch(
    paths: &Paths,
    command: ManagementCommand,
    caller: &Caller,
) -> Result<(), CommandError> {
    let context = Context::new(paths, caller, Clock::system());
    let mut stdout = io::stdout();
    let out = &mut Output::standard(&mut stdout, command.format());
    let result = match command {
        ManagementCommand::Repo(command) => repo::repo(&context, &command, out),
        ManagementCommand::Run(command) => run::run(&context, &command, out),
        ManagementCommand::Cache(command) => cache::cache(&context, &command, out),
        ManagementCommand::Schedule(command) => schedule::schedule(&context, &command, out),
        ManagementCommand::Notify(command) => notify::notify(&context, &command, out),
        ManagementCommand::Mirror(command) => mirror::mirror(&context, &command, out),
        ManagementCommand::Key(command) => key::key(&context, command, out),
        ManagementCommand::Secret(command) => secret::secret(&context, command, out),
        ManagementCommand::Config(command) => config::config(&context, &command, out),
        ManagementCommand::Login(command) => login::login(&context, command, out),
        ManagementCommand::Backup(command) => backup::backup(&context, &command),
        ManagementCommand::Client => client::client(&context),
        ManagementCommand::Gc(_) => gc::gc(&context, out),
        ManagementCommand::Reconcile(command) => reconcile::reconcile(&context, &command, out),
        ManagementCommand::Status(_) => status::status(&context, out),
        ManagementCommand::Doctor(_) => doctor::doctor(&context, out),
        ManagementCommand::Reload(_) => config::reload(&context, out),
        ManagementCommand::Log(arguments) => operations::log(&context, &arguments, out),
        ManagementCommand::Undo(arguments) => operations::undo(&context, &arguments, out),
    };
    if context.forge().is_log_incomplete() {
        let note = "quire: this was done, but the log of operations does not have it, because the database cannot be written\n";
        let _ = io::stderr().write_all(note.as_bytes());
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::greeting;
    use crate::ssh::command::MANAGEMENT_COMMANDS;

    #[test]
    fn the_list_of_ssh_commands_is_that_of_the_parser() {
        let remote = RemoteCli::command();
        let parsed: BTreeSet<&str> = remote
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(BTreeSet::from(MANAGEMENT_COMMANDS), parsed);
        for command in MANAGEMENT_COMMANDS {
            let is_shown = |usage: &str| usage.split(' ').any(|word| word == command);
            assert!(
                greeting::COMMANDS.iter().any(|(usage, _)| is_shown(usage)),
                "the greeting does not have {command}"
            );
        }
    }

    #[test]
    fn help_over_ssh_lists_the_commands() {
        let help = RemoteCli::command().render_help().to_string();
        assert!(
            help.starts_with("Manage the repositories and runs of a quire appliance over SSH\n"),
            "{help}"
        );
    }
}
