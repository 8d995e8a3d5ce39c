//! The management commands: one parser and one implementation, locally and over SSH.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use super::output::Out;
use super::report::Failure;
use super::{cache, gc, key, login, owner, repo, run, schedule, status};
use crate::clock::Clock;
use crate::paths::Paths;
use crate::public_keys::Key;
use crate::ssh::command::Refusal;
use crate::store::Store;

/// For those who ask what there is.
pub(super) const OVERVIEW: [(&str, &str); 16] = [
    ("repo list | new NAME | rm NAME --yes", "repositories"),
    (
        "repo rename OLD NEW",
        "call one otherwise; the old name leads there",
    ),
    (
        "run list [--repo --ref --state --limit]",
        "runs, newest first",
    ),
    ("run show ID", "one run with its jobs and steps"),
    ("run logs ID [--job J] [--follow]", "its log, live"),
    (
        "run wait | cancel | retry ID",
        "wait for its end, end it, repeat it",
    ),
    (
        "run artifacts list ID | get ID [NAME]",
        "what it kept; get writes it to standard output",
    ),
    (
        "run attach ID [COMMAND]",
        "a shell in its container, while it runs or is kept",
    ),
    (
        "run start REPO [--branch B] [--param K=V]",
        "start one by hand",
    ),
    ("schedule list [--repo R]", "what runs by itself, and when"),
    (
        "cache list | clear REPO [NAME]",
        "what runs keep from one to the next",
    ),
    ("key list", "the keys that may connect"),
    ("login", "a link that signs a browser in"),
    ("status", "how the appliance is"),
    ("gc", "remove now what need not be kept"),
    ("help", "all of it, with options"),
];

/// Who gives the command.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// The key, where sshd told.
    pub(super) key: Option<Key>,
    /// Over SSH.
    pub(super) remote: bool,
}

impl Caller {
    /// The key's name; a name for whoever is at the machine itself.
    pub(super) fn name(&self) -> &str {
        match &self.key {
            Some(key) => &key.name,
            None if self.remote => "whoever you are",
            None => "local",
        }
    }
}

/// A management command.
#[derive(Subcommand)]
pub(super) enum Manage {
    /// Repositories.
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// Runs.
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Caches, which runs keep from one to the next.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Schedules.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Print a one-time link that signs a browser in.
    Login(Format),
    /// Show how the appliance is.
    Status(Format),
    /// Remove now what `:keep` does not ask for: old runs, logs, artifacts, leftovers.
    Gc(Format),
}

impl Manage {
    fn json(&self) -> bool {
        match self {
            Self::Repo(command) => command.json(),
            Self::Run(command) => command.json(),
            Self::Cache(command) => command.json(),
            Self::Schedule(command) => command.json(),
            Self::Key(command) => command.json(),
            Self::Login(format) | Self::Status(format) | Self::Gc(format) => format.json,
        }
    }
}

/// Shared by all commands.
#[derive(clap::Args, Clone, Copy)]
pub(super) struct Format {
    /// Print JSON and nothing else.
    #[arg(long)]
    pub(super) json: bool,
}

/// What clap parses over SSH.
#[derive(Parser)]
#[command(name = "quire", bin_name = "ssh git@host", no_binary_name = true)]
struct Remote {
    #[command(subcommand)]
    command: Manage,
}

/// What a command works with.
pub(super) struct Context<'a> {
    pub(super) paths: &'a Paths,
    pub(super) caller: &'a Caller,
    pub(super) clock: Clock,
}

impl Context<'_> {
    /// The database, which `serve` keeps.
    pub(super) fn store(&self) -> Result<Store, Failure> {
        if !self.paths.database().exists() {
            let failure = Failure::failed(format!(
                "there is no database in {} yet",
                self.paths.data().display()
            ));
            return Err(failure.hint("`quire serve` makes it when it first starts"));
        }
        Ok(Store::open_existing(
            &self.paths.database(),
            self.clock.clone(),
        )?)
    }
}

/// Runs a command typed at the machine itself.
pub(super) fn here(command: Manage) -> ExitCode {
    let paths = Paths::from_environment();
    match owner::become_owner(&paths).and_then(|()| carry_out(&paths, command, &Caller::default()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

/// Runs a command that came over SSH, already split into words.
pub(super) fn over_ssh(paths: &Paths, words: &[String], caller: &Caller) -> ExitCode {
    match Remote::try_parse_from(words) {
        Ok(remote) => match carry_out(paths, remote.command, caller) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.print(),
        },
        // What is not on the list is refused like any other such command.
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            Failure::from(Refusal::NotListed).print()
        }
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn carry_out(paths: &Paths, command: Manage, caller: &Caller) -> Result<(), Failure> {
    let context = Context {
        paths,
        caller,
        clock: Clock::system(),
    };
    let mut stdout = io::stdout();
    let out = &mut Out::standard(&mut stdout, command.json());
    match command {
        Manage::Repo(command) => repo::repo(&context, &command, out),
        Manage::Run(command) => run::run(&context, &command, out),
        Manage::Cache(command) => cache::cache(&context, &command, out),
        Manage::Schedule(command) => schedule::schedule(&context, &command, out),
        Manage::Key(command) => key::key(&context, &command, out),
        Manage::Login(_) => login::login(&context, out),
        Manage::Gc(_) => gc::gc(&context, out),
        Manage::Status(_) => status::status(&context, out),
    }
}
