//! What both executors check of a command before anything runs, and how they mark its processes.

use std::path::{Component, Path, PathBuf};

use quire_types::names::RunId;

use crate::api::CommandSpec;
use crate::error::{InvalidCommand, PathProblem};

/// The variable in the environment of every process of a command: `<instance>/<run>/<number>.`,
/// where the dot keeps number 1 from being a prefix of number 10.
const MARKER_VARIABLE: &str = "QUIRE_MARK";

/// The environment entry that marks the processes of one command.
pub(crate) fn process_marker(instance: &str, run: RunId, number: u64) -> String {
    format!("{}{number}.", run_marker(instance, run))
}

/// The prefix that all markers of a run share.
pub(crate) fn run_marker(instance: &str, run: RunId) -> String {
    format!("{}{run}/", instance_marker(instance))
}

/// The prefix that all markers of an appliance share.
pub(crate) fn instance_marker(instance: &str) -> String {
    format!("{MARKER_VARIABLE}={instance}/")
}

/// Checks a command and returns its working directory, relative to the workspace.
pub(crate) fn check(command: &CommandSpec) -> Result<PathBuf, InvalidCommand> {
    match command.argv.first() {
        None => return Err(InvalidCommand::Empty),
        Some(program) if program.is_empty() => return Err(InvalidCommand::EmptyProgram),
        Some(_) => {}
    }
    if let Some(argument) = command.argv.iter().find(|a| a.contains('\0')) {
        return Err(InvalidCommand::NulInArgument(argument.clone()));
    }
    for (name, value) in &command.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(InvalidCommand::InvalidVariable(name.clone()));
        }
        if value.contains('\0') {
            return Err(InvalidCommand::NulInVariable(name.clone()));
        }
    }
    command
        .cwd
        .as_deref()
        .map_or_else(|| Ok(PathBuf::new()), workdir)
}

/// How long an argument may be for the kernel, without its end.
const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// Splits a command whose text of `-c` is longer than an argument may be: the arguments before `-c`,
/// which a path of a file with the text has to follow, and the text.
pub(crate) fn text_for_a_file(argv: &[String]) -> Option<(&[String], &str)> {
    match argv {
        [before @ .., option, text] if option == "-c" && text.len() > MAX_ARGUMENT => {
            Some((before, text))
        }
        _ => None,
    }
}

fn workdir(path: &str) -> Result<PathBuf, InvalidCommand> {
    normalize_relative(path).map_err(|problem| InvalidCommand::Workdir {
        path: path.to_owned(),
        problem,
    })
}

/// Resolves the dots of a path that is relative to the workspace, by its text alone: `..` may
/// step back, but not out.
pub(crate) fn normalize_relative(path: &str) -> Result<PathBuf, PathProblem> {
    if path.contains('\0') {
        return Err(PathProblem::NulByte);
    }
    let mut normalized = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => normalized.push(name),
            Component::CurDir => {}
            Component::ParentDir if normalized.pop() => {}
            Component::ParentDir => return Err(PathProblem::Outside),
            Component::RootDir | Component::Prefix(_) => return Err(PathProblem::Absolute),
        }
    }
    Ok(normalized)
}

pub(crate) fn missing_workdir(workdir: &Path) -> InvalidCommand {
    InvalidCommand::MissingWorkdir(workdir.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(argv: &[&str]) -> CommandSpec {
        CommandSpec {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            timeout: None,
            merge: false,
        }
    }

    #[test]
    fn working_directories_stay_in_the_workspace() {
        let of = |path: &str| {
            check(&CommandSpec {
                cwd: Some(path.into()),
                ..command(&["true"])
            })
        };
        for (given, path) in [
            ("", ""),
            (".", ""),
            ("a/b", "a/b"),
            ("a/../b/./c/", "b/c"),
            ("a/..", ""),
        ] {
            assert_eq!(of(given), Ok(path.into()), "{given}");
        }
        for given in ["..", "a/../..", "/", "/etc", "../work", "a/../../a", "x\0y"] {
            assert!(of(given).is_err(), "{given}");
        }
    }

    #[test]
    fn invalid_commands_are_errors() {
        let of = |command: CommandSpec| check(&command).unwrap_err();
        assert_eq!(of(command(&[])), InvalidCommand::Empty);
        assert_eq!(of(command(&["", "x"])), InvalidCommand::EmptyProgram);
        assert_eq!(
            of(command(&["a", "b\0c"])),
            InvalidCommand::NulInArgument("b\0c".into())
        );
        let with_variable = |name: &str, value: &str| CommandSpec {
            env: vec![(name.into(), value.into())],
            ..command(&["a"])
        };
        for name in ["", "A=B", "A\0"] {
            assert_eq!(
                of(with_variable(name, "")),
                InvalidCommand::InvalidVariable(name.into())
            );
        }
        assert_eq!(
            of(with_variable("A", "\0")),
            InvalidCommand::NulInVariable("A".into())
        );
    }

    #[test]
    fn markers_tell_commands_apart() {
        let run = RunId::new();
        assert!(process_marker("i", run, 10).starts_with(&run_marker("i", run)));
        assert!(!process_marker("i", run, 10).starts_with(&process_marker("i", run, 1)));
        assert!(!process_marker("i2", run, 1).starts_with(&instance_marker("i")));
    }
}
