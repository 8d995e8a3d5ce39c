//! TREE: unpacks the tree of a commit, as a checkout would.
//!
//! It runs as root and gives what it makes to the user. No symbolic link is followed below the folder: parents are
//! resolved without, and the last part of a name is created or replaced by its parent's descriptor.

use alloc::vec::Vec;

use quire_step::FailureReason;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::umask;

use crate::blocking::write_all;
use crate::owner::Owner;
use crate::report::TaskFailure;
use crate::tar_reader::{TarEntry, TarEntryKind, TarReader};

const FOLDER_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Makes a folder with its parents, each with the mode 0755.
pub(crate) fn make_folders(path: &[u8]) -> Result<(), Errno> {
    let ends = (1..path.len()).filter(|index| path.get(*index) == Some(&b'/'));
    for end in ends.chain([path.len()]) {
        let part = path.get(..end).unwrap_or_default();
        match mkdirat(CWD, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A parent that is there on a read-only file system.
            Err(Errno::ROFS) if rustix::fs::stat(part).is_ok() => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

pub(crate) fn unpack(owner: Owner, folder: &[u8], archive: impl AsFd) -> Result<(), TaskFailure> {
    umask(Mode::empty());
    make_folders(folder).map_err(|errno| TaskFailure::system(errno, folder))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, folder, flags, Mode::empty())
        .map_err(|errno| TaskFailure::system(errno, folder))?;
    let unpacker = Unpacker { root, owner };
    owner
        .take(&unpacker.root)
        .map_err(|errno| TaskFailure::system(errno, folder))?;
    unpacker.unpack_all(&mut TarReader::new(archive))
}

struct Unpacker {
    root: OwnedFd,
    owner: Owner,
}

/// The folder of the last entry: the next is mostly in the same.
struct Parent {
    path: Vec<u8>,
    folder: OwnedFd,
}

impl Unpacker {
    fn unpack_all<F: AsFd>(&self, archive: &mut TarReader<F>) -> Result<(), TaskFailure> {
        let mut parent: Option<Parent> = None;
        while let Some(entry) = archive.next_entry()? {
            let Some((path, name)) = split(&entry.name)? else {
                continue;
            };
            let at = match parent.take().filter(|parent| parent.path == path) {
                Some(parent) => parent,
                None => Parent {
                    folder: self
                        .open_parent(&path)
                        .map_err(|errno| TaskFailure::system(errno, &entry.name))?,
                    path,
                },
            };
            self.unpack_entry(&at.folder, &name, &entry, archive)?;
            parent = Some(at);
        }
        archive.drain()
    }

    fn unpack_entry<F: AsFd>(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &TarEntry,
        archive: &mut TarReader<F>,
    ) -> Result<(), TaskFailure> {
        let system = |errno| match errno {
            Errno::ISDIR => TaskFailure::new(FailureReason::IsFolder, errno, &entry.name),
            errno => TaskFailure::system(errno, &entry.name),
        };
        match entry.kind {
            TarEntryKind::Folder => self.make_folder(parent, name).map_err(system).map(drop),
            TarEntryKind::Symlink => self
                .make_symlink(parent, name, &entry.target)
                .map_err(system),
            TarEntryKind::File => {
                let file = self
                    .make_file(parent, name, entry.is_executable)
                    .map_err(system)?;
                loop {
                    let piece = archive.content()?;
                    if piece.is_empty() {
                        return Ok(());
                    }
                    write_all(&file, piece).map_err(system)?;
                }
            }
            TarEntryKind::Other => Err(TaskFailure::plain(FailureReason::Archive, &entry.name)),
        }
    }

    /// Opens the folder of an entry. An archive need not name every folder.
    fn open_parent(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH
            .union(ResolveFlags::NO_SYMLINKS)
            .union(ResolveFlags::NO_MAGICLINKS);
        match openat2(&self.root, path, FOLDER_FLAGS, Mode::empty(), resolve) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let mut folder = openat(&self.root, ".", FOLDER_FLAGS, Mode::empty())?;
        for part in path.split(|byte| *byte == b'/') {
            folder = self.make_folder(&folder, part)?;
        }
        Ok(folder)
    }

    fn make_folder(&self, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let mode = Mode::from_raw_mode(0o755);
        let open = || openat(parent, name, FOLDER_FLAGS, Mode::empty());
        let folder = match mkdirat(parent, name, mode) {
            Ok(()) => open()?,
            Err(Errno::EXIST) => match open() {
                Ok(folder) => {
                    fchmod(&folder, mode)?;
                    folder
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    unlinkat(parent, name, AtFlags::empty())?;
                    mkdirat(parent, name, mode)?;
                    open()?
                }
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        };
        self.owner.take(&folder)?;
        Ok(folder)
    }

    fn make_symlink(&self, parent: &OwnedFd, name: &[u8], target: &[u8]) -> Result<(), Errno> {
        replacing(parent, name, || symlinkat(target, parent, name))?;
        self.owner.take_at(parent, name)
    }

    fn make_file(&self, parent: &OwnedFd, name: &[u8], executable: bool) -> Result<OwnedFd, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let file = replacing(parent, name, || openat(parent, name, flags, mode))?;
        self.owner.take(&file)?;
        Ok(file)
    }
}

/// Makes something; a file or a symbolic link that is in the way is removed first.
fn replacing<T>(
    parent: &OwnedFd,
    name: &[u8],
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(parent, name, AtFlags::empty())?;
            make()
        }
        result => result,
    }
}

/// The path of the folder and the name in it; `None` for the root of the archive.
#[expect(clippy::type_complexity, reason = "a pair")]
fn split(path: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, TaskFailure> {
    let refused = || TaskFailure::plain(FailureReason::Archive, path);
    if path.starts_with(b"/") || path.contains(&0) {
        return Err(refused());
    }
    let mut parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.contains(&&b".."[..]) {
        return Err(refused());
    }
    let Some(name) = parts.pop() else {
        return Ok(None);
    };
    Ok(Some((parts.join(&b'/'), name.to_vec())))
}
