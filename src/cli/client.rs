//! `quire client`: writes the program to standard output, so that it can be used on another machine.
//!
//! The image builds it against glibc 2.31, so what decides is whether its relocations are packed, which older systems do not know.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use super::context::Context;
use super::elf_program::ElfProgram;
use super::error::CommandError;
use super::plain_relocations::{PACKED_VERSION, with_plain_relocations};
use quire_server::control::program_client;
use quire_types::text::format_bytes;

pub(super) const EXAMPLES: &str = "\
Example:
  ssh git@host client > quire && chmod +x quire";

/// How a program names the versions of glibc that it needs.
const GLIBC: &str = "GLIBC_2.";
/// The first version of glibc with packed relocations.
const PACKED_SINCE: u32 = 36;

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
    let program = with_plain_relocations(&program).unwrap_or(program);
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
    let needed = ElfProgram::parse(program)?.needed_versions()?;
    let versions = needed.iter().filter_map(|needed| {
        if needed.name == PACKED_VERSION {
            return Some(PACKED_SINCE);
        }
        let version = needed.name.strip_prefix(GLIBC)?;
        version.split('.').next()?.parse().ok()
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_needs_is_read_from_it() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let newest = newest_glibc(&own).unwrap();
        assert!((17..100).contains(&newest), "{newest}");
        let said = sentence(&own);
        assert!(
            said.ends_with(&format!(
                ", for Linux on {ARCH} with glibc 2.{newest} or newer; `chmod +x` makes it executable"
            )),
            "{said}"
        );
        // Parts of a program, and what is none.
        for length in [0, 5, 40, 64, 1000, own.len() / 3] {
            let part = &own[..length];
            let _ = (newest_glibc(part), with_plain_relocations(part));
        }
        assert_eq!(
            sentence(b"static"),
            format!("6 B, for Linux on {ARCH}; `chmod +x` makes it executable")
        );
    }
}
