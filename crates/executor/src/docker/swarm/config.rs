//! The settings of the swarm executor.

use quire_types::callback_address::CallbackAddress;
use quire_types::secret::SecretReader;

#[derive(Clone)]
pub struct SwarmConfig {
    /// The registry for images that only the manager's engine has.
    pub registry: Option<SwarmRegistry>,
    /// Where the nodes reach this process. Without it nothing is executed, but what earlier runs left is removed.
    pub callback: Option<CallbackAddress>,
}

/// A registry to which images are pushed for the nodes of a swarm.
#[derive(Clone)]
pub struct SwarmRegistry {
    /// Its host, with a port and a path if it has them.
    pub address: String,
    /// The user and the password, if it asks for them.
    pub login: Option<(String, SecretReader)>,
}
