//! The log of operations: every operation that changes something passes through here.
//!
//! The row is written before the operation has any effect, and its end after it. So an operation that is cut off in between stays
//! in the log as begun, which says neither that it was done nor that it was not. The log holds nothing up: if the row cannot be
//! written, because the disk is full for instance, the operation is done all the same, and its end is recorded if that is
//! possible then. The user is told if it is not. Before the first start of the server there is no log.

use std::sync::atomic::Ordering;

use super::access::Forge;
use super::error::ForgeError;
use super::inverse_error::InverseError;
use quire_store::{LoggedOperation, NewOperation, OperationState, Store};
use quire_types::error_chain;
use quire_types::failpoint;
use quire_types::names::{EventId, RepoName};
use quire_types::operation::{Operation, OperationId};

/// Lists the newest operations, or those of a repository.
pub fn list(
    forge: &Forge,
    repo: Option<&RepoName>,
    limit: u32,
) -> Result<Vec<LoggedOperation>, ForgeError> {
    Ok(forge.store()?.operations().list(repo, limit)?)
}

/// The operation of this number.
pub fn find(forge: &Forge, id: OperationId) -> Result<LoggedOperation, ForgeError> {
    let found = forge.store()?.operations().find(id)?;
    Ok(found.ok_or(InverseError::NotFound(id))?)
}

/// Does something and records it. What becomes known only while it is done is added to the operation.
pub(super) fn recorded<T>(
    forge: &Forge,
    operation: Operation,
    act: impl FnOnce(&mut Operation) -> Result<T, ForgeError>,
) -> Result<T, ForgeError> {
    record_with_event(forge, operation, None, act)
}

/// The same for an operation that a push event will record as well.
pub(super) fn record_with_event<T>(
    forge: &Forge,
    mut operation: Operation,
    event: Option<EventId>,
    act: impl FnOnce(&mut Operation) -> Result<T, ForgeError>,
) -> Result<T, ForgeError> {
    let store = forge.has_database().then(|| forge.store());
    let Some(store) = store else {
        return act(&mut operation);
    };
    let store = store.ok();
    let begun = store.as_ref().and_then(|store| {
        let new = row(forge, &operation, event);
        store.operations().begin(&new).ok()
    });
    failpoint::hit("operation-begun");
    let result = act(&mut operation);
    failpoint::hit("operation-acted");
    let state = match &result {
        Ok(_) => OperationState::Done,
        Err(error) => OperationState::Failed(error_chain::chain(error)),
    };
    let settle = |store: &Store| match begun {
        Some(id) => store.operations().settle(id, &operation, &state),
        None => {
            let new = row(forge, &operation, event);
            store.operations().record(&new, &state).map(drop)
        }
    };
    let is_recorded = store.is_some_and(|store| settle(&store).is_ok());
    if !is_recorded && result.is_ok() {
        forge.is_log_incomplete.store(true, Ordering::Relaxed);
    }
    result
}

/// The row of an operation.
fn row<'a>(forge: &'a Forge, operation: &'a Operation, event: Option<EventId>) -> NewOperation<'a> {
    NewOperation {
        actor: &forge.actor,
        operation,
        undoes: forge.undoes,
        event,
    }
}
