//! Keeps the memory of a process, which may hold secrets, from other processes of the same user and from files.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Makes this process one that no other process of its user can trace, or read the memory and environment of, and that leaves
/// no core file. Programs that it executes inherit the limit of core files only, and can raise it again.
///
/// # Errors
/// No kernel that runs this program fails with one.
pub fn protect_memory() -> nix::Result<()> {
    set_dumpable(false)?;
    // A kernel whose `fs.suid_dumpable` is not 0 writes core files of such processes too.
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)
}
