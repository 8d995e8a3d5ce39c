//! Why a step of a landing could not be made. It is made again.

use quire_git::GitError;
use quire_runtime::blocking::BlockingInterrupted;
use quire_store::StoreError;
use quire_types::names::NameError;

use crate::intake::{IntakeError, SpoolError};

#[derive(Debug, thiserror::Error)]
pub(super) enum LandingError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error("the event of a move cannot be written")]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
    /// The ref of a commit that was made of another.
    #[error(transparent)]
    Name(#[from] NameError),
}
