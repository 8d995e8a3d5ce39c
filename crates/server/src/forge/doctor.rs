//! The check of everything.

use super::access::Forge;
use super::error::ForgeError;
use crate::control::client;
use crate::doctor::DoctorFinding;

/// Lets the server check everything. Takes seconds, or minutes if an image is pulled for it.
pub fn examine(forge: &Forge) -> Result<Vec<DoctorFinding>, ForgeError> {
    Ok(client::examine(&forge.paths)?)
}
