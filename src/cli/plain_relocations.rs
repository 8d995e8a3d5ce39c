//! The program for systems whose loader does not know packed relocations.
//!
//! The build packs them (build.rs): 10 KB in place of 660 KB, which each start of the program reads. The loader unpacks them from glibc 2.36 on. A program that is sent to
//! another machine has them as plain ones, in a segment at its end:
//!
//! ```text
//! ┌─────────┬──────────────────────────┐          ┌─────────┬──────────────────────────┬─────────────────┐
//! │ headers │ segments, packed table   │    ─►    │ headers │ segments                 │ plain table     │
//! │ … NOTE  │                          │          │ … LOAD ─┼──────────────────────────┼─►               │
//! └─────────┴──────────────────────────┘          └─────────┴──────────────────────────┴─────────────────┘
//! ```
//! The header of the notes, which say nothing that a loader needs, becomes that of the new segment. The sections, which a loader does not read
//! and which would not be right any more, are removed from the header.

use super::elf_program::{ElfProgram, LOADED};

const NOTE: u32 = 4;
/// A segment that may be read.
const READABLE: u32 = 4;
/// Pages are not larger than this on any machine that quire runs on.
const PAGE: u64 = 64 << 10;

const PLAIN: u64 = 7;
const PLAIN_SIZE: u64 = 8;
/// How many relocations at the beginning of the plain ones are relative.
const RELATIVE_COUNT: u64 = 0x6fff_fff9;
const PACKED: u64 = 36;
const PACKED_SIZE: u64 = 35;
const PACKED_ENTRY: u64 = 37;
/// The version of glibc's that only programs with packed relocations need.
pub(super) const PACKED_VERSION: &str = "GLIBC_ABI_DT_RELR";

/// A program with plain relocations in place of packed ones; `None` if it has no packed ones, or is not as expected.
pub(super) fn with_plain_relocations(program: &[u8]) -> Option<Vec<u8>> {
    let elf = ElfProgram::parse(program)?;
    // A relative relocation on x86_64 and on aarch64.
    let kind: u64 = match elf.machine()? {
        62 => 8,
        183 => 1027,
        _ => return None,
    };
    let mut table = Vec::new();
    let addresses = packed_addresses(&elf)?;
    for address in &addresses {
        // The packed form has what is added at the place itself.
        let addend = elf.u64_at(elf.offset_of(*address)?)?;
        for number in [*address, kind, addend] {
            table.extend(number.to_le_bytes());
        }
    }
    let plain = elf.offset_of(elf.value(PLAIN)?)?;
    let plain_size = usize::try_from(elf.value(PLAIN_SIZE)?).ok()?;
    table.extend(program.get(plain..plain.checked_add(plain_size)?)?);

    let mut result = Edited(program.to_vec());
    let at = end_of(&elf)?;
    append_segment(&elf, &mut result, at, &table)?;
    let count = addresses.len() as u64;
    write_dynamic(&elf, &mut result, (at, table.len() as u64), count)?;
    remove_version(&elf, &mut result)?;
    // Where the sections are, how many, and which has their names.
    result.write(0x28, &0_u64.to_le_bytes())?;
    result.write(0x3c, &0_u32.to_le_bytes())?;
    Some(result.0)
}

/// The addresses that packed relocations are for. An even entry is an address; an odd one has a bit for each of the 63 words after the last address.
fn packed_addresses(elf: &ElfProgram<'_>) -> Option<Vec<u64>> {
    const WORD: u64 = 8;
    let from = elf.offset_of(elf.value(PACKED)?)?;
    let size = usize::try_from(elf.value(PACKED_SIZE)?).ok()?;
    let mut addresses = Vec::new();
    let mut next = 0_u64;
    for at in (from..from.checked_add(size)?).step_by(8) {
        let entry = elf.u64_at(at)?;
        if entry & 1 == 0 {
            addresses.push(entry);
            next = entry.checked_add(WORD)?;
            continue;
        }
        for bit in 1..64 {
            if entry >> bit & 1 == 1 {
                addresses.push(next.checked_add((bit - 1) * WORD)?);
            }
        }
        next = next.checked_add(63 * WORD)?;
    }
    Some(addresses)
}

