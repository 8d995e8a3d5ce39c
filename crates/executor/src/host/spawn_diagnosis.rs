//! Why a program of a run could not be started.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use quire_step::{ProgramFormat, program_format};

use crate::spawn_problem::SpawnProblem;

/// How much of a program tells its format.
const MAX_HEAD: u64 = 256;

/// Returns why `program` could not be started in the folder `cwd`, with the variable PATH `path`.
pub(super) fn diagnose(program: &str, path: &str, cwd: &Path, error: &io::Error) -> SpawnProblem {
    let format = || find(program, path, cwd).and_then(|file| head(&file).ok());
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

/// Finds a program as the kernel and the C library do.
fn find(program: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(cwd.join(program)).filter(|file| file.is_file());
    }
    path.split(':')
        .map(|folder| cwd.join(folder).join(program))
        .find(|file| file.is_file())
}

fn head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(MAX_HEAD).read_to_end(&mut head)?;
    Ok(head)
}
