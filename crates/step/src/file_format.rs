//! What the kernel makes of the first bytes of a program, to say why it cannot be started.

/// The format of a program's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramFormat<'a> {
    /// A script with a `#!` line.
    Script {
        interpreter: &'a [u8],
    },
    /// An ELF file for the machine with this number, and its dynamic linker; empty if it has none.
    Elf {
        machine: u16,
        loader: &'a [u8],
    },
    Unknown,
}

/// The type of the program header that names the dynamic linker.
const PT_INTERP: u64 = 3;

/// Reads the first bytes of a file; 4096 suffice.
#[must_use]
pub fn program_format(first: &[u8]) -> ProgramFormat<'_> {
    if let Some(line) = first.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        return ProgramFormat::Script { interpreter };
    }
    let elf = Elf::new(first);
    match elf.as_ref().and_then(|elf| elf.number(18, 2)) {
        Some(machine) => ProgramFormat::Elf {
            machine: u16::try_from(machine).unwrap_or_default(),
            loader: elf.and_then(|elf| elf.loader()).unwrap_or_default(),
        },
        None => ProgramFormat::Unknown,
    }
}

/// The beginning of an ELF file.
struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
    big_endian: bool,
}

impl<'a> Elf<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (class, order) = match bytes {
            [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] => (*class, *order),
            _ => return None,
        };
        Some(Self {
            bytes,
            wide: class == 2,
            big_endian: order == 2,
        })
    }

    /// The unsigned number of `length` bytes at `at`.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?;
        let shift = |number, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.big_endian {
            bytes.iter().fold(0, shift)
        } else {
            bytes.iter().rev().fold(0, shift)
        })
    }

    fn position(&self, at: usize, length: usize) -> Option<usize> {
        usize::try_from(self.number(at, length)?).ok()
    }

    /// The name in the program header PT_INTERP, up to its NUL.
    fn loader(&self) -> Option<&'a [u8]> {
        let (table, entry, count) = if self.wide {
            (
                self.position(32, 8)?,
                self.position(54, 2)?,
                self.position(56, 2)?,
            )
        } else {
            (
                self.position(28, 4)?,
                self.position(42, 2)?,
                self.position(44, 2)?,
            )
        };
        for index in 0..count {
            let header = table.checked_add(index.checked_mul(entry)?)?;
            if self.number(header, 4)? == PT_INTERP {
                let start = if self.wide {
                    self.position(header.checked_add(8)?, 8)?
                } else {
                    self.position(header.checked_add(4)?, 4)?
                };
                let name = self.bytes.get(start..)?;
                return name.split(|byte| *byte == 0).next();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word_of_the_line() {
        let interpreter = |text: &'static str| match program_format(text.as_bytes()) {
            ProgramFormat::Script { interpreter } => interpreter,
            _ => b"none",
        };
        assert_eq!(interpreter("#!/bin/sh\necho"), b"/bin/sh");
        assert_eq!(interpreter("#! /usr/bin/env bash\r\n"), b"/usr/bin/env");
        assert_eq!(interpreter("#!/bin/sh\r\necho"), b"/bin/sh\r");
        assert_eq!(interpreter("#!/bin/sh"), b"/bin/sh");
        assert_eq!(interpreter("#!\n"), b"");
        assert_eq!(interpreter("echo"), b"none");
    }

    #[test]
    fn machine_and_loader_are_read_in_the_byte_order_of_the_file() {
        let mut file = [0; 256];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 183;
        // One program header of 56 bytes at 64, which names the bytes at 128.
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 3;
        file[72] = 128;
        file[128..138].copy_from_slice(b"/lib/ld.so");
        let elf = |machine, loader| ProgramFormat::Elf { machine, loader };
        assert_eq!(program_format(&file), elf(183, b"/lib/ld.so"));
        assert_eq!(program_format(&file[..100]), elf(183, b""));
        file[5] = 2;
        file[18..20].copy_from_slice(&[0, 22]);
        assert_eq!(program_format(&file), elf(22, b""));
        assert_eq!(program_format(&file[..19]), ProgramFormat::Unknown);
    }
}
