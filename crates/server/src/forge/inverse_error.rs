//! Why an operation is not undone.

use quire_types::operation::OperationId;

#[derive(Debug, thiserror::Error)]
pub enum InverseError {
    #[error("there is no operation {0}")]
    NotFound(OperationId),
    #[error("operation {id} was undone by operation {by}")]
    AlreadyUndone { id: OperationId, by: OperationId },
    #[error("operation {0} failed, so there is nothing to undo")]
    Failed(OperationId),
    #[error("operation {id} cannot be undone: {why}")]
    None { id: OperationId, why: NoInverse },
}

/// What an operation has in place of an inverse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoInverse {
    #[error("it overwrote nothing")]
    NothingOverwritten,
    #[error("what it overwrote is not kept")]
    OverwrittenNotKept,
    #[error("a repository that was deleted is not kept")]
    Deleted,
    #[error("pushes to the repository followed")]
    PushesFollowed,
    #[error("the trash is switched off, so the repository would be deleted for good")]
    NoTrash,
    #[error("the branch that was the default did not exist")]
    NoBranchBefore,
    #[error("the default branch was changed again since")]
    DefaultChanged,
    #[error("the pattern was added or removed again since")]
    ProtectionChanged,
    #[error("the description was changed again since")]
    DescriptionChanged,
    #[error("the repository was renamed again, or another one has its name")]
    RenamedAgain,
    #[error("it is not known which line the key had")]
    UnknownKeyLine,
    #[error("the line of the key is not one that would be accepted now")]
    UnusableKeyLine,
    #[error("the value before is not kept")]
    ValueReplaced,
    #[error("the secret was removed or set again since")]
    SecretChanged,
    #[error("the value of a removed secret is not kept")]
    ValueRemoved,
    #[error("the values before are encrypted with a key that is not kept")]
    KeyRotated,
    #[error("a link works once and ends after five minutes")]
    Link,
    #[error("only the hash of a token is kept, and that was deleted")]
    TokenRevoked,
    #[error("it is not known which run it was")]
    UnknownRun,
    #[error("a run that was stopped cannot go on")]
    RunStopped,
    #[error("its container is removed")]
    ContainerReleased,
    #[error("a cache that was removed is not kept")]
    CacheCleared,
    #[error("it removed what was expired")]
    Collected,
    #[error("what was pushed to another server stays there")]
    Mirrored,
    #[error("what was pushed since would be overwritten")]
    MirrorStopped,
    #[error("the mirror was changed again since")]
    MirrorChanged,
    #[error("the runs are canceled or queued already")]
    Decided,
    #[error("the setting was changed again since")]
    SettingChanged,
    #[error("the file that was loaded before is not kept")]
    Reloaded,
    #[error("no push made it, so it is not known what to undo")]
    Found,
}
