//! Why something could not be read.

use std::path::PathBuf;

use quire_types::names::{NameError, ObjectId};

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No ref and no commit is called so.
    #[error("there is no such revision")]
    NoRevision,
    /// A short id that several commits begin with.
    #[error("several commits begin with {prefix}")]
    Ambiguous {
        /// The digits.
        prefix: String,
        /// The commits, at most 100.
        candidates: Vec<ObjectId>,
    },
    /// There is nothing at this path.
    #[error("there is no such path in the revision")]
    NoPath,
    /// An object is larger than the budget.
    #[error("the object has {bytes} bytes, which is more than is read")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The time was over before there was an answer.
    #[error("the repository could not be read in the time allowed")]
    OutOfTime,
    /// All threads were busy for too long.
    #[error("the reading threads are busy")]
    Busy,
    /// The repository is not there or cannot be opened.
    #[error("cannot open the repository {}", .path.display())]
    Open {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: gix::Error,
    },
    /// Something in the repository cannot be read.
    #[error("cannot {attempt}")]
    Damaged {
        /// What was attempted.
        attempt: &'static str,
        /// Why not.
        #[source]
        source: gix::Error,
    },
    /// An object id that is none.
    #[error("an object of the repository names a bad id")]
    Id(#[from] NameError),
    /// The call panicked.
    #[error("reading the repository ended with a panic")]
    Panicked,
}

impl ReadError {
    /// Makes an error of something that could not be read.
    pub(super) fn damaged(attempt: &'static str) -> impl FnOnce(gix::Error) -> Self {
        move |source| Self::Damaged { attempt, source }
    }

    /// Whether the address is at fault, and not the repository or the machine.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoRevision | Self::NoPath)
    }
}
