//! What every operation works with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::ForgeError;
use super::notifier::Notifier;
use quire_git::Git;
use quire_store::Store;
use quire_types::clock::Clock;
use quire_types::operation::{Actor, OperationId};
use quire_types::paths::Paths;

/// The repositories, the database and the running server. Cheap to clone.
#[derive(Clone)]
pub struct Forge {
    pub(super) paths: Paths,
    pub(super) git: Git,
    pub(super) notifier: Notifier,
    /// Who acts.
    pub(super) actor: Actor,
    /// The operation that is taken back.
    pub(super) undoes: Option<OperationId>,
    /// Whether an operation was done that the log does not have.
    pub(super) is_log_incomplete: Arc<AtomicBool>,
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
            actor: Actor::server(),
            undoes: None,
            is_log_incomplete: Arc::default(),
            database: Database::Open(store),
        }
    }

    /// For a command, which is a process of its own beside the server.
    #[must_use]
    pub fn for_command(paths: &Paths, clock: Clock, actor: Actor) -> Self {
        Self {
            git: Git::new(paths),
            paths: paths.clone(),
            notifier: Notifier::Command(paths.clone()),
            actor,
            undoes: None,
            is_log_incomplete: Arc::default(),
            database: Database::OnDemand(clock),
        }
    }

    /// The same for another user.
    #[must_use]
    pub fn acting_as(self, actor: Actor) -> Self {
        Self { actor, ..self }
    }

    /// The same for operations that take this one back.
    pub(super) fn undoing(&self, operation: OperationId) -> Self {
        Self {
            undoes: Some(operation),
            ..self.clone()
        }
    }

    /// Whether an operation was done that could not be recorded in the log.
    #[must_use]
    pub fn is_log_incomplete(&self) -> bool {
        self.is_log_incomplete.load(Ordering::Relaxed)
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
