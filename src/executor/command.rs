//! What both executors check of a command before anything runs, and how they mark its processes.

use std::path::{Component, Path, PathBuf};

use super::{Command, ExecutorError};
use crate::names::RunId;

/// The variable that marks every process of a command: `<instance>/<run>/<number>.`; the dot
/// keeps number 1 from being a beginning of number 10.
pub(super) const MARK: &str = "QUIRE_MARK";

/// The environment entry that marks one command.
pub(super) fn mark(instance: &str, run: RunId, number: u64) -> String {
    format!("{}{number}.", run_mark(instance, run))
}

/// The beginning that all marks of a run share.
pub(super) fn run_mark(instance: &str, run: RunId) -> String {
    format!("{}{run}/", instance_mark(instance))
}

/// The beginning that all marks of an appliance share.
pub(super) fn instance_mark(instance: &str) -> String {
    format!("{MARK}={instance}/")
}

/// Checks a command; gives its folder as a path below the workspace.
pub(super) fn check(command: &Command) -> Result<PathBuf, ExecutorError> {
    let refuse = |why: String| Err(ExecutorError::Command(why));
    match command.argv.first() {
        None => return refuse("the command is empty".into()),
        Some(program) if program.is_empty() => {
            return refuse("the command's program is an empty string".into());
        }
        Some(_) => {}
    }
    if let Some(argument) = command.argv.iter().find(|a| a.contains('\0')) {
        return refuse(format!(
            "the argument `{}` of the command contains a NUL byte",
            argument.replace('\0', "\u{fffd}")
        ));
    }
    for (name, value) in &command.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return refuse(format!(
                "`{}` cannot be the name of a variable",
                name.replace('\0', "\u{fffd}")
            ));
        }
        if value.contains('\0') {
            return refuse(format!(
                "the value of the variable `{name}` contains a NUL byte"
            ));
        }
    }
    command
        .cwd
        .as_deref()
        .map_or_else(|| Ok(PathBuf::new()), inside)
}

/// A folder below the workspace.
fn inside(folder: &str) -> Result<PathBuf, ExecutorError> {
    below(folder).map_err(|why| {
        ExecutorError::Command(format!(
            "the folder `{}` {why}",
            folder.replace('\0', "\u{fffd}")
        ))
    })
}

/// A path below the workspace, by its words alone: `..` may step back, but not out. The error goes on behind the path.
pub(super) fn below(path: &str) -> Result<PathBuf, &'static str> {
    if path.contains('\0') {
        return Err("contains a NUL byte");
    }
    let mut below = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::CurDir => {}
            Component::ParentDir if below.pop() => {}
            Component::ParentDir => return Err("lies outside of the workspace"),
            Component::RootDir | Component::Prefix(_) => {
                return Err("is absolute; name it as seen from the workspace");
            }
        }
    }
    Ok(below)
}

/// The words for a folder that is missing.
pub(super) fn no_folder(folder: &Path) -> ExecutorError {
    ExecutorError::Command(format!(
        "the workspace has no folder `{}`",
        folder.display()
    ))
}

/// The line for a program that could not be started, and its exit code.
pub(super) fn not_started(program: &str, kind: std::io::ErrorKind) -> (i32, String) {
    match kind {
        std::io::ErrorKind::NotFound => (
            127,
            format!("quire: cannot run `{program}`: there is no such program\n"),
        ),
        std::io::ErrorKind::PermissionDenied => (
            126,
            format!("quire: cannot run `{program}`: it may not be executed\n"),
        ),
        std::io::ErrorKind::ArgumentListTooLong => (
            126,
            format!("quire: cannot run `{program}`: arguments and variables are too long\n"),
        ),
        _ => (
            126,
            format!(
                "quire: cannot run `{program}`: it is not a program that this machine can execute\n"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(argv: &[&str]) -> Command {
        Command {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            timeout: None,
        }
    }

    #[test]
    fn folders_stay_inside() {
        let of = |folder: &str| {
            check(&Command {
                cwd: Some(folder.into()),
                ..command(&["true"])
            })
            .map_err(|e| e.to_string())
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
    fn senseless_commands_are_refused() {
        let of = |c: Command| check(&c).unwrap_err().to_string();
        assert_eq!(of(command(&[])), "the command is empty");
        assert_eq!(
            of(command(&["", "x"])),
            "the command's program is an empty string"
        );
        assert!(of(command(&["a", "b\0c"])).contains("NUL"));
        for name in ["", "A=B", "A\0"] {
            assert!(
                of(Command {
                    env: vec![(name.into(), String::new())],
                    ..command(&["a"])
                })
                .contains("variable")
            );
        }
        assert!(
            of(Command {
                env: vec![("A".into(), "\0".into())],
                ..command(&["a"])
            })
            .contains("NUL")
        );
    }

    #[test]
    fn marks_tell_commands_apart() {
        let run = RunId::new();
        assert!(mark("i", run, 10).starts_with(&run_mark("i", run)));
        assert!(!mark("i", run, 10).starts_with(&mark("i", run, 1)));
        assert!(!mark("i2", run, 1).starts_with(&instance_mark("i")));
    }
}
