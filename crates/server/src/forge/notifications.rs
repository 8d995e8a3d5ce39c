//! Listing and testing the targets of notifications. Only the server sends messages.

use super::access::Forge;
use super::error::ForgeError;
use crate::control::client;
use quire_store::TargetProgress;

/// Returns the targets of the configuration in force, by name.
pub fn list(forge: &Forge) -> Result<Vec<TargetProgress>, ForgeError> {
    Ok(forge.store()?.outbox().targets()?)
}

/// Sends a test message to a target. Returns once it is delivered.
pub fn test(forge: &Forge, target: &str) -> Result<(), ForgeError> {
    Ok(client::test_notification(&forge.paths, target)?)
}
