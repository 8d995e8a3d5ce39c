//! Removing what is expired now instead of at the next round of the server.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use crate::control::client;
use crate::control::protocol::GcReport;
use quire_types::operation::Operation;

/// Lets the server remove expired runs, logs, artifacts, caches and images.
pub fn collect(forge: &Forge) -> Result<GcReport, ForgeError> {
    recorded(forge, Operation::Gc, |_| {
        client::collect_garbage(&forge.paths).map_err(ForgeError::NothingCollected)
    })
}
