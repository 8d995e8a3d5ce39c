//! Writes a tar archive of a file, or of a folder with everything in it: ustar, with pax headers
//! where a value does not fit.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::blocking::{read, write_all};
use crate::report::TaskFailure;

const BLOCK: usize = 512;
const BUFFER: usize = 64 << 10;

/// The largest size that eleven octal digits hold.
const MAX_SIZE: u64 = (1 << 33) - 1;

/// Deeper folders are an error instead of more and more open files.
const MAX_DEPTH: usize = 512;

pub(crate) struct TarWriter<'a> {
    output: &'a OwnedFd,
    buffer: Vec<u8>,
    depth: usize,
}

/// What a header says.
struct Member<'a> {
    name: &'a [u8],
    kind: u8,
    target: &'a [u8],
    size: u64,
    status: &'a Stat,
}

impl<'a> TarWriter<'a> {
    pub(crate) fn new(output: &'a OwnedFd) -> Self {
        Self {
            output,
            buffer: vec![0; BUFFER],
            depth: 0,
        }
    }

    /// Adds an open file, with everything in it if it is a folder.
    pub(crate) fn add(
        &mut self,
        name: &[u8],
        file: &OwnedFd,
        status: &Stat,
    ) -> Result<(), TaskFailure> {
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => self.add_file(name, file, status),
            FileType::Directory => self.add_folder(name, file, status),
            kind => self.add_special(name, kind, status),
        }
    }

    /// Two blocks of zeros end an archive.
    pub(crate) fn finish(self) -> Result<(), TaskFailure> {
        self.write(&[0; 2 * BLOCK])
    }

    fn add_file(&mut self, name: &[u8], file: &OwnedFd, status: &Stat) -> Result<(), TaskFailure> {
        let size = u64::try_from(status.st_size).unwrap_or_default();
        self.header(&Member {
            name,
            kind: b'0',
            target: b"",
            size,
            status,
        })?;
        let mut rest = size;
        while rest > 0 {
            let wanted = usize::try_from(rest).map_or(BUFFER, |rest| rest.min(BUFFER));
            let room = self.buffer.get_mut(..wanted).unwrap_or_default();
            let count = match read(file, room) {
                Ok(0) => {
                    // The file has become shorter: the header has its old size.
                    room.fill(0);
                    wanted
                }
                Ok(count) => count,
                Err(errno) => return Err(TaskFailure::system(errno, name)),
            };
            self.write(self.buffer.get(..count).unwrap_or_default())?;
            rest -= count as u64;
        }
        self.pad(size)
    }

    fn add_folder(
        &mut self,
        name: &[u8],
        folder: &OwnedFd,
        status: &Stat,
    ) -> Result<(), TaskFailure> {
        let failure = |errno| TaskFailure::system(errno, name);
        if self.depth == MAX_DEPTH {
            return Err(failure(Errno::NAMETOOLONG));
        }
        self.header(&Member {
            name: &[name, b"/"].concat(),
            kind: b'5',
            target: b"",
            size: 0,
            status,
        })?;
        self.depth += 1;
        for child in names_in(folder).map_err(failure)? {
            let path = [name, b"/", &child].concat();
            self.add_child(&path, folder, &child)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn add_child(&mut self, path: &[u8], folder: &OwnedFd, name: &[u8]) -> Result<(), TaskFailure> {
        let failure = |errno| TaskFailure::system(errno, path);
        let status = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It was removed since the folder was read.
            Err(Errno::NOENT) => return Ok(()),
            result => result.map_err(failure)?,
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(failure)?;
                self.header(&Member {
                    name: path,
                    kind: b'2',
                    target: target.to_bytes(),
                    size: 0,
                    status: &status,
                })
            }
            FileType::RegularFile | FileType::Directory => {
                let flags = OFlags::RDONLY
                    | OFlags::NOFOLLOW
                    | OFlags::NONBLOCK
                    | OFlags::NOCTTY
                    | OFlags::CLOEXEC;
                let file = openat(folder, name, flags, Mode::empty()).map_err(failure)?;
                // What was opened counts: it may have been replaced.
                let status = fstat(&file).map_err(failure)?;
                self.add(path, &file, &status)
            }
            kind => self.add_special(path, kind, &status),
        }
    }

    /// A pipe or a device is only named, so that the reader can say that it is none to keep. A socket has no
    /// form in an archive.
    fn add_special(&self, name: &[u8], kind: FileType, status: &Stat) -> Result<(), TaskFailure> {
        let kind = match kind {
            FileType::Fifo => b'6',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            _ => return Ok(()),
        };
        self.header(&Member {
            name,
            kind,
            target: b"",
            size: 0,
            status,
        })
    }

    fn header(&self, member: &Member<'_>) -> Result<(), TaskFailure> {
        let mut records = Vec::new();
        if member.name.len() > 100 {
            record(&mut records, "path", member.name);
        }
        if member.target.len() > 100 {
            record(&mut records, "linkpath", member.target);
        }
        if member.size > MAX_SIZE {
            record(&mut records, "size", format!("{}", member.size).as_bytes());
        }
        if !records.is_empty() {
            let extension = Member {
                name: b"pax",
                kind: b'x',
                target: b"",
                size: records.len() as u64,
                status: member.status,
            };
            self.write(&block(&extension))?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(&block(member))
    }

    fn pad(&self, size: u64) -> Result<(), TaskFailure> {
        let length = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or_default();
        self.write([0; BLOCK].get(..length).unwrap_or_default())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), TaskFailure> {
        write_all(self.output, bytes).map_err(|errno| TaskFailure::system(errno, b""))
    }
}

/// The names in a folder, sorted.
fn names_in(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `LENGTH KEY=VALUE\n`, where the length counts the whole record with its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| format!("{length}").len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn block(member: &Member<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    let octal = |value: u64, digits: usize| -> String { format!("{value:0digits$o}") };
    let status = member.status;
    put(0, member.name.get(..100).unwrap_or(member.name));
    put(100, octal(u64::from(status.st_mode & 0o7777), 7).as_bytes());
    put(
        108,
        octal(u64::from(status.st_uid).min(0o777_7777), 7).as_bytes(),
    );
    put(
        116,
        octal(u64::from(status.st_gid).min(0o777_7777), 7).as_bytes(),
    );
    put(
        124,
        octal(
            if member.size > MAX_SIZE {
                0
            } else {
                member.size
            },
            11,
        )
        .as_bytes(),
    );
    let time = u64::try_from(status.st_mtime).unwrap_or_default();
    put(136, octal(time.min(MAX_SIZE), 11).as_bytes());
    put(148, b"        ");
    put(156, &[member.kind]);
    put(157, member.target.get(..100).unwrap_or(member.target));
    put(257, b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    for (to, from) in block
        .iter_mut()
        .skip(148)
        .zip(octal(sum, 6).bytes().chain([0, b' ']))
    {
        *to = from;
    }
    block
}
