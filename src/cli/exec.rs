//! `quire exec`: what sshd runs for every connection, and the login shell that leads to it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::manage::{self, Caller};
use super::output::Out;
use super::report::Failure;
use crate::paths::Paths;
use crate::ssh::command::{self, SshCommand};
use crate::ssh::session;

/// As the login shell `quire-shell`: sshd calls it with `-c` and its forced command, which is the
/// only thing it knows. There is no shell behind it.
pub(super) fn shell(arguments: &[OsString]) -> ExitCode {
    let refused = || {
        Failure::refused(
            "this account has no shell; over SSH it runs `quire exec` and nothing else",
        )
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

/// `quire exec [--data FOLDER] [--runtime FOLDER]`: does what `SSH_ORIGINAL_COMMAND` says.
pub(super) fn exec(arguments: &[OsString]) -> ExitCode {
    match paths(arguments).and_then(|paths| answer(&paths)) {
        Ok(code) => code,
        Err(failure) => failure.print(),
    }
}

/// sshd clears the environment, so the folders may also come as options of the forced command.
fn paths(arguments: &[OsString]) -> Result<Paths, Failure> {
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
                return Err(Failure::usage(
                    "`quire exec` takes --data FOLDER and --runtime FOLDER",
                ));
            }
        }
    }
    Ok(Paths::new(data, runtime))
}

fn answer(paths: &Paths) -> Result<ExitCode, Failure> {
    let original = std::env::var_os("SSH_ORIGINAL_COMMAND");
    let original = original
        .as_deref()
        .map(|text| text.to_str().ok_or(command::Refusal::Unreadable))
        .transpose()?;
    match command::parse(original)? {
        SshCommand::Transport(service, repo) => Err(session::serve(paths, service, &repo).into()),
        SshCommand::Manage(words) => Ok(manage::over_ssh(paths, &words, &caller(paths))),
        SshCommand::Greeting => greet(&caller(paths)).map(|()| ExitCode::SUCCESS),
    }
}

fn caller(paths: &Paths) -> Caller {
    Caller {
        key: session::key(paths),
        remote: true,
    }
}

fn greet(caller: &Caller) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let mut out = Out::standard(&mut stdout, false);
    let name: String = caller
        .name()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    out.line(&format!(
        "quire: hello {name}. There is no shell here; these commands there are:"
    ))?;
    out.line(
        "  git push, clone, fetch, archive --remote    a push to a new name creates the repository",
    )?;
    for (usage, what) in manage::OVERVIEW {
        out.line(&format!("  {usage:<42}  {what}"))?;
    }
    Ok(())
}
