//! Archives as `.tar.gz`.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::content::ArchiveContent;
use super::writer::{ArchiveWriter, FileEntry};

/// Half of the processor time of the default level, for archives that are about 2 % larger.
pub(super) const COMPRESSION: Compression = Compression::new(4);

/// Who owns the entries, as in the archives of git.
const OWNER: &str = "root";

pub(super) struct TarGzWriter<W: Write> {
    tar: Builder<GzEncoder<W>>,
    seconds: u64,
}

impl<W: Write> TarGzWriter<W> {
    /// Begins an archive with the header by which `git get-tar-commit-id` finds the commit.
    pub(super) fn begin(out: W, content: &ArchiveContent, seconds: i64) -> io::Result<Self> {
        // Neither a name nor a time in the header of gzip, so the bytes depend on the content alone.
        let mut writer = Self {
            tar: Builder::new(GzEncoder::new(out, COMPRESSION)),
            seconds: u64::try_from(seconds).unwrap_or(0),
        };
        let record = comment_record(content.commit.as_str());
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        header.set_path("pax_global_header")?;
        writer.fill(&mut header, 0o644, record.len() as u64)?;
        header.set_cksum();
        writer.tar.append(&header, record.as_bytes())?;
        Ok(writer)
    }

    fn fill(&self, header: &mut Header, mode: u32, size: u64) -> io::Result<()> {
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.seconds);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username(OWNER)?;
        header.set_groupname(OWNER)
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> io::Result<Header> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        self.fill(&mut header, mode, size)?;
        Ok(header)
    }
}

impl<W: Write> ArchiveWriter for TarGzWriter<W> {
    fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, 0o755, 0)?;
        let path = [path, b"/"].concat();
        self.tar
            .append_data(&mut header, as_path(&path), io::empty())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0)?;
        self.tar
            .append_link(&mut header, as_path(path), as_path(target))
    }

    fn file(&mut self, entry: &FileEntry<'_>, content: &mut dyn Read) -> io::Result<()> {
        let mode = if entry.is_executable { 0o755 } else { 0o644 };
        let mut header = self.header(EntryType::Regular, mode, entry.size)?;
        let mut content = content.take(entry.size);
        self.tar
            .append_data(&mut header, as_path(entry.path), &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn finish(self) -> io::Result<()> {
        self.tar.into_inner()?.finish()?.flush()
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A record of a pax header. It begins with its own length, which counts itself.
fn comment_record(text: &str) -> String {
    let rest = format!(" comment={text}\n");
    let mut length = rest.len();
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(
            comment_record(&"a".repeat(40)),
            format!("52 comment={}\n", "a".repeat(40))
        );
        for length in [0, 80, 86, 87, 88, 89, 500] {
            let record = comment_record(&"x".repeat(length));
            let (count, _) = record.split_once(' ').unwrap();
            assert_eq!(count.parse::<usize>().unwrap(), record.len());
        }
    }
}
