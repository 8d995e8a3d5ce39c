//! The value of `ci.registry`: where images are pushed to for the nodes of a swarm.

use super::secrets::SecretSource;

/// A registry, and how it is signed in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Its host, with a port and a path if it has them.
    pub address: String,
    /// The user and the password, if it asks for them.
    pub login: Option<(String, SecretSource)>,
}
