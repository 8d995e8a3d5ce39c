//! How a mirror is, and why it fails.

use std::str::FromStr;

/// The state of a mirror in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorWord {
    /// The remote was equal when it was compared last, and nothing is known that differs.
    InSync,
    /// Something has to be pushed, or the remote was not compared yet.
    Waiting,
    /// The last attempt failed.
    Failing,
}

impl MirrorWord {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::InSync => "in sync",
            _ => self.as_str(),
        }
    }
}

/// What kept a remote from being made equal to its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorFailureKind {
    /// The configuration, or a secret that it names.
    Settings,
    /// The address cannot be found, is not permitted, or does not answer.
    Connection,
    /// The other side has another host key than the one that is known.
    HostKey,
    /// The other side does not accept the token or the key, or has no such repository for them.
    Access,
    /// The other side does not accept some refs.
    Rejected,
    /// Objects of Git LFS could not be transferred. The refs were.
    Lfs,
    /// The repository here cannot be read.
    Repository,
}

impl MirrorFailureKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Settings,
        Self::Connection,
        Self::HostKey,
        Self::Access,
        Self::Rejected,
        Self::Lfs,
        Self::Repository,
    ];

    /// The word in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Connection => "connection",
            Self::HostKey => "host-key",
            Self::Access => "access",
            Self::Rejected => "rejected",
            Self::Lfs => "lfs",
            Self::Repository => "repository",
        }
    }

    /// Whether nothing but the owner can change it, so that it is reported at once.
    #[must_use]
    pub fn needs_owner(self) -> bool {
        matches!(self, Self::Settings | Self::HostKey | Self::Access)
    }
}

/// Text that is no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of failure of a mirror")]
pub struct UnknownMirrorFailure;

impl FromStr for MirrorFailureKind {
    type Err = UnknownMirrorFailure;

    fn from_str(text: &str) -> Result<Self, UnknownMirrorFailure> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or(UnknownMirrorFailure)
    }
}
