//! `quire client`: writes the program to standard output, so that it can be used on another machine.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use memchr::memmem;

use super::context::Context;
use super::error::CommandError;
use quire_server::control::program_client;
use quire_types::text::format_bytes;

pub(super) const EXAMPLES: &str = "\
Example:
  ssh git@host client > quire && chmod +x quire";

/// How a program names the versions of glibc that it needs.
const GLIBC: &[u8] = b"GLIBC_2.";

/// Writes the program to standard output, and what it needs to standard error.
pub(super) fn client(context: &Context<'_>) -> Result<(), CommandError> {
    let mut stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(CommandError::usage(
            "the program is written to standard output, which is a terminal",
        )
        .hint("write it to a file: `ssh git@host client > quire`"));
    }
    let program = match read_own() {
        Ok(program) => program,
        // In the container only the server has it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            program_client::fetch(context.paths).map_err(|error| {
                CommandError::failed(format!("the program cannot be read: {error}"))
            })?
        }
        Err(error) => {
            return Err(CommandError::failed(format!(
                "the program cannot be read: {error}"
            )));
        }
    };
    stdout.write_all(&program)?;
    stdout.flush()?;
    let text = format!("quire: {}\n", sentence(&program));
    Ok(io::stderr().write_all(text.as_bytes())?)
}

fn read_own() -> io::Result<Vec<u8>> {
    let mut program = Vec::new();
    File::open(std::env::current_exe()?)?.read_to_end(&mut program)?;
    Ok(program)
}

fn sentence(program: &[u8]) -> String {
    let needs = newest_glibc(program).map_or_else(String::new, |version| {
        format!(" with glibc 2.{version} or newer")
    });
    let size = format_bytes(program.len() as u64);
    format!("{size}, for Linux on {ARCH}{needs}; `chmod +x` makes it executable")
}

/// The newest version of glibc 2 that a program asks for; `None` if it asks for none.
fn newest_glibc(program: &[u8]) -> Option<u32> {
    let versions = memmem::find_iter(program, GLIBC).filter_map(|at| {
        let digits = program[at + GLIBC.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(3);
        let digits: String = digits.map(|byte| char::from(*byte)).collect();
        digits.parse().ok()
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_needs_is_read_from_it() {
        let program = b"\x7fELF..\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_2.\0";
        assert_eq!(newest_glibc(program), Some(34));
        assert_eq!(newest_glibc(b"static"), None);
        assert_eq!(
            sentence(b"static"),
            format!("6 B, for Linux on {ARCH}; `chmod +x` makes it executable")
        );
    }
}
