//! Volumes: storage of the engine's that outlives containers.

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters as query;

use super::{DockerError, Engine, Labels, label_filter, label_map};

/// A volume of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVolume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

impl Engine {
    /// Makes sure of a volume; gives the labels it has, which are others where somebody else made one of this name before.
    ///
    /// # Errors
    /// When the engine cannot make it.
    pub async fn ensure_volume(&self, name: &str, labels: &Labels) -> Result<Labels, DockerError> {
        let request = VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(label_map(labels)), ..Default::default() };
        let made = self.call("make the volume", self.timings().call, |docker| async move { docker.create_volume(request).await });
        Ok(made.await?.labels.into_iter().collect())
    }

    /// The volumes that carry all of the labels.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn volumes(&self, labels: &Labels) -> Result<Vec<ListedVolume>, DockerError> {
        let options = query::ListVolumesOptions { filters: Some(label_filter(labels)) };
        let listed =
            self.call("list volumes", self.timings().call, |docker| async move { docker.list_volumes(Some(options)).await }).await?;
        let entry = |volume: bollard::models::Volume| ListedVolume { name: volume.name, labels: volume.labels.into_iter().collect() };
        Ok(listed.volumes.unwrap_or_default().into_iter().map(entry).collect())
    }

    /// Removes a volume with what is in it; gives whether it was there.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] when a container has it.
    pub async fn remove_volume(&self, name: &str) -> Result<bool, DockerError> {
        let removed = self.call("remove the volume", self.timings().heavy, |docker| async move {
            docker.remove_volume(name, None::<query::RemoveVolumeOptions>).await
        });
        match removed.await {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
