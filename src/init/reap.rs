//! Collects every process that ended below `init`, its own children and adopted ones alike.

use nix::errno::Errno;
use nix::libc;

use super::status::Exit;

/// Ends collected in one round, so that a flood of them keeps nothing else waiting.
const ROUND: usize = 4096;

/// What is left after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// More have ended than one round takes.
    More,
    /// There are children, none of which has ended.
    Alive,
    /// There is no child at all.
    None,
}

/// Collects ended processes and tells each one's end.
pub(super) fn round(mut ended: impl FnMut(i32, Exit)) -> Remaining {
    for _ in 0..ROUND {
        match next(-1) {
            Ok(Some((pid, exit))) => ended(pid, exit),
            Ok(None) => return Remaining::Alive,
            Err(Errno::EINTR) => {}
            Err(_) => return Remaining::None,
        }
    }
    Remaining::More
}

/// Collects one process (`-1`: any) if it has ended. `ECHILD` says that there is none.
///
/// nix's own `waitpid` cannot be used: it answers a death by a real-time signal with an error,
/// after the kernel has already let go of the process.
pub(super) fn next(pid: i32) -> Result<Option<(i32, Exit)>, Errno> {
    let mut status = 0;
    #[expect(unsafe_code, reason = "see above")]
    // SAFETY: `status` is a valid place for the one int that the call writes.
    let found = Errno::result(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) })?;
    if found == 0 {
        return Ok(None);
    }
    // Without WUNTRACED and WCONTINUED there are just these two.
    let exit = if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    Ok(Some((found, exit)))
}
