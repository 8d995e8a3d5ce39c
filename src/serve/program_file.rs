//! The program itself, which in the container its own user may execute and not read.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::unistd::dup2_stdin;

/// The first bytes of a program.
const ELF: [u8; 4] = *b"\x7fELF";

/// Takes the program from standard input, as which `init` opens it, and leaves an empty one.
pub(super) fn take() -> io::Result<Option<Arc<File>>> {
    let mut program = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let is_program = program.metadata()?.is_file() && begins_as_program(&mut program)?;
    if !is_program {
        return Ok(None);
    }
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(Some(Arc::new(program)))
}

fn begins_as_program(file: &mut File) -> io::Result<bool> {
    let mut first = [0; ELF.len()];
    file.rewind()?;
    match file.read_exact(&mut first) {
        Ok(()) => Ok(first == ELF),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
