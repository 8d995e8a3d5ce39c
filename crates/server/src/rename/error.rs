//! Why a repository cannot be renamed, removed or restored, or its runs cannot be listed or removed.

use std::io;
use std::path::PathBuf;

use quire_git::GitError;
use quire_store::StoreError;
use quire_types::names::RepoName;

#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    #[error("there is no repository `{0}`")]
    Unknown(RepoName),
    #[error("`{name}` is now `{repo}`")]
    Redirected { name: RepoName, repo: RepoName },
    #[error("the repository already has the name `{0}`")]
    Same(RepoName),
    #[error("the repository `{0}` exists already")]
    Taken(RepoName),
    #[error("the file system of the data volume does not distinguish the names `{0}` and `{1}`")]
    SameOnDisk(RepoName, RepoName),
    /// A removed repository of the new name has left runs.
    #[error("runs of an earlier repository `{0}` still exist")]
    Leftovers(RepoName),
    #[error("another rename or removal is in progress")]
    Locked,
    #[error("the trash has no repository `{0}`")]
    NotInTrash(RepoName),
    #[error("`{0}` is the beginning of the ids of several repositories in the trash")]
    AmbiguousTrashId(RepoName),
    #[error("runs of `{0}` are still being stopped")]
    ActiveRuns(RepoName),
    /// The repository has left its place, so the server retries.
    #[error("the removal could not be completed; quire will retry it automatically")]
    RemovalUnfinished(#[source] Box<RenameError>),
    /// The intent is recorded, so the server retries.
    #[error("the repository could not be restored completely; quire will retry it automatically")]
    RestoreUnfinished(#[source] Box<RenameError>),
    /// The intent is recorded, so the server retries.
    #[error("the rename could not be completed; quire will retry it automatically")]
    Unfinished(#[source] Box<RenameError>),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{attempt} {}", .path.display())]
    Io {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        let errors = [
            RenameError::Unknown(name("app")),
            RenameError::Redirected {
                name: name("app"),
                repo: name("work/app"),
            },
            RenameError::Same(name("app")),
            RenameError::Taken(name("app")),
            RenameError::SameOnDisk(name("app"), name("App")),
            RenameError::Leftovers(name("app")),
            RenameError::Locked,
            RenameError::NotInTrash(name("app")),
            RenameError::AmbiguousTrashId(name("01a1ffdd")),
            RenameError::ActiveRuns(name("app")),
            RenameError::RemovalUnfinished(Box::new(RenameError::Locked)),
            RenameError::RestoreUnfinished(Box::new(RenameError::Locked)),
            RenameError::Unfinished(Box::new(RenameError::Locked)),
            RenameError::Io {
                attempt: "cannot lock",
                path: "/var/quire/repos/.names.lock".into(),
                source: io::Error::from(io::ErrorKind::PermissionDenied),
            },
        ];
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        there is no repository `app`
        `app` is now `work/app`
        the repository already has the name `app`
        the repository `app` exists already
        the file system of the data volume does not distinguish the names `app` and `App`
        runs of an earlier repository `app` still exist
        another rename or removal is in progress
        the trash has no repository `app`
        `01a1ffdd` is the beginning of the ids of several repositories in the trash
        runs of `app` are still being stopped
        the removal could not be completed; quire will retry it automatically
        the repository could not be restored completely; quire will retry it automatically
        the rename could not be completed; quire will retry it automatically
        cannot lock /var/quire/repos/.names.lock
        ");
    }
}
