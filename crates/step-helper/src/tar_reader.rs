//! Reads a tar archive: ustar with the extensions of pax and GNU that git and GNU tar write.

use alloc::vec;
use alloc::vec::Vec;

use quire_step::FailureReason;
use rustix::fd::AsFd;

use crate::blocking::read;
use crate::report::TaskFailure;

const BLOCK: usize = 512;
const BUFFER: usize = 256 << 10;

/// The longest extension of a header: it holds one name and one target.
const MAX_EXTENSION: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TarEntryKind {
    File,
    Folder,
    Symlink,
    Other,
}

#[derive(Debug)]
pub(crate) struct TarEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: TarEntryKind,
    pub(crate) is_executable: bool,
    /// The target of a symbolic link.
    pub(crate) target: Vec<u8>,
}

/// What extension headers say about the next entry.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

pub(crate) struct TarReader<F> {
    input: F,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The content of the last entry that was not taken, and its padding.
    content: u64,
    padding: u64,
}

impl<F: AsFd> TarReader<F> {
    pub(crate) fn new(input: F) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            content: 0,
            padding: 0,
        }
    }

    /// The next file, folder or link; `None` at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TaskFailure> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(block) = self.block()? else {
                return Ok(None);
            };
            let size = check_header(&block)?;
            let kind = block.get(156).copied().unwrap_or_default();
            let size = match (kind, extensions.size) {
                (b'x' | b'g' | b'L' | b'K', _) | (_, None) => size,
                (_, Some(size)) => size,
            };
            self.content = size;
            self.padding = size.wrapping_neg() % BLOCK as u64;
            match kind {
                b'g' => {}
                b'x' => parse_pax(&self.extension()?, &mut extensions)?,
                b'L' => extensions.name = Some(until_nul(&self.extension()?).to_vec()),
                b'K' => extensions.target = Some(until_nul(&self.extension()?).to_vec()),
                kind => return Ok(Some(entry(&block, kind, extensions))),
            }
        }
    }

    /// The next piece of the content of the last entry; empty at its end.
    pub(crate) fn content(&mut self) -> Result<&[u8], TaskFailure> {
        if self.content == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && !self.fill()? {
            return Err(damaged(b"the archive ends within a file"));
        }
        let there = self.end - self.start;
        let length = usize::try_from(self.content).map_or(there, |content| content.min(there));
        let from = self.start;
        self.start += length;
        self.content -= length as u64;
        Ok(self.buffer.get(from..from + length).unwrap_or_default())
    }

    /// Reads the rest of the archive, so that its writer does not wait.
    pub(crate) fn drain(&mut self) -> Result<(), TaskFailure> {
        self.start = self.end;
        while self.fill()? {
            self.start = self.end;
        }
        Ok(())
    }

    fn skip(&mut self) -> Result<(), TaskFailure> {
        self.content += core::mem::take(&mut self.padding);
        while !self.content()?.is_empty() {}
        Ok(())
    }

    fn extension(&mut self) -> Result<Vec<u8>, TaskFailure> {
        if self.content > MAX_EXTENSION {
            return Err(damaged(b"an extended header is too long"));
        }
        let mut extension = Vec::new();
        loop {
            let piece = self.content()?;
            if piece.is_empty() {
                return Ok(extension);
            }
            extension.extend_from_slice(piece);
        }
    }

    /// The next header; `None` at the end of the archive, which is a block of zeros or the end of the input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TaskFailure> {
        while self.end - self.start < BLOCK {
            if !self.fill()? {
                return match self.start == self.end {
                    true => Ok(None),
                    false => Err(damaged(b"the archive ends within a header")),
                };
            }
        }
        let from = self.start;
        self.start += BLOCK;
        let block = self.buffer.get(from..from + BLOCK);
        let block: Option<[u8; BLOCK]> = block.and_then(|block| block.try_into().ok());
        Ok(block.filter(|block| block.iter().any(|byte| *byte != 0)))
    }

    /// Reads more behind what is there. Returns false at the end of the input.
    fn fill(&mut self) -> Result<bool, TaskFailure> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = read(&self.input, room).map_err(|errno| TaskFailure::system(errno, b""))?;
        self.end += count;
        Ok(count > 0)
    }
}

fn damaged(problem: &[u8]) -> TaskFailure {
    TaskFailure::plain(FailureReason::Archive, problem)
}

fn field(block: &[u8; BLOCK], from: usize, length: usize) -> &[u8] {
    block.get(from..from + length).unwrap_or_default()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Checks the sum of a header and returns the size in it.
fn check_header(block: &[u8; BLOCK]) -> Result<u64, TaskFailure> {
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field(block, 148, 8)
        .iter()
        .map(|byte| u64::from(*byte))
        .sum();
    // The sum is that of the header with spaces in place of the sum.
    if number(field(block, 148, 8)) != Some(sum - own + 8 * u64::from(b' ')) {
        return Err(damaged(b"a header has a wrong checksum"));
    }
    number(field(block, 124, 12)).ok_or_else(|| damaged(b"a header has no size"))
}

/// A number in octal digits, or in binary if its first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256)? | u64::from(*byte);
        }
        return Some(value);
    }
    let digits = until_nul(field).trim_ascii();
    let mut value: u64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)? | u64::from(digit - b'0');
    }
    Some(value)
}

fn entry(block: &[u8; BLOCK], kind: u8, extensions: Extensions) -> TarEntry {
    let name = extensions.name.unwrap_or_else(|| {
        let name = until_nul(field(block, 0, 100));
        let prefix = until_nul(field(block, 345, 155));
        // Only ustar has a prefix; GNU's own format, which ends its magic with spaces, has other
        // fields there.
        if field(block, 257, 6) == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    });
    let mode = number(field(block, 100, 8)).unwrap_or_default();
    TarEntry {
        kind: match kind {
            // The oldest archives mark a folder by its name.
            b'0' | 0 if name.ends_with(b"/") => TarEntryKind::Folder,
            b'0' | 0 | b'7' => TarEntryKind::File,
            b'2' => TarEntryKind::Symlink,
            b'5' => TarEntryKind::Folder,
            _ => TarEntryKind::Other,
        },
        name,
        is_executable: mode & 0o100 != 0,
        target: extensions
            .target
            .unwrap_or_else(|| until_nul(field(block, 157, 100)).to_vec()),
    }
}

/// Records of the form `LENGTH KEY=VALUE\n`, where the length counts the whole record.
fn parse_pax(mut records: &[u8], extensions: &mut Extensions) -> Result<(), TaskFailure> {
    let problem = || damaged(b"an extended header is damaged");
    while !records.is_empty() {
        let digits = records
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let length: usize = records
            .get(..digits)
            .and_then(|digits| core::str::from_utf8(digits).ok()?.parse().ok())
            .ok_or_else(problem)?;
        let (record, rest) = records.split_at_checked(length).ok_or_else(problem)?;
        let record = record
            .get(digits..)
            .and_then(|record| record.strip_prefix(b" ")?.strip_suffix(b"\n"))
            .ok_or_else(problem)?;
        if let Some(name) = record.strip_prefix(b"path=") {
            extensions.name = Some(name.to_vec());
        } else if let Some(target) = record.strip_prefix(b"linkpath=") {
            extensions.target = Some(target.to_vec());
        } else if let Some(size) = record.strip_prefix(b"size=") {
            let size = core::str::from_utf8(size)
                .ok()
                .and_then(|size| size.parse().ok());
            extensions.size = Some(size.ok_or_else(problem)?);
        }
        records = rest;
    }
    Ok(())
}
