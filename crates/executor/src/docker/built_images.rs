//! The removal of images that quire built or pulled.
//!
//! Which images these are is known from quire's own records. Here each is compared with what the
//! engine has now: a label on an image proves nothing, because every image that a person builds on
//! one of quire's inherits it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::context::{BUILT_AS_LABEL, BUILT_BY_LABEL, INSTANCE_LABEL, label};
use super::engine_images::DockerImages;
use crate::api::ImageStore;
use crate::engine::ImageDetails;
use crate::error::ExecutorError;
use crate::images::{ImageRemoval, OwnedImage};
use quire_types::image_reference::ImageReference;

impl DockerImages {
    async fn engine_id(&self) -> Result<String, ExecutorError> {
        let identity = self.context.engine.identity().await;
        let identity =
            identity.map_err(|error| ExecutorError::from_engine("list the images", error))?;
        Ok(identity.id)
    }

    /// Removes an image, or the name that quire gave it, if it is still what it was.
    async fn remove_owned(&self, image: &OwnedImage) -> Result<ImageRemoval, ExecutorError> {
        let remove_error = |error| ExecutorError::from_engine("remove the image", error);
        let engine = &self.context.engine;
        let name = image.name();
        let Some(_removal) = self.context.in_use.begin_image_removal(name) else {
            return Ok(ImageRemoval::InUse);
        };
        let Some(found) = engine.image(name).await.map_err(remove_error)? else {
            return Ok(ImageRemoval::Missing);
        };
        let is_ours = is_still_ours(image, &found);
        if !is_ours {
            return Ok(ImageRemoval::NotOurs);
        }
        // The engine keeps an image that a container uses or that another image stands on.
        Ok(if engine.remove_image(name).await.map_err(remove_error)? {
            ImageRemoval::Removed
        } else {
            ImageRemoval::InUse
        })
    }
}

impl ImageStore for DockerImages {
    fn has<'a>(&'a self, image: &'a ImageReference) -> BoxFuture<'a, Result<bool, ExecutorError>> {
        Box::pin(async move { Ok(self.find(&image.full_name()).await?.is_some()) })
    }

    fn engine_id(&self) -> BoxFuture<'_, Result<String, ExecutorError>> {
        self.engine_id().boxed()
    }

    fn size<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<(String, u64)>, ExecutorError>> {
        let size = self.context.engine.image_size(name);
        Box::pin(async move {
            let size = size.await;
            size.map_err(|error| ExecutorError::from_engine("measure the image", error))
        })
    }

    fn remove<'a>(
        &'a self,
        image: &'a OwnedImage,
    ) -> BoxFuture<'a, Result<ImageRemoval, ExecutorError>> {
        self.remove_owned(image).boxed()
    }
}

/// Whether `found` is still the image that the record means.
fn is_still_ours(image: &OwnedImage, found: &ImageDetails) -> bool {
    match image {
        OwnedImage::Built { id: Some(id), .. } => found.id == *id,
        OwnedImage::Built { tag, id: None } => {
            label(&found.labels, BUILT_AS_LABEL) == Some(tag.as_str())
        }
        // Removing it by its id would remove the only name that a person has given it as well.
        OwnedImage::Replaced { id } => found.id == *id && found.names.is_empty(),
        // Versions before 0.3 recorded everything that had their label as pulled, also what a
        // person had built on it. A registry's image has none of these labels.
        OwnedImage::Pulled { id, .. } => {
            let is_built =
                |key: &str| key == INSTANCE_LABEL || key == BUILT_BY_LABEL || key == BUILT_AS_LABEL;
            found.id == *id && !found.labels.iter().any(|(key, _)| is_built(key))
        }
        OwnedImage::Layer { since_ms, .. } => {
            let since = since_ms.div_euclid(1000);
            found.names.is_empty() && found.created.is_some_and(|created| created >= since)
        }
    }
}
