//! `quire exec`, which sshd runs for every connection, and the login shell that starts it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::args::OutputArgs;
use super::commands;
use super::context::{Caller, Context};
use super::error::CommandError;
use super::greeting::{News, greet, print_news};
use super::output::Output;
use crate::ssh::access::SessionAccess;
use crate::ssh::command::{self, SshCommand};
use crate::ssh::confinement;
use crate::ssh::git_session;
use crate::ssh::lfs;
use quire_git::Git;
use quire_types::clock::Clock;
use quire_types::paths::Paths;
use quire_types::ssh_keys::SessionKey;

/// The login shell `quire-shell`. sshd calls it with `-c` and the forced command, which is the only
/// command that it accepts. It starts no real shell.
pub(super) fn shell(arguments: &[OsString]) -> ExitCode {
    let refused = || {
        CommandError::refused("this account has no shell; it runs only `quire exec`, over SSH")
            .print()
    };
    let [flag, line] = arguments else {
        return refused();
    };
    let Some(words) = line
        .to_str()
        .filter(|_| flag == "-c")
        .and_then(|line| shell_words::split(line).ok())
    else {
        return refused();
    };
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    match words.as_slice() {
        [program, verb, rest @ ..]
            if Path::new(program).file_name() == Some(OsStr::new("quire")) && verb == "exec" =>
        {
            exec(rest)
        }
        _ => refused(),
    }
}

/// `quire exec [--data FOLDER] [--runtime FOLDER]`: runs the command in `SSH_ORIGINAL_COMMAND`.
pub(super) fn exec(arguments: &[OsString]) -> ExitCode {
    confinement::drop_privileges();
    match paths(arguments).and_then(|paths| answer(&paths)) {
        Ok(code) => code,
        Err(failure) => failure.print(),
    }
}

/// sshd clears the environment, so the folders may also come as options of the forced command.
fn paths(arguments: &[OsString]) -> Result<Paths, CommandError> {
    let environment = Paths::from_environment();
    let (mut data, mut runtime) = (
        environment.data().to_owned(),
        environment.runtime().to_owned(),
    );
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--data" => data = value.into(),
            [name, value] if name == "--runtime" => runtime = value.into(),
            _ => {
                return Err(CommandError::usage(
                    "`quire exec` takes --data FOLDER and --runtime FOLDER",
                ));
            }
        }
    }
    Ok(Paths::new(data, runtime))
}

fn answer(paths: &Paths) -> Result<ExitCode, CommandError> {
    let original = std::env::var_os("SSH_ORIGINAL_COMMAND");
    let original = original
        .as_deref()
        .map(|text| text.to_str().ok_or(command::SshCommandError::Unreadable))
        .transpose()?;
    let command = command::parse(original)?;
    let access = SessionAccess::of_session(paths)?;
    access.check(&Git::new(paths), &command)?;
    let key = access.key;
    match command {
        SshCommand::Transport(service, repo) => {
            git_session::serve(paths, service, &repo, key)?;
            Ok(ExitCode::SUCCESS)
        }
        SshCommand::Lfs(operation, repo) => {
            lfs::serve(paths, operation, &repo, key.as_ref())?;
            Ok(ExitCode::SUCCESS)
        }
        SshCommand::Manage(words) => Ok(commands::run_remote(paths, &words, &caller(key))),
        SshCommand::Greeting => {
            let mut stdout = io::stdout();
            let mut out = Output::standard(&mut stdout, OutputArgs::default());
            let caller = caller(key);
            greet(&caller, &access.limits, &mut out)?;
            if access.limits.is_full() {
                let context = Context::new(paths, &caller, Clock::system());
                print_news(News::read(&context).as_ref(), &mut out)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn caller(key: Option<SessionKey>) -> Caller {
    Caller {
        key,
        remote: true,
        reached: git_session::reached_here(),
    }
}
