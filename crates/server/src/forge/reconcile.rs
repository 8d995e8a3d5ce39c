//! What happens after an older copy of the database was put in place.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use quire_store::Hold;
use quire_types::operation::Operation;

/// Records the user's decision.
pub fn decide(forge: &Forge, decision: Hold) -> Result<(), ForgeError> {
    let store = forge.store()?;
    if store.instance().hold()?.is_none() {
        return Err(ForgeError::NothingHeld);
    }
    let operation = Operation::Reconcile {
        decision: decision.as_str().to_owned(),
    };
    recorded(forge, operation, |_| {
        match store.instance().decide(decision)? {
            true => Ok(()),
            false => Err(ForgeError::NothingHeld),
        }
    })
}
