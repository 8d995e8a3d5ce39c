//! What every operation works with.

use super::error::ForgeError;
use super::notifier::Notifier;
use quire_git::Git;
use quire_store::Store;
use quire_types::clock::Clock;
use quire_types::paths::Paths;

/// The repositories, the database and the running server. Cheap to clone.
#[derive(Clone)]
pub struct Forge {
    pub(super) paths: Paths,
    pub(super) git: Git,
    pub(super) notifier: Notifier,
    database: Database,
}

#[derive(Clone)]
enum Database {
    Open(Store),
    /// Opened by the operations that need it: git's part works without a database.
    OnDemand(Clock),
}

impl Forge {
    /// For pages and other parts of the server.
    #[must_use]
    pub fn in_server(paths: Paths, store: Store, notifier: Notifier) -> Self {
        Self {
            git: Git::new(&paths),
            paths,
            notifier,
            database: Database::Open(store),
        }
    }

    /// For a command, which is a process of its own beside the server.
    #[must_use]
    pub fn for_command(paths: &Paths, clock: Clock) -> Self {
        Self {
            git: Git::new(paths),
            paths: paths.clone(),
            notifier: Notifier::Command(paths.clone()),
            database: Database::OnDemand(clock),
        }
    }

    pub fn store(&self) -> Result<Store, ForgeError> {
        match &self.database {
            Database::Open(store) => Ok(store.clone()),
            Database::OnDemand(_) if !self.has_database() => {
                Err(ForgeError::NoDatabase(self.paths.data().to_owned()))
            }
            Database::OnDemand(clock) => {
                Ok(Store::open_existing(&self.paths.database(), clock.clone())?)
            }
        }
    }

    /// Before the server's first start there is no database, but repositories may exist already.
    pub(super) fn has_database(&self) -> bool {
        match &self.database {
            Database::Open(_) => true,
            Database::OnDemand(_) => self.paths.database().exists(),
        }
    }
}
