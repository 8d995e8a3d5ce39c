//! What every management command works with: the paths, the caller and the forge.

use std::net::IpAddr;

use super::error::CommandError;
use quire_server::forge::{Forge, repos};
use quire_store::Store;
use quire_types::clock::Clock;
use quire_types::names::RepoName;
use quire_types::operation::{Actor, Channel};
use quire_types::paths::Paths;
use quire_types::ssh_keys::SessionKey;

/// The user who runs a command.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// The SSH key, if sshd reported it.
    pub(super) key: Option<SessionKey>,
    /// Whether the command came over SSH.
    pub(super) remote: bool,
    /// The address by which the client reached this machine, if sshd reported it.
    pub(super) reached: Option<IpAddr>,
}

impl Caller {
    /// The name of the key, or `local` for a command on the machine itself.
    pub(super) fn name(&self) -> &str {
        match &self.key {
            Some(session) => &session.key.name,
            None if self.remote => "(unknown key)",
            None => "local",
        }
    }

    /// Who does what the command does, for the log of operations.
    fn actor(&self) -> Actor {
        let key = self.key.as_ref().map(|session| &session.key);
        Actor {
            name: match self.key.is_none() && self.remote {
                true => None,
                false => Some(self.name().to_owned()),
            },
            key_fingerprint: key.map(|key| key.fingerprint.clone()),
            channel: match self.remote {
                true => Channel::Ssh,
                false => Channel::Local,
            },
        }
    }
}

pub(super) struct Context<'a> {
    pub(super) paths: &'a Paths,
    pub(super) caller: &'a Caller,
    pub(super) clock: Clock,
    forge: Forge,
}

impl<'a> Context<'a> {
    pub(super) fn new(paths: &'a Paths, caller: &'a Caller, clock: Clock) -> Self {
        Self {
            forge: Forge::for_command(paths, clock.clone(), caller.actor()),
            paths,
            caller,
            clock,
        }
    }

    pub(super) fn forge(&self) -> Forge {
        self.forge.clone()
    }

    /// Fails if a list is empty because it was asked for a repository that does not exist.
    pub(super) fn explain_empty_list<T>(
        &self,
        list: &[T],
        repo: Option<&RepoName>,
    ) -> Result<(), CommandError> {
        if let (true, Some(repo)) = (list.is_empty(), repo) {
            repos::existing(&self.forge(), repo)?;
        }
        Ok(())
    }

    /// Opens the database, which the server creates.
    pub(super) fn store(&self) -> Result<Store, CommandError> {
        Ok(self.forge().store()?)
    }
}
