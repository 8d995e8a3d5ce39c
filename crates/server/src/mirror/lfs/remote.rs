//! A remote, by the protocol of Git LFS that it speaks.

use super::endpoint::LfsEndpoint;
use super::error::LfsError;
use super::http::LfsHttp;
use super::room::RoomCheck;
use super::ssh::{self, LfsSsh, SshOffer};
use crate::addresses::ReachableAddresses;
use crate::outgoing::KeptConnection;
use quire_git::lfs::{LfsDirection, LfsPointer, LfsProgress, LfsStore, TransferredObjects};
use quire_git::{Git, RemoteAccess};
use quire_types::git_remote_url::RemoteTransport;

pub(super) enum LfsRemote<'a> {
    Http(Box<LfsHttp<'a>>),
    Ssh(Box<LfsSsh>, &'a RemoteAccess),
}

impl<'a> LfsRemote<'a> {
    pub(super) async fn open(
        git: &Git,
        remote: &'a RemoteAccess,
        reachable: ReachableAddresses<'a>,
        direction: LfsDirection,
        progress: &LfsProgress,
    ) -> Result<Self, LfsError> {
        let endpoint = match remote.url.transport() {
            RemoteTransport::Https => {
                let endpoint = LfsEndpoint::of_https(remote);
                endpoint.map_err(|problem| LfsError::Protocol {
                    origin: remote.url.authority(),
                    problem,
                })?
            }
            RemoteTransport::Ssh => match ssh::open(git, remote, direction, progress).await? {
                SshOffer::Session(session) => return Ok(Self::Ssh(session, remote)),
                SshOffer::Endpoint(endpoint) => endpoint,
            },
        };
        Ok(Self::Http(Box::new(LfsHttp {
            endpoint,
            direction,
            reachable,
            redactor: &remote.redactor,
            progress: progress.clone(),
            connection: KeptConnection::default(),
        })))
    }

    /// Transfers those of these objects that the other side, or this one, does not have.
    pub(super) async fn transfer(
        &mut self,
        store: &LfsStore,
        objects: &[LfsPointer],
        room: &RoomCheck,
    ) -> Result<TransferredObjects, LfsError> {
        match self {
            Self::Http(http) => http.transfer(store, objects, room).await,
            Self::Ssh(session, remote) => session.transfer(remote, store, objects, room).await,
        }
    }

    pub(super) async fn quit(self) {
        if let Self::Ssh(session, _) = self {
            session.quit().await;
        }
    }
}
