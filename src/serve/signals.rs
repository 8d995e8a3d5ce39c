//! The signals that the server handles: TERM and INT stop it, HUP reloads the configuration.

use tokio::signal::unix::{SignalKind, signal};

use super::error::{ServeError, system};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalRequest {
    Stop,
    Reload,
}

pub(super) struct ServerSignals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl ServerSignals {
    pub(super) fn install() -> Result<Self, ServeError> {
        let handle = |kind| signal(kind).map_err(system("install signal handlers"));
        Ok(Self {
            term: handle(SignalKind::terminate())?,
            int: handle(SignalKind::interrupt())?,
            hup: handle(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.term.recv() => SignalRequest::Stop,
            _ = self.int.recv() => SignalRequest::Stop,
            _ = self.hup.recv() => SignalRequest::Reload,
        }
    }
}
