//! WHO: a user of the image, and a home folder that the user can write to.

use alloc::format;
use alloc::vec::Vec;

use quire_step::TaskIds;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, accessat, chownat, fstat, mkdirat,
    statat,
};
use rustix::process::umask;

use crate::accounts::resolve;
use crate::identity;
use crate::report::{Reporter, TaskFailure};
use crate::tree::make_folders;

/// What is read of a passwd or group file at most.
const MAX_FILE: usize = 1 << 20;

/// Where a home folder is made if the user has none; others can write there, too.
const SHARED_FOLDERS: [&str; 2] = ["/tmp", "/dev/shm"];

pub(crate) fn who(user: &[u8], reporter: &Reporter) -> Result<(), TaskFailure> {
    let account = resolve(user, &read("/etc/passwd"), &read("/etc/group"))?;
    let ids = account.ids.clone();
    // An image from nothing has none. The sticky bit and the permissions of all are meant as they are.
    umask(Mode::empty());
    let _ = mkdirat(CWD, "/tmp", Mode::from_raw_mode(0o1777));
    if let Some(home) = &account.home {
        make_home(home, &ids);
    }
    identity::take(&ids).map_err(|errno| TaskFailure::system(errno, user))?;
    let home = account
        .home
        .filter(|home| is_writable(home))
        .or_else(|| {
            SHARED_FOLDERS
                .iter()
                .find_map(|folder| shared_home(folder, ids.uid))
        })
        .unwrap_or_else(|| b"/".to_vec());
    reporter.user(ids, &home);
    Ok(())
}

/// Makes the home folder of the passwd file. Debian names one that must not exist for users without.
fn make_home(home: &[u8], ids: &TaskIds) {
    if home.starts_with(b"/nonexistent") || statat(CWD, home, AtFlags::empty()).is_ok() {
        return;
    }
    if make_folders(home).is_ok() {
        let owner = (Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)));
        let _ = chownat(CWD, home, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW);
    }
}

fn is_writable(folder: &[u8]) -> bool {
    let is_folder = statat(CWD, folder, AtFlags::empty())
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory);
    is_folder
        && accessat(
            CWD,
            folder,
            Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::empty(),
        )
        .is_ok()
}

/// A folder of the user's own, made or found.
fn shared_home(folder: &str, uid: u32) -> Option<Vec<u8>> {
    let path = format!("{folder}/home-{uid}");
    let _ = mkdirat(CWD, path.as_str(), Mode::from_raw_mode(0o700));
    let status = statat(CWD, path.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_own =
        FileType::from_raw_mode(status.st_mode) == FileType::Directory && status.st_uid == uid;
    (is_own && is_writable(path.as_bytes())).then(|| path.into_bytes())
}

/// The content of a file; empty if there is no such regular file.
fn read(path: &str) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else {
        return Vec::new();
    };
    let is_file = fstat(&file)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile);
    let mut content = Vec::new();
    let mut buffer = [0; 4096];
    while is_file && content.len() < MAX_FILE {
        match rustix::io::read(&file, &mut buffer) {
            Ok(count) if count > 0 => {
                content.extend_from_slice(buffer.get(..count).unwrap_or_default());
            }
            _ => break,
        }
    }
    content
}
