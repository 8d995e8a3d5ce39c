//! Finds the programs of a run, and says why one could not be started.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use quire_step::{ProgramFormat, program_format};

use crate::spawn_problem::SpawnProblem;

/// How much of a program tells its format.
const MAX_HEAD: u64 = 256;

/// Returns why `program` could not be started in the folder `cwd`, with the variable PATH `path`.
pub(super) fn diagnose(program: &str, path: &str, cwd: &Path, error: &io::Error) -> SpawnProblem {
    let format = || find_program(program, path, cwd).and_then(|file| head(&file).ok());
    if error.kind() == io::ErrorKind::NotFound && error.raw_os_error().is_none() {
        return SpawnProblem::Missing;
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => match format() {
            Some(head) => missing_interpreter(&head),
            None => SpawnProblem::Missing,
        },
        Some(Errno::ENOTDIR) => SpawnProblem::Missing,
        Some(Errno::EACCES | Errno::EPERM) => SpawnProblem::PermissionDenied,
        Some(Errno::E2BIG) => SpawnProblem::ArgumentsTooLong,
        Some(Errno::EAGAIN) => SpawnProblem::NoProcesses,
        Some(Errno::ENOEXEC) => match format().as_deref().map(program_format) {
            Some(ProgramFormat::Elf { .. }) => SpawnProblem::OtherArchitecture,
            _ => SpawnProblem::UnknownFormat,
        },
        Some(errno) => SpawnProblem::Other(errno.desc().to_owned()),
        None => SpawnProblem::Other(error.to_string()),
    }
}

/// The program exists, so what does not exist is what executes it.
fn missing_interpreter(head: &[u8]) -> SpawnProblem {
    match program_format(head) {
        ProgramFormat::Script { interpreter } => {
            let name = String::from_utf8_lossy(interpreter).into_owned();
            if name.ends_with('\r') {
                SpawnProblem::InterpreterCarriageReturn(name)
            } else {
                SpawnProblem::InterpreterMissing(name)
            }
        }
        _ => SpawnProblem::InterpreterMissing("dynamic linker".to_owned()),
    }
}

/// Finds a program as execvp(3) does: a name without a slash in the folders of `path`, the first that may be executed; if none may,
/// the first.
pub(super) fn find_program(program: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(cwd.join(program));
    }
    let files = path
        .split(':')
        .map(|folder| cwd.join(folder).join(program))
        .filter(|file| file.is_file());
    let may_be_executed = |file: &PathBuf| access(file, AccessFlags::X_OK).is_ok();
    let mut first = None;
    for file in files {
        if may_be_executed(&file) {
            return Some(file);
        }
        first.get_or_insert(file);
    }
    first
}

fn head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(MAX_HEAD).read_to_end(&mut head)?;
    Ok(head)
}
