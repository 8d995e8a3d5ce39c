//! Why the helper could not do something, as errors of the executor.

use std::path::Path;

use nix::errno::Errno;
use quire_step::FailureReason;

use super::frame::HelperFailure;
use crate::command::missing_workdir;
use crate::error::{ContainerFailure, ExecutorError, FileProblem, ImageError, InvalidCommand};
use crate::file_path::{file_error, too_large};
use crate::spawn_problem::SpawnProblem;

const UNPACK: &str = "unpack the tree";

/// The end of a command that was not started.
pub(super) enum StartFailure {
    /// As in a shell: an exit code, and a line on standard error.
    Program(SpawnProblem),
    Invalid(ExecutorError),
}

/// Why a command was not started in the folder `cwd`.
pub(super) fn start_failure(cwd: &str, failure: &HelperFailure) -> StartFailure {
    let detail = || failure.detail.clone();
    let problem = match failure.reason {
        FailureReason::ProgramMissing => SpawnProblem::Missing,
        FailureReason::InterpreterMissing => SpawnProblem::InterpreterMissing(detail()),
        FailureReason::InterpreterCarriageReturn => {
            SpawnProblem::InterpreterCarriageReturn(detail())
        }
        FailureReason::NotExecutable => SpawnProblem::PermissionDenied,
        FailureReason::UnknownFormat => SpawnProblem::UnknownFormat,
        FailureReason::WrongArchitecture => SpawnProblem::OtherArchitecture,
        FailureReason::ArgumentsTooLong => SpawnProblem::ArgumentsTooLong,
        FailureReason::NoProcesses => SpawnProblem::NoProcesses,
        FailureReason::FolderMissing => {
            return StartFailure::Invalid(missing_workdir(Path::new(cwd)).into());
        }
        FailureReason::FolderEscapes => {
            return StartFailure::Invalid(InvalidCommand::WorkdirEscapes(cwd.to_owned()).into());
        }
        _ => SpawnProblem::Other(system_message(failure)),
    };
    StartFailure::Program(problem)
}

/// Why the user of an image is unknown.
pub(super) fn identity_failure(user: &str, failure: &HelperFailure) -> ExecutorError {
    match failure.reason {
        FailureReason::UnknownUser | FailureReason::UnknownGroup => ImageError::UnknownUser {
            user: user.to_owned(),
            missing: failure.detail.clone(),
        }
        .into(),
        _ => ExecutorError::failed("find the user of the image", &system_message(failure)),
    }
}

/// Why the tree could not be unpacked.
pub(super) fn tree_failure(
    folder: &str,
    caches: &[String],
    failure: &HelperFailure,
) -> ExecutorError {
    let path = failure.detail.trim_end_matches('/');
    let relative = Path::new(path)
        .strip_prefix(folder)
        .unwrap_or(Path::new(path));
    let is_cache_or_above = |cache: &&String| {
        Path::new(cache.as_str())
            .strip_prefix(folder)
            .is_ok_and(|cache| cache.starts_with(relative))
    };
    let is_occupied = matches!(
        Errno::from_raw(failure.errno),
        Errno::EEXIST | Errno::EISDIR | Errno::ENOTDIR | Errno::EBUSY | Errno::ENOTEMPTY
    );
    if is_occupied && !path.is_empty() && caches.iter().any(|cache| is_cache_or_above(&cache)) {
        return InvalidCommand::CacheOverFile(relative.display().to_string()).into();
    }
    ExecutorError::failed(UNPACK, &system_message(failure))
}

/// Why a file of the workspace could not be used.
pub(super) fn file_failure(
    attempt: &'static str,
    path: &str,
    failure: &HelperFailure,
) -> ExecutorError {
    let problem = match (failure.reason, Errno::from_raw(failure.errno)) {
        (FailureReason::PathEscapes, _) => FileProblem::Escapes,
        (FailureReason::IsFolder, _) => FileProblem::Directory,
        (FailureReason::IsSpecial, _) => FileProblem::Special,
        (FailureReason::TooLarge, _) => return too_large(path),
        (FailureReason::System, Errno::ENOENT) => FileProblem::Missing,
        (FailureReason::System, Errno::EXDEV | Errno::ELOOP) => FileProblem::Escapes,
        (FailureReason::System, Errno::EISDIR) => FileProblem::Directory,
        (FailureReason::System, Errno::ENOTDIR) => FileProblem::NotADirectory,
        (FailureReason::System, Errno::ENXIO) => FileProblem::Special,
        (FailureReason::System, Errno::EACCES | Errno::EPERM) => FileProblem::PermissionDenied,
        (FailureReason::Killed, _) => return killed(),
        _ => return ExecutorError::failed(attempt, &system_message(failure)),
    };
    file_error(path, problem)
}

/// The process that worked on a file was killed from within the container.
fn killed() -> ExecutorError {
    ContainerFailure::HelperFailed {
        message: "its process was killed".to_owned(),
    }
    .into()
}

/// The system's message, with what it is about.
fn system_message(failure: &HelperFailure) -> String {
    let message = match failure.reason {
        FailureReason::Archive => "the archive of the tree cannot be read".to_owned(),
        FailureReason::NoTerminal => "the container has no terminals".to_owned(),
        FailureReason::Killed => "the process that did it was killed".to_owned(),
        _ => Errno::from_raw(failure.errno).desc().to_owned(),
    };
    if failure.detail.is_empty() {
        message
    } else {
        format!("{}: {message}", failure.detail)
    }
}
