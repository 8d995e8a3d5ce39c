//! Acting with the rights of another user for a moment.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setegid, seteuid};

use super::accounts::Account;
use super::error::InitError;

/// Runs `action` with the effective user and group of `account`. On a file system that maps root
/// to an unprivileged user (NFS with root_squash), only that account can read and write.
pub(super) fn as_user<T>(account: &Account, action: impl FnOnce() -> T) -> Result<T, InitError> {
    if !Uid::effective().is_root() || account.uid == 0 {
        return Ok(action());
    }
    let failed = InitError::system::<Errno>;
    setegid(Gid::from_raw(account.gid)).map_err(failed("change to the user's group"))?;
    let changed = seteuid(Uid::from_raw(account.uid));
    let result = changed.map(|()| action());
    // Root again in any case, before the result is looked at.
    seteuid(Uid::from_raw(0)).map_err(failed("change back to root"))?;
    setegid(Gid::from_raw(0)).map_err(failed("change back to root"))?;
    result.map_err(failed("change to the user"))
}
