//! Management commands that root starts run as the owner of the data folder. Files that belonged to root
//! could not be used by the server and by SSH sessions.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use super::error::CommandError;
use quire_types::paths::Paths;

/// Sets the lowest priority for this process and its children.
pub(super) fn lower_priority() {
    // Without it the work takes the same time from others, which is no reason to fail.
    let _ = rustix::process::nice(19);
}

/// Switches to the owner of the data folder if this process is root and root is not the owner.
pub(super) fn drop_to_data_owner(paths: &Paths) -> Result<(), CommandError> {
    let data = paths.data();
    let metadata = fs::metadata(data).map_err(|error| {
        CommandError::failed(format!(
            "there is no appliance in {}: {error}",
            data.display()
        ))
        .hint("set QUIRE_DATA to its folder; `scripts/up` starts an appliance")
    })?;
    if !geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    setgroups(&[group])
        .and_then(|()| setgid(group))
        .and_then(|()| setuid(user))
        .map_err(|error| {
            CommandError::failed(format!(
                "cannot become user {user}, who owns {}: {error}",
                data.display()
            ))
        })
}
