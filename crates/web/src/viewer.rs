//! Who is asking. A session lasts no longer than the key that opened it, and holds only where that key may connect.

use std::net::IpAddr;

use quire_store::{AccessToken, SessionOwner};
use quire_types::operation::{Actor, Channel};
use quire_types::ssh_keys::KeyDenied;
use quire_types::token::TokenScope;

use super::error::WebError;
use super::state::App;

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Viewer {
    /// The name of the key that signed in; `None` for a stranger, or if no sign-in is needed.
    pub(super) key_name: Option<String>,
    /// Whose session or token it is; `None` if no sign-in is needed.
    session: Option<SessionOwner>,
    /// Whether the request may change something.
    pub(super) may_write: bool,
    /// Whether this is a client that is not signed in and sees only what repositories show to everyone.
    pub(super) is_stranger: bool,
    address: IpAddr,
}

impl Viewer {
    /// A user of an appliance that is open to everyone.
    pub(super) fn anonymous(address: IpAddr) -> Self {
        Self {
            key_name: None,
            session: None,
            may_write: true,
            is_stranger: false,
            address,
        }
    }

    /// A client that is not signed in.
    pub(super) fn stranger(address: IpAddr) -> Self {
        Self {
            may_write: false,
            is_stranger: true,
            ..Self::anonymous(address)
        }
    }

    pub(super) fn of_token(token: AccessToken, address: IpAddr) -> Self {
        Self {
            may_write: token.scope == TokenScope::Write,
            ..Self::of_session(token.owner, address)
        }
    }

    pub(super) fn of_session(session: SessionOwner, address: IpAddr) -> Self {
        Self {
            key_name: Some(session.key_name.clone()),
            session: Some(session),
            may_write: true,
            is_stranger: false,
            address,
        }
    }

    /// Where the request came from.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Who does what is requested, for the log of operations.
    pub(super) fn actor(&self) -> Actor {
        let fingerprint = |session: &SessionOwner| session.key_fingerprint.clone();
        Actor {
            name: self.key_name.clone(),
            key_fingerprint: self.session.as_ref().and_then(fingerprint),
            channel: Channel::Web,
        }
    }

    /// Whether the key may still connect from the address of this user.
    pub(super) fn key_is_current(&self, app: &App) -> Result<bool, WebError> {
        let Some(session) = &self.session else {
            return Ok(true);
        };
        Ok(admit_key(app, session, self.address)?.is_ok())
    }
}

/// Asks of the key what sshd would ask now of a connection from this address, and that it may do everything: pages show all
/// repositories. A link that was made without a key, on the
/// machine itself, is always admitted.
pub(super) fn admit_key(
    app: &App,
    session: &SessionOwner,
    address: IpAddr,
) -> Result<Result<(), KeyDenied>, WebError> {
    let Some(fingerprint) = session.key_fingerprint.as_deref() else {
        return Ok(Ok(()));
    };
    let keys = app.keys.current().map_err(|source| WebError::Io {
        attempt: "read the public keys".to_owned(),
        source,
    })?;
    let now = app.web.clock.now();
    Ok(keys.admit_fully(fingerprint, session.certificate.as_deref(), address, now))
}
