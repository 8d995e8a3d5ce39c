//! The user of the appliance, where the test is root and can have one.

use std::fs;
use std::path::Path;

use nix::unistd::geteuid;

/// Its user and group id.
pub const GIT_UID: u32 = 64_123;

/// What starts a program as that user.
pub(crate) const UNPRIVILEGED: [&str; 4] = [
    "setpriv",
    "--reuid=64123",
    "--regid=64123",
    "--clear-groups",
];

/// Gives everything below a path to the user `git`, where there is one.
pub fn own(path: &Path) {
    if !geteuid().is_root() {
        return;
    }
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path)
            .unwrap()
            .for_each(|entry| own(&entry.unwrap().path()));
    }
    std::os::unix::fs::lchown(path, Some(GIT_UID), Some(GIT_UID)).unwrap();
}
