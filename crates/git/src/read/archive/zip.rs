//! Archives as `.zip`, written from the beginning to the end.
//!
//! The directory of a zip file stands at its end. Its records are compressed in memory until then, so that the memory for a
//! large tree is a few bytes for each entry.

use std::io::{self, Read, Write};

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compress, Crc, FlushCompress, Status};

use super::content::ArchiveContent;
use super::tar_gz::COMPRESSION;
use super::writer::{ArchiveWriter, FileEntry};
use super::zip_records::{Directory, EntryEnd, EntryHead, EntryTime, Packing};

const CHUNK: usize = 32 << 10;
const FOLDER_MODE: u32 = 0o040_755;
const LINK_MODE: u32 = 0o120_777;
const FILE_MODE: u32 = 0o100_644;
const PROGRAM_MODE: u32 = 0o100_755;

pub(super) struct ZipWriter<W: Write> {
    out: W,
    /// Bytes written so far.
    position: u64,
    deflate: Compress,
    at: EntryTime,
    directory: DeflateEncoder<Vec<u8>>,
    directory_size: u64,
    entries: u64,
    /// The commit, where git writes it as well.
    comment: String,
}

impl<W: Write> ZipWriter<W> {
    pub(super) fn new(out: W, content: &ArchiveContent, seconds: i64) -> Self {
        Self {
            out,
            position: 0,
            deflate: Compress::new(COMPRESSION, false),
            at: EntryTime::of(seconds),
            directory: DeflateEncoder::new(Vec::new(), COMPRESSION),
            directory_size: 0,
            entries: 0,
            comment: content.commit.to_string(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes an entry that is not compressed.
    fn store(&mut self, name: &[u8], mode: u32, content: &[u8]) -> io::Result<()> {
        let head = self.head(name, mode, Packing::Stored, content.len() as u64)?;
        let mut crc = Crc::new();
        crc.update(content);
        let end = EntryEnd {
            crc: crc.sum(),
            packed: head.size,
        };
        let record = head.local_record(self.at, Some(end));
        self.put(&record)?;
        self.put(content)?;
        self.list(&head, end)
    }

    fn head<'a>(
        &self,
        name: &'a [u8],
        mode: u32,
        packing: Packing,
        size: u64,
    ) -> io::Result<EntryHead<'a>> {
        if name.len() > usize::from(u16::MAX) {
            let message = "a path is longer than a zip file can hold";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(EntryHead {
            name,
            mode,
            packing,
            size,
            offset: self.position,
        })
    }

    fn list(&mut self, head: &EntryHead<'_>, end: EntryEnd) -> io::Result<()> {
        let record = head.directory_record(self.at, end);
        self.directory_size += record.len() as u64;
        self.entries += 1;
        self.directory.write_all(&record)
    }

    /// Compresses content of a known size, and returns what the records after it say.
    fn deflate(&mut self, content: &mut dyn Read, size: u64) -> io::Result<EntryEnd> {
        let mut crc = Crc::new();
        let (mut input, mut output) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (begin, mut read) = (self.position, 0);
        self.deflate.reset();
        loop {
            let count = content.read(&mut input)?;
            crc.update(&input[..count]);
            read += count as u64;
            let flush = if count == 0 {
                FlushCompress::Finish
            } else {
                FlushCompress::None
            };
            self.compress(&input[..count], &mut output, flush)?;
            if count == 0 {
                break;
            }
        }
        if read != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(EntryEnd {
            crc: crc.sum(),
            packed: self.position - begin,
        })
    }

    fn compress(
        &mut self,
        mut input: &[u8],
        output: &mut [u8],
        flush: FlushCompress,
    ) -> io::Result<()> {
        loop {
            let before = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(input, output, flush)?;
            let taken = usize::try_from(self.deflate.total_in() - before.0).unwrap_or(0);
            let made = usize::try_from(self.deflate.total_out() - before.1).unwrap_or(0);
            self.put(&output[..made])?;
            input = &input[taken..];
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty() && made < output.len(),
            };
            if is_done {
                return Ok(());
            }
        }
    }
}

impl<W: Write> ArchiveWriter for ZipWriter<W> {
    fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        self.store(&[path, b"/"].concat(), FOLDER_MODE, b"")
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.store(path, LINK_MODE, target)
    }

    fn file(&mut self, entry: &FileEntry<'_>, content: &mut dyn Read) -> io::Result<()> {
        let mode = if entry.is_executable {
            PROGRAM_MODE
        } else {
            FILE_MODE
        };
        if entry.size == 0 {
            return self.store(entry.path, mode, b"");
        }
        let head = self.head(entry.path, mode, Packing::Deflated, entry.size)?;
        let record = head.local_record(self.at, None);
        self.put(&record)?;
        let end = self.deflate(content, entry.size)?;
        self.put(&head.sizes_record(end))?;
        self.list(&head, end)
    }

    fn finish(mut self) -> io::Result<()> {
        let offset = self.position;
        let records = self.directory.finish()?;
        io::copy(&mut DeflateDecoder::new(records.as_slice()), &mut self.out)?;
        let directory = Directory {
            entries: self.entries,
            offset,
            size: self.directory_size,
            comment: self.comment.as_bytes(),
        };
        self.out.write_all(&directory.end_records())?;
        self.out.flush()
    }
}
