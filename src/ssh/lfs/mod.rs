//! Git LFS over SSH alone (`git-lfs-transfer`, docs/decisions/0057): uploads and downloads of objects, and locks.
//!
//! [`quire_git::lfs::packets`] are the frames, [`request`] parses requests, the session answers them. The process drops the
//! right to use any file outside the folder `lfs` of its one repository before it reads the first byte, or, for a new name,
//! when it has created the repository.

mod answer;
mod lock_answers;
pub mod request;
mod session;

use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use quire_git::Git;
use quire_git::lfs::LfsStore;
use quire_types::disk_space::MinFree;
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::ssh_keys::SessionKey;

use self::session::{CreateStore, LfsAccess, LfsSession, OpenStore};
use super::command::{GitService, LfsOperation};
use super::confinement;
use super::git_session::{self, RepoState, SessionError};
use quire_git::lfs::packets::MAX_DATA;

/// Serves one session of git-lfs.
///
/// # Errors
/// The repository does not exist, or the connection failed.
pub fn serve(
    paths: &Paths,
    operation: LfsOperation,
    repo: &RepoName,
    key: Option<&SessionKey>,
) -> Result<(), SessionError> {
    let repo = git_session::follow_redirect(&Git::new(paths), repo);
    let service = match operation {
        LfsOperation::Upload => GitService::ReceivePack,
        LfsOperation::Download => GitService::UploadPack,
    };
    let state = git_session::find(paths, service, &repo)?;
    let owner = key.map_or_else(
        || "(unknown key)".to_owned(),
        |session| quire_types::text::single_line(&session.key.name),
    );
    // Read before the process drops the right to read it.
    let min_free = MinFree::read(paths).push_threshold();
    let volume = std::path::absolute(paths.data()).map_err(SessionError::Lfs)?;
    let open = || open(paths, operation, &repo, state);
    let (store, create): (_, Option<CreateStore<'_>>) = match state {
        RepoState::Existing => (open()?, None),
        RepoState::Missing => {
            let store = LfsStore::of(&paths.repo(&repo));
            (OpenStore { store, lock: None }, Some(Box::new(open)))
        }
    };
    let access = LfsAccess {
        store,
        create,
        operation,
        owner,
        volume,
        min_free,
    };
    let input = BufReader::with_capacity(MAX_DATA, io::stdin().lock());
    let output = BufWriter::with_capacity(MAX_DATA, io::stdout().lock());
    let session = LfsSession::new(input, output, access);
    session.run().map_err(SessionError::Packets)
}

/// Opens the store of a repository, and drops the right to use any other file. An upload holds the lock of a push: what it is held for is
/// not removed, and what was created in vain is.
fn open(
    paths: &Paths,
    operation: LfsOperation,
    repo: &RepoName,
    state: RepoState,
) -> Result<OpenStore, SessionError> {
    let lock = match operation {
        LfsOperation::Upload => git_session::begin_upload(&Git::new(paths), repo, state)?,
        LfsOperation::Download => None,
    };
    // Relative from here on, so that a rename of the repository does not matter.
    std::env::set_current_dir(paths.repo(repo)).map_err(SessionError::Lfs)?;
    let store = LfsStore::of(Path::new("."));
    if operation == LfsOperation::Upload {
        store.create().map_err(SessionError::Lfs)?;
    }
    confinement::confine_lfs(store.folder(), operation).map_err(SessionError::Confine)?;
    Ok(OpenStore { store, lock })
}
