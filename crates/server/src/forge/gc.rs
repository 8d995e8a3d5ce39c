//! Removing what is expired now instead of at the next round of the server.

use super::access::Forge;
use super::error::ForgeError;
use crate::control::client;
use crate::control::protocol::GcReport;

/// Lets the server remove expired runs, logs, artifacts, caches and images.
pub fn collect(forge: &Forge) -> Result<GcReport, ForgeError> {
    client::collect_garbage(&forge.paths).map_err(ForgeError::NothingCollected)
}
