//! Management commands started as root act as the owner of the data: nothing they make may
//! belong to anybody else, or `serve` and sshd's sessions could not use it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use super::report::Failure;
use crate::paths::Paths;

/// Becomes the owner of the data folder, where this process is root and root is not that owner.
pub(super) fn become_owner(paths: &Paths) -> Result<(), Failure> {
    let data = paths.data();
    let metadata = fs::metadata(data).map_err(|error| {
        Failure::failed(format!(
            "there is no appliance in {}: {error}",
            data.display()
        ))
        .hint("QUIRE_DATA names the folder; `scripts/up` starts an appliance")
    })?;
    if !geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    setgroups(&[group])
        .and_then(|()| setgid(group))
        .and_then(|()| setuid(user))
        .map_err(|error| {
            Failure::failed(format!(
                "cannot become user {user}, who owns {}: {error}",
                data.display()
            ))
        })
}
