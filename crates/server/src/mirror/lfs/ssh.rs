//! A remote over SSH: a session of `git-lfs-transfer`, or the batch API that `git-lfs-authenticate` names.

use std::time::Duration;

use super::endpoint::LfsEndpoint;
use super::error::{LfsError, SSH_FAILED};
use super::room::RoomCheck;
use super::stall::unless_stalled;
use quire_git::lfs::{
    LfsDirection, LfsPointer, LfsProgress, LfsSshConnection, LfsSshError, LfsSshSession, LfsStore,
    TransferredObjects,
};
use quire_git::{Git, RemoteAccess};
use quire_runtime::blocking::run_blocking;

/// How a shell ends that does not find a command.
const NOT_FOUND: i32 = 127;
/// What servers say of a command that they do not have, in lower case.
const UNKNOWN_COMMAND: [&str; 9] = [
    "command not found",
    "disallowed command",
    "invalid command",
    "is not recognized",
    "is not supported",
    "unknown command",
    "unknown git",
    "unrecognized command",
    "unsupported command",
];
/// How long a session that has failed is waited for, to hear why.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A session of `git-lfs-transfer`.
pub(super) struct LfsSsh {
    connection: LfsSshConnection,
    /// `None` after a failure.
    session: Option<LfsSshSession>,
    progress: LfsProgress,
}

/// What a remote over SSH offers.
pub(super) enum SshOffer {
    Session(Box<LfsSsh>),
    Endpoint(LfsEndpoint),
}

/// Finds out how objects are transferred.
pub(super) async fn open(
    git: &Git,
    remote: &RemoteAccess,
    direction: LfsDirection,
    progress: &LfsProgress,
) -> Result<SshOffer, LfsError> {
    let started = git.lfs_ssh_session(remote, direction, progress);
    let (mut connection, mut session) = started.map_err(LfsError::StartSsh)?;
    let begun = run_blocking(move || session.begin().map(|()| session));
    let begun = unless_stalled(progress, begun).await;
    match begun.map_err(|_| LfsError::Stalled)?? {
        Ok(session) => Ok(SshOffer::Session(Box::new(LfsSsh {
            connection,
            session: Some(session),
            progress: progress.clone(),
        }))),
        Err(source) => {
            let (code, words) = end(&mut connection, remote).await;
            if code == Some(SSH_FAILED) {
                return Err(LfsError::Ssh { source, words });
            }
            authenticate(git, remote, direction, &words).await
        }
    }
}

/// Asks for the batch API. `words` are what the other side said to `git-lfs-transfer`.
async fn authenticate(
    git: &Git,
    remote: &RemoteAccess,
    direction: LfsDirection,
    words: &str,
) -> Result<SshOffer, LfsError> {
    let ended = git.lfs_authenticate(remote, direction).await?;
    if ended.code == Some(0) {
        let endpoint = LfsEndpoint::of_authenticate(remote, &ended.printed);
        let origin = remote.url.authority();
        let endpoint = endpoint.map_err(|problem| LfsError::Protocol { origin, problem })?;
        return match endpoint.url.is_tls() {
            true => Ok(SshOffer::Endpoint(endpoint)),
            false => Err(LfsError::NotTls {
                origin: endpoint.url.origin(),
            }),
        };
    }
    if !is_unknown_command(ended.code, &ended.words) {
        return Err(LfsError::NoAuthentication {
            code: ended.code,
            words: ended.words,
        });
    }
    let words = match words == ended.words {
        true => words.to_owned(),
        false => format!("{words}; {}", ended.words),
    };
    Err(LfsError::None { words })
}

impl LfsSsh {
    /// Transfers those of these objects that the other side, or this one, does not have.
    pub(super) async fn transfer(
        &mut self,
        remote: &RemoteAccess,
        store: &LfsStore,
        objects: &[LfsPointer],
        room: &RoomCheck,
    ) -> Result<TransferredObjects, LfsError> {
        let Some(mut session) = self.session.take() else {
            return Err(LfsError::Stalled);
        };
        let (store, objects, room) = (store.clone(), objects.to_vec(), room.clone());
        let transfer = run_blocking(move || {
            let transferred = session.transfer(&store, &objects, &*room);
            (session, transferred)
        });
        let transferred = unless_stalled(&self.progress, transfer).await;
        let (session, transferred) = transferred.map_err(|_| LfsError::Stalled)??;
        match transferred {
            Ok(transferred) => {
                self.session = Some(session);
                Ok(transferred)
            }
            Err(LfsSshError::NoRoom(problem)) => Err(LfsError::NoRoom(problem)),
            Err(LfsSshError::Store(error)) => Err(error.into()),
            Err(LfsSshError::Read(error)) => Err(LfsError::Read(error)),
            Err(source) => {
                drop(session);
                let (_, words) = end(&mut self.connection, remote).await;
                Err(LfsError::Ssh { source, words })
            }
        }
    }

    /// Ends the session. All objects have been stored before, so a failure does not matter.
    pub(super) async fn quit(self) {
        if let Some(session) = self.session {
            let quit = run_blocking(move || session.quit());
            let _ = tokio::time::timeout(END_TIMEOUT, quit).await;
        }
    }
}

/// Whether a command failed so because the other side does not have it.
fn is_unknown_command(code: Option<i32>, words: &str) -> bool {
    let words = words.to_lowercase();
    match code {
        None | Some(SSH_FAILED) => false,
        Some(NOT_FOUND) => true,
        Some(_) => UNKNOWN_COMMAND.iter().any(|known| words.contains(known)),
    }
}

async fn end(connection: &mut LfsSshConnection, remote: &RemoteAccess) -> (Option<i32>, String) {
    let ended = tokio::time::timeout(END_TIMEOUT, connection.end()).await;
    let (code, words) = ended.unwrap_or_default();
    (code, remote.redactor.redact_text(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_command_is_told_apart_from_one_that_fails() {
        for (code, words, is_unknown) in [
            (Some(127), "sh: 1: git-lfs-authenticate: not found", true),
            (
                Some(128),
                "fatal: unrecognized command 'git-lfs-authenticate'",
                true,
            ),
            (
                Some(1),
                "FATAL: unknown git/gitolite command: git-lfs-authenticate",
                true,
            ),
            (Some(1), "ERROR: Repository not found.", false),
            (Some(1), "", false),
            (Some(255), "Connection closed by 192.0.2.1 port 22", false),
            (None, "unknown command", false),
        ] {
            assert_eq!(
                is_unknown_command(code, words),
                is_unknown,
                "{code:?} {words}"
            );
            let failed = LfsError::NoAuthentication {
                code,
                words: words.to_owned(),
            };
            assert_eq!(failed.is_passing(), matches!(code, None | Some(255)));
        }
    }
}
