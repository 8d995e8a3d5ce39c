//! The SSH keys that may connect.

use super::access::Forge;
use super::error::ForgeError;
use quire_types::ssh_keys::{self, PublicKey};

/// Lists the keys that may connect.
pub fn list(forge: &Forge) -> Result<Vec<PublicKey>, ForgeError> {
    let text = ssh_keys::read(&forge.paths).map_err(ForgeError::Keys)?;
    Ok(ssh_keys::parse_all(&text))
}