/// The first place that is free in the file as well as in memory.
fn end_of(elf: &ElfProgram<'_>) -> Option<u64> {
    let loaded = elf.segments.iter().filter(|one| one.kind == LOADED);
    let ends = loaded.map(|one| one.address.checked_add(one.memory_size));
    let end = ends.chain([Some(elf.bytes.len() as u64)]).max()??;
    end.checked_next_multiple_of(PAGE)
}

/// Appends a segment, whose header takes the place of the one of the notes.
fn append_segment(
    elf: &ElfProgram<'_>,
    result: &mut Edited,
    at: u64,
    content: &[u8],
) -> Option<()> {
    let last_loaded = elf.segments.iter().rposition(|one| one.kind == LOADED)?;
    // Headers of what is loaded are in the order of their addresses.
    let mut after = elf.segments.iter().skip(last_loaded);
    let header = after.find(|one| one.kind == NOTE)?.header_at;
    result.write(header, &LOADED.to_le_bytes())?;
    result.write(header + 4, &READABLE.to_le_bytes())?;
    let size = content.len() as u64;
    // Offset, address, physical address, size in the file and in memory, alignment.
    for (index, number) in [at, at, at, size, size, PAGE].iter().enumerate() {
        result.write(header + 8 + index * 8, &number.to_le_bytes())?;
    }
    result.0.resize(usize::try_from(at).ok()?, 0);
    result.0.extend_from_slice(content);
    Some(())
}

/// Writes the dynamic section, in which the plain relocations are those of the new table.
fn write_dynamic(
    elf: &ElfProgram<'_>,
    result: &mut Edited,
    (table, size): (u64, u64),
    added: u64,
) -> Option<()> {
    let old_count = elf.value(RELATIVE_COUNT).unwrap_or_default();
    let mut entries: Vec<(u64, u64)> = elf
        .dynamic
        .iter()
        .filter(|(tag, _)| ![PACKED, PACKED_SIZE, PACKED_ENTRY, RELATIVE_COUNT].contains(tag))
        .map(|(tag, value)| match *tag {
            PLAIN => (PLAIN, table),
            PLAIN_SIZE => (PLAIN_SIZE, size),
            tag => (tag, *value),
        })
        .collect();
    entries.push((RELATIVE_COUNT, old_count + added));
    // The rest ends the section.
    entries.resize(elf.dynamic.len(), (0, 0));
    for (index, (tag, value)) in entries.iter().enumerate() {
        let at = elf.dynamic_at + index * 16;
        result.write(at, &tag.to_le_bytes())?;
        result.write(at + 8, &value.to_le_bytes())?;
    }
    Some(())
}

/// Removes the version from those that the program needs, which only packed relocations need.
fn remove_version(elf: &ElfProgram<'_>, result: &mut Edited) -> Option<()> {
    let needed = elf.needed_versions()?;
    let Some(version) = needed.iter().find(|one| one.name == PACKED_VERSION) else {
        return Some(());
    };
    let library = version.library_at;
    let count = elf.u16_at(library + 2)?.checked_sub(1).filter(|n| *n > 0)?;
    result.write(library + 2, &count.to_le_bytes())?;
    let to_next = elf.u32_at(version.at + 12)?;
    match version.before {
        // The distance from one to the next; 0 after the last.
        Some(before) => {
            let distance = match to_next {
                0 => 0,
                to_next => elf.u32_at(before + 12)?.checked_add(to_next)?,
            };
            result.write(before + 12, &distance.to_le_bytes())
        }
        None => {
            let first = elf.u32_at(library + 8)?.checked_add(to_next)?;
            result.write(library + 8, &first.to_le_bytes())
        }
    }
}

/// The bytes of a program that is changed.
struct Edited(Vec<u8>);

impl Edited {
    fn write(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.0
            .get_mut(at..at.checked_add(bytes.len())?)?
            .copy_from_slice(bytes);
        Some(())
    }
}
