//! Reaps every process that ended below `init`: its own children and adopted orphans alike.

use nix::errno::Errno;
use nix::libc;

use quire_types::init_status::ChildExit;

/// How many processes are reaped at once, so that a flood of them cannot block everything else.
const MAX_PER_CALL: usize = 4096;

/// What is left after [`reap_ended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReapResult {
    /// More processes may have ended than one call reaps.
    More,
    /// There are children, and none of them has ended.
    ChildrenAlive,
    NoChildren,
}

/// Reaps ended processes and calls `ended` for each.
pub(super) fn reap_ended(mut ended: impl FnMut(i32, ChildExit)) -> ReapResult {
    for _ in 0..MAX_PER_CALL {
        match try_wait(-1) {
            Ok(Some((pid, exit))) => ended(pid, exit),
            Ok(None) => return ReapResult::ChildrenAlive,
            Err(Errno::EINTR) => {}
            Err(_) => return ReapResult::NoChildren,
        }
    }
    ReapResult::More
}

/// For tests: reaps only these processes and leaves all others as zombies.
pub(super) fn reap_only(
    pids: [Option<i32>; 2],
    mut ended: impl FnMut(i32, ChildExit),
) -> ReapResult {
    let mut result = ReapResult::NoChildren;
    for pid in pids.into_iter().flatten() {
        match try_wait(pid) {
            Ok(Some((pid, exit))) => ended(pid, exit),
            Ok(None) | Err(_) => result = ReapResult::ChildrenAlive,
        }
    }
    result
}

/// Reaps one process (`-1` for any) if it has ended. Fails with `ECHILD` if there is no child.
///
/// nix's own `waitpid` cannot be used: it returns an error for a process that was killed by a
/// real-time signal, after the kernel has already released that process.
pub(super) fn try_wait(pid: i32) -> Result<Option<(i32, ChildExit)>, Errno> {
    let mut status = 0;
    #[expect(unsafe_code, reason = "see above")]
    // SAFETY: `status` is a valid place for the one int that the call writes.
    let found = Errno::result(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) })?;
    if found == 0 {
        return Ok(None);
    }
    // Without WUNTRACED and WCONTINUED there are only these two.
    let exit = if libc::WIFEXITED(status) {
        ChildExit::Code(libc::WEXITSTATUS(status))
    } else {
        ChildExit::Signal(libc::WTERMSIG(status))
    };
    Ok(Some((found, exit)))
}
