//! The config object with quire's helper: one for each appliance and version of the helper on a swarm. A node has it as
//! long as it executes a task that uses it.

use std::sync::Arc;

use quire_step_program::PROGRAM;
use quire_types::token::hex;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::docker::context::DockerContext;
use crate::docker::helper_volume::{HELPER_LABEL, HelperVolume, digest};
use crate::engine::{DockerError, MountedConfig};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct HelperConfig {
    context: DockerContext,
    /// The id of the config object, once it is known.
    known: Arc<Mutex<Option<String>>>,
}

impl HelperConfig {
    pub(super) fn new(context: DockerContext) -> Self {
        Self {
            context,
            known: Arc::default(),
        }
    }

    /// Makes sure that the swarm has the helper, and returns it as a file of a container.
    pub(super) async fn ensure(&self) -> Result<MountedConfig, DockerError> {
        let mut known = self.known.lock().await;
        let id = match &*known {
            Some(id) => id.clone(),
            None => self.create().await?,
        };
        *known = Some(id.clone());
        Ok(MountedConfig {
            id,
            name: self.name(),
            path: HelperVolume::program(),
        })
    }

    /// The swarm does not have the config object any more: another swarm, or an object that was removed.
    pub(super) async fn forget(&self) {
        *self.known.lock().await = None;
    }

    /// A different name for each appliance and version of the helper. It has at most 64 characters.
    fn name(&self) -> String {
        let digest = Sha256::digest(format!("{}\n{}", self.context.config.instance, digest()));
        format!("quire-helper-{}", hex(&digest[..16]))
    }

    async fn create(&self) -> Result<String, DockerError> {
        let mut labels = self.context.instance_labels();
        labels.push((HELPER_LABEL.to_owned(), digest()));
        let engine = &self.context.engine;
        let id = engine.ensure_config(&self.name(), &labels, PROGRAM).await?;
        self.remove_other_versions().await;
        Ok(id)
    }

    /// Removes the config objects of other versions that no service uses.
    async fn remove_other_versions(&self) {
        let mut any = self.context.instance_labels();
        any.push((HELPER_LABEL.to_owned(), String::new()));
        let configs = self.context.engine.configs(&any).await.unwrap_or_default();
        for config in configs
            .into_iter()
            .filter(|config| config.name != self.name())
        {
            // One that is in use stays until the next start of quire.
            let _ = self.context.engine.remove_config(&config.id).await;
        }
    }
}
