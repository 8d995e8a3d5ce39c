//! What a child tells the supervisor: frames of the protocol, through a pipe.

use alloc::vec::Vec;

use quire_step::{ExitStatus, FailureReason, FromHelper, HelperError, TaskIds};
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// A longer path is cut, so that a report is written at once or not at all.
const MAX_DETAIL: usize = 3000;

/// Why a task failed.
#[derive(Debug)]
pub(crate) struct TaskFailure {
    pub(crate) reason: FailureReason,
    pub(crate) errno: i32,
    pub(crate) detail: Vec<u8>,
}

impl TaskFailure {
    pub(crate) fn new(reason: FailureReason, errno: Errno, detail: &[u8]) -> Self {
        Self {
            reason,
            errno: errno.raw_os_error(),
            detail: detail.to_vec(),
        }
    }

    pub(crate) fn system(errno: Errno, path: &[u8]) -> Self {
        let reason = match errno {
            Errno::AGAIN => FailureReason::NoProcesses,
            _ => FailureReason::System,
        };
        Self::new(reason, errno, path)
    }

    /// A failure without an error of the system.
    pub(crate) fn plain(reason: FailureReason, detail: &[u8]) -> Self {
        Self {
            reason,
            errno: 0,
            detail: detail.to_vec(),
        }
    }
}

/// The end of the pipe in the child.
pub(crate) struct Reporter(OwnedFd);

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self(pipe)
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(crate) fn exited(&self, status: ExitStatus) {
        self.write(&FromHelper::Exited(status));
    }

    pub(crate) fn failed(&self, failure: &TaskFailure) {
        let detail = failure.detail.get(..MAX_DETAIL).unwrap_or(&failure.detail);
        self.write(&FromHelper::Error(HelperError {
            reason: failure.reason,
            errno: failure.errno,
            detail,
        }));
    }

    pub(crate) fn user(&self, ids: TaskIds, home: &[u8]) {
        self.write(&FromHelper::User { ids, home });
    }

    fn write(&self, frame: &FromHelper<'_>) {
        let mut bytes = Vec::new();
        let tail = frame.encode(0, &mut bytes);
        bytes.extend_from_slice(tail);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.0, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // The supervisor is gone, and with it everything.
                Err(_) => return,
            }
        }
    }
}
