//! The images on the engine: looked up, and pulled by reference.

use super::context::DockerContext;
use super::in_use::RunLease;
use super::registries::check_registry;
use crate::api::StartObserver;
use crate::engine::ImageDetails;
use crate::error::{ExecutorError, ImageError};
use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;

/// An image that exists.
pub(super) struct RunImage {
    /// Its full name.
    pub(super) name: String,
    pub(super) details: ImageDetails,
}

/// The images on the engine. Cheap to clone.
#[derive(Clone)]
pub(super) struct DockerImages {
    pub(super) context: DockerContext,
}

impl DockerImages {
    pub(super) fn new(context: DockerContext) -> Self {
        Self { context }
    }

    /// Returns the image of this name on the engine, pulled if it is missing, and whether it was.
    pub(super) async fn fetch(
        &self,
        reference: &ImageReference,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<(RunImage, bool), ExecutorError> {
        let name = reference.full_name();
        lease.take(&name).await;
        if let Some(details) = self.find(&name).await? {
            observer.image_used(&name);
            return Ok((RunImage { name, details }, false));
        }
        check_registry(reference, &self.context.config.registries)?;
        self.pull(reference, observer).await?;
        self.record_pulled(reference, observer).await;
        match self.find(&name).await? {
            Some(details) => Ok((RunImage { name, details }, true)),
            None => Err(ImageError::MissingAfterPull { name }.into()),
        }
    }

    /// Returns an image; `None` if it does not exist.
    pub(super) async fn find(&self, name: &str) -> Result<Option<ImageDetails>, ExecutorError> {
        match self.context.engine.image(name).await {
            Ok(image) => Ok(image),
            Err(error) => Err(ExecutorError::from_engine("look up the image", error)),
        }
    }

    /// Reports that quire brought an image. If the engine cannot say which one it is, the image
    /// stays for good, which does no harm.
    async fn record_pulled(&self, reference: &ImageReference, observer: &mut dyn StartObserver) {
        let engine = &self.context.engine;
        let name = reference.pulled_name();
        if let (Ok(identity), Ok(Some(image))) =
            (engine.identity().await, engine.image(&name).await)
        {
            observer.image_pulled(&identity.id, &name, &image.id);
        }
    }

    async fn pull(
        &self,
        image: &ImageReference,
        observer: &mut dyn StartObserver,
    ) -> Result<(), ExecutorError> {
        let mut line = |text: &str| observer.line(Stream::Stdout, format!("{text}\n").as_bytes());
        line(&format!("quire: pulling {}", image.full_name()));
        match self.context.engine.pull(image, &mut line).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_unavailable() => {
                Err(ExecutorError::from_engine("pull the image", error))
            }
            Err(error) => Err(ImageError::Pull {
                name: image.full_name(),
                message: error.engine_message(),
            }
            .into()),
        }
    }
}
