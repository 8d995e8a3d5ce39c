//! Puts the content of objects into an archive, in place of their pointers.
//!
//! ```text
//! archive of git: header, content, header, content, …, zeros
//!                 a regular file of at most MAX_POINTER bytes: is it a pointer to an object that is here?
//!                   yes: the header with the object's size, the object     no: as it is
//! ```
//! All else passes through unchanged. Nothing is held in memory but one piece and one extended header.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;

use super::pointer::{LfsPointer, MAX_POINTER};
use super::store::LfsStore;

/// The size of a block of a tar archive.
const BLOCK: u64 = 512;
/// The size of a read.
const CHUNK: usize = 128 << 10;
/// The longest extended header that is read.
const MAX_EXTENSION: u64 = 1 << 20;

type Archive = BoxStream<'static, io::Result<Bytes>>;

/// Fills the pointers of an archive of git with objects of these stores. A pointer whose object is in none of them stays.
#[must_use]
pub fn fill_pointers(archive: Archive, stores: Vec<LfsStore>) -> Archive {
    let filler = Filler {
        input: StreamReader::new(archive),
        stores,
        next: Following::Header { size: None },
    };
    stream::unfold(Some(filler), |filler| async {
        let mut filler = filler?;
        match filler.piece().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(filler))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Filler {
    input: StreamReader<Archive, Bytes>,
    stores: Vec<LfsStore>,
    next: Following,
}

/// What comes next in the output.
enum Following {
    /// A header, whose size an extended header may have replaced.
    Header { size: Option<u64> },
    /// So many bytes of the archive.
    Archive { left: u64 },
    /// So many bytes of an object, and then zeros.
    Object {
        file: tokio::fs::File,
        left: u64,
        padding: usize,
    },
}

impl Filler {
    /// The next piece of the output, or `None` at the end.
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match &mut self.next {
                Following::Header { size } => {
                    let size = *size;
                    return self.header(size).await;
                }
                Following::Archive { left: 0 } => self.next = Following::Header { size: None },
                Following::Archive { left } => {
                    let piece = read_some(&mut self.input, *left).await?;
                    *left -= piece.len() as u64;
                    return Ok(Some(piece));
                }
                Following::Object {
                    left: 0, padding, ..
                } => {
                    let padding = Bytes::from(vec![0; *padding]);
                    self.next = Following::Header { size: None };
                    if !padding.is_empty() {
                        return Ok(Some(padding));
                    }
                }
                Following::Object { file, left, .. } => {
                    let piece = read_some(file, *left).await?;
                    *left -= piece.len() as u64;
                    return Ok(Some(piece));
                }
            }
        }
    }

    /// Reads a header and decides what follows it.
    async fn header(&mut self, extended_size: Option<u64>) -> io::Result<Option<Bytes>> {
        let mut block = [0; BLOCK as usize];
        if self.input.read(&mut block[..1]).await? == 0 {
            return Ok(None);
        }
        self.input.read_exact(&mut block[1..]).await?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(Some(Bytes::copy_from_slice(&block)));
        }
        let header = tar::Header::from_byte_slice(&block);
        let kind = header.entry_type();
        let size = match extended_size {
            Some(size) if !kind.is_pax_local_extensions() => size,
            _ => header.entry_size()?,
        };
        let padded = size.saturating_add(size.wrapping_neg() % BLOCK);
        if kind.is_pax_local_extensions() && size <= MAX_EXTENSION {
            let content = self.read(padded).await?;
            self.next = Following::Header {
                size: size_in(without_padding(&content, size))?,
            };
            return Ok(Some(joined(&block, &content)));
        }
        if !kind.is_file() || size == 0 || size > MAX_POINTER || extended_size.is_some() {
            self.next = Following::Archive { left: padded };
            return Ok(Some(Bytes::copy_from_slice(&block)));
        }
        let content = self.read(padded).await?;
        self.next = Following::Header { size: None };
        let Some(pointer) = LfsPointer::parse(without_padding(&content, size)) else {
            return Ok(Some(joined(&block, &content)));
        };
        let Some(file) = open(self.stores.clone(), pointer.clone()).await? else {
            return Ok(Some(joined(&block, &content)));
        };
        let mut header = header.clone();
        header.set_size(pointer.size);
        header.set_cksum();
        let padding = pointer.size.wrapping_neg() % BLOCK;
        self.next = Following::Object {
            file,
            left: pointer.size,
            padding: usize::try_from(padding).unwrap_or_default(),
        };
        Ok(Some(Bytes::copy_from_slice(header.as_bytes())))
    }

    async fn read(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.input.read_exact(&mut content).await?;
        Ok(content)
    }
}

