//! Giving files to the user of the commands.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, Uid, chownat, fchown, fstat, openat, statat,
};
use rustix::io::Errno;

use crate::report::TaskFailure;

/// The user that files are given to. They are made as root, so nothing has to be done if it is root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    pub(crate) const fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }

    pub(crate) fn take(self, file: impl AsFd) -> Result<(), Errno> {
        if self.is_root() {
            return Ok(());
        }
        fchown(file, self.uid(), self.gid())
    }

    /// Takes the file with this name; a symbolic link itself, not its target.
    pub(crate) fn take_at(self, folder: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        if self.is_root() {
            return Ok(());
        }
        chownat(
            folder,
            name,
            self.uid(),
            self.gid(),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    }

    /// Takes a folder of root with everything in it on the same file system. A folder that belongs to a user stays
    /// as it is: it was taken before.
    pub(crate) fn take_cache(self, path: &[u8]) -> Result<(), TaskFailure> {
        let failure = |errno| TaskFailure::system(errno, path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(failure)?;
        let status = fstat(&root).map_err(failure)?;
        if self.is_root() || status.st_uid != 0 {
            return Ok(());
        }
        let device = status.st_dev;
        // The root is taken last: until then it counts as not taken.
        let mut folders = vec![self.take_children(&root, device).map_err(failure)?];
        let mut open = vec![root];
        while let (Some(names), Some(parent)) = (folders.last_mut(), open.last()) {
            if let Some(name) = names.pop() {
                let flags = flags | OFlags::NOFOLLOW;
                match openat(parent, name.as_slice(), flags, Mode::empty()) {
                    Ok(folder) => {
                        folders.push(self.take_children(&folder, device).map_err(failure)?);
                        open.push(folder);
                    }
                    // Another run can have replaced or removed it.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(errno) => return Err(failure(errno)),
                }
                continue;
            }
            self.take(parent).map_err(failure)?;
            folders.pop();
            open.pop();
        }
        Ok(())
    }

    /// Takes what is directly in a folder, and returns the names of its folders.
    fn take_children(self, folder: &OwnedFd, device: u64) -> Result<Vec<Vec<u8>>, Errno> {
        let mut folders = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            match statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) if status.st_dev != device => {}
                Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Directory => {
                    folders.push(name);
                }
                Ok(_) => self.take_at(folder, &name)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(folders)
    }

    const fn is_root(self) -> bool {
        self.uid == 0 && self.gid == 0
    }

    fn uid(self) -> Option<Uid> {
        Some(Uid::from_raw(self.uid))
    }

    fn gid(self) -> Option<Gid> {
        Some(Gid::from_raw(self.gid))
    }
}
