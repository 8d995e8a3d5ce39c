//! What a session answers: text, or why a request failed.

use std::io;

use quire_git::lfs::{LockError, UploadError};
use quire_types::error_chain;

use super::request::RequestError;

/// An answer of text.
pub(super) struct LfsAnswer {
    pub(super) status: u16,
    pub(super) arguments: Vec<String>,
    pub(super) lines: Vec<String>,
}

impl LfsAnswer {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            arguments: Vec::new(),
            lines: Vec::new(),
        }
    }
}

/// Why a request failed: a status of HTTP and a sentence.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn unreadable(error: &io::Error) -> Self {
        Self::new(500, format!("the stored objects cannot be read: {error}"))
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let status = match error {
            RequestError::UnknownCommand(_) => 404,
            RequestError::TooLong | RequestError::TooManyObjects => 413,
            RequestError::NotText | RequestError::Argument(..) | RequestError::Oid(_) => 400,
        };
        Self::new(status, error.to_string())
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        match &error {
            UploadError::Size { .. } | UploadError::Oid { .. } => {
                Self::new(422, format!("{error}; nothing was stored"))
            }
            UploadError::DiskFull => Self::new(507, format!("{error}; nothing was stored")),
            UploadError::Io(_) | UploadError::Replaced => {
                Self::new(500, error_chain::chain(&error))
            }
        }
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        let status = match error {
            LockError::Conflict(_) => 409,
            LockError::NotFound => 404,
            LockError::TooMany => 413,
            LockError::Io(_) => 500,
        };
        Self::new(status, error_chain::chain(&error))
    }
}