/// Opens the object of a pointer, in the first store that has it.
async fn open(stores: Vec<LfsStore>, pointer: LfsPointer) -> io::Result<Option<tokio::fs::File>> {
    let find = move || {
        for store in &stores {
            match store.open(&pointer.oid)? {
                Some((file, size)) if size == pointer.size => return Ok(Some(file)),
                _ => {}
            }
        }
        Ok::<_, io::Error>(None)
    };
    let found = tokio::task::spawn_blocking(find).await;
    let found = found.map_err(io::Error::other)??;
    Ok(found.map(tokio::fs::File::from_std))
}

/// The next bytes of an input that must not end before `left` bytes.
async fn read_some(input: &mut (impl AsyncReadExt + Unpin), left: u64) -> io::Result<Bytes> {
    let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
    let mut piece = BytesMut::zeroed(length);
    let count = input.read(&mut piece).await?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(count);
    Ok(piece.freeze())
}

/// The first `size` bytes of blocks that were read whole.
fn without_padding(content: &[u8], size: u64) -> &[u8] {
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    &content[..length.min(content.len())]
}

fn joined(header: &[u8], content: &[u8]) -> Bytes {
    Bytes::from([header, content].concat())
}

/// The size in the extended header of a file of more than 8 GiB.
fn size_in(extension: &[u8]) -> io::Result<Option<u64>> {
    let mut size = None;
    for record in tar::PaxExtensions::new(extension) {
        let record = record?;
        if record.key_bytes() == b"size" {
            let text = String::from_utf8_lossy(record.value_bytes()).into_owned();
            size = Some(text.parse().map_err(io::Error::other)?);
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// `printf hello | sha256sum`
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn pointer(oid: &str, size: u64) -> String {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
    }

    #[tokio::test]
    async fn pointers_to_objects_that_are_here_are_filled() {
        let folder = tempfile::tempdir().unwrap();
        let store = LfsStore::of(folder.path());
        let mut upload = store.upload(&HELLO.parse().unwrap(), 5).unwrap();
        upload.write(b"hello").unwrap();
        upload.finish().unwrap();
        let here = pointer(HELLO, 5);
        let (absent, wrong) = (pointer(&HELLO.replace('2', "3"), 5), pointer(HELLO, 6));
        let long = format!("{}/pointer", "folder/".repeat(40));
        let large = "x".repeat(300_000);
        let files = [
            ("text", "text\n", "text\n"),
            ("here", here.as_str(), "hello"),
            ("empty", "", ""),
            (long.as_str(), here.as_str(), "hello"),
            ("absent", absent.as_str(), absent.as_str()),
            ("wrong", wrong.as_str(), wrong.as_str()),
            ("large", large.as_str(), large.as_str()),
            ("last", here.as_str(), "hello"),
        ];
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content, _) in files {
            let extension = [("path", name.as_bytes())];
            builder.append_pax_extensions(extension).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_path("short").unwrap();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        for size in [1, 511, 512, 4096, bytes.len()] {
            let chunks: Vec<_> = bytes
                .chunks(size)
                .map(Bytes::copy_from_slice)
                .map(Ok)
                .collect();
            let filled = fill_pointers(stream::iter(chunks).boxed(), vec![store.clone()]);
            let pieces: Vec<io::Result<Bytes>> = filled.collect().await;
            let filled: Vec<u8> = pieces.into_iter().flat_map(Result::unwrap).collect();
            let mut archive = tar::Archive::new(&filled[..]);
            let mut found = Vec::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                assert_eq!(entry.header().mode().unwrap(), 0o755);
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                found.push((name, content));
            }
            let expected = files.map(|(name, _, content)| (name.to_owned(), content.to_owned()));
            assert!(found == expected, "in chunks of {size}");
        }
    }

    #[tokio::test]
    async fn an_archive_that_is_cut_off_is_an_error() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_path("file").unwrap();
        header.set_size(2000);
        header.set_cksum();
        builder.append(&header, &[b'x'; 2000][..]).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(1000);
        let archive = stream::iter([Ok(Bytes::from(bytes))]).boxed();
        let pieces: Vec<_> = fill_pointers(archive, Vec::new()).collect().await;
        assert!(pieces.last().unwrap().is_err());
    }
}
