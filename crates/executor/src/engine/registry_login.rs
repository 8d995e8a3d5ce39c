//! The credentials for a registry, which the engine needs with each request that makes it speak to the registry.

use bollard::auth::DockerCredentials;
use quire_types::secret::Secret;

/// A user of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// The host of the registry, with its port if it has one.
    pub registry: String,
    pub user: String,
    pub password: Secret,
}

impl RegistryLogin {
    pub(super) fn credentials(&self) -> DockerCredentials {
        DockerCredentials {
            username: Some(self.user.clone()),
            password: Some(self.password.expose().to_owned()),
            serveraddress: Some(self.registry.clone()),
            ..DockerCredentials::default()
        }
    }
}
