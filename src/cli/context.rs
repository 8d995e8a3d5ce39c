//! What every management command works with: the paths, the caller and the forge.

use std::net::IpAddr;

use super::error::CommandError;
use quire_server::forge::{Forge, repos};
use quire_store::Store;
use quire_types::clock::Clock;
use quire_types::names::RepoName;
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
}

pub(super) struct Context<'a> {
    pub(super) paths: &'a Paths,
    pub(super) caller: &'a Caller,
    pub(super) clock: Clock,
}

impl Context<'_> {
    pub(super) fn forge(&self) -> Forge {
        Forge::for_command(self.paths, self.clock.clone())
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
