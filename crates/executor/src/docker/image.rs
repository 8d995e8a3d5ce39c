//! The image of a run: by reference, or built from its tree.

use std::sync::Arc;

use super::base_images::DOCKERFILE;
use super::build_sources::{SourceCheck, build_error, build_failed};
use super::context::DockerContext;
use super::image_names::build_tag;
use super::in_use::RunLease;
use super::registries::check_registry;
use crate::api::{ImageSource, StartObserver, StartSpec};
use crate::engine::{BuildSpec, ImageDetails};
use crate::error::{ExecutorError, ImageError};
use crate::images::BuiltImage;
use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;

/// Where programs are looked for if the image does not say it: as the engine does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image that exists.
pub(super) struct RunImage {
    /// Its full name.
    pub(super) name: String,
    pub(super) details: ImageDetails,
}

/// The environment of commands in a container of the image: what the image says, then what the run
/// adds.
pub(super) fn command_env(image: &ImageDetails, run: &[(String, String)]) -> Vec<(String, String)> {
    let path = ("PATH".to_owned(), DEFAULT_PATH.to_owned());
    let of_image = image.env.iter().filter_map(|entry| {
        let (name, value) = entry.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    std::iter::once(path)
        .chain(of_image)
        .chain(run.iter().cloned())
        .collect()
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

    /// Returns the run's image, pulled or built if it is missing.
    pub(super) async fn provide(
        &self,
        spec: &StartSpec,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<RunImage, ExecutorError> {
        let (name, details) = match &spec.image {
            ImageSource::Reference(reference) => {
                let details = self.ensure_image(reference, observer, lease).await?;
                (reference.full_name(), details)
            }
            ImageSource::Dockerfile => self.provide_built(spec, observer, lease).await?,
        };
        Ok(RunImage { name, details })
    }

    /// Pulls an image by reference if it is missing, and keeps it for as long as the lease lives.
    pub(super) async fn ensure_image(
        &self,
        reference: &ImageReference,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<ImageDetails, ExecutorError> {
        let name = reference.full_name();
        lease.take(&name).await;
        if let Some(details) = self.find(&name).await? {
            observer.image_used(&name);
            return Ok(details);
        }
        check_registry(reference, &self.context.config.registries)?;
        self.pull(reference, observer).await?;
        self.record_pulled(reference, observer).await;
        self.find(&name)
            .await?
            .ok_or_else(|| ImageError::MissingAfterPull { name }.into())
    }

    /// Returns an image; `None` if it does not exist.
    async fn find(&self, name: &str) -> Result<Option<ImageDetails>, ExecutorError> {
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

    /// Returns the tag of the image of the run's tree, built if it is missing, and the image.
    async fn provide_built(
        &self,
        spec: &StartSpec,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<(String, ImageDetails), ExecutorError> {
        let dockerfile = DOCKERFILE;
        if !spec.tree.has_dockerfile() {
            return Err(ImageError::NoDockerfile { dockerfile }.into());
        }
        let content = spec.tree.id();
        let tag = build_tag(
            &self.context.config.instance,
            &spec.repo,
            content.as_deref().unwrap_or(&spec.run.to_string()),
        );
        // Taken before it is looked for, so that the end of another run's build does not remove it
        // in between.
        lease.take(&tag).await;
        if content.is_some()
            && let Some(details) = self.find(&tag).await?
        {
            let line = format!("quire: using {tag}, built from the same tree before\n");
            observer.line(Stream::Stdout, line.as_bytes());
            observer.image_used(&tag);
            return Ok((tag, details));
        }
        let engine = &self.context.engine;
        let identity = engine.identity().await.map_err(build_error)?;
        let check = SourceCheck {
            context: &self.context,
            network: spec.limits.network,
        };
        observer.build_started(&identity.id, &tag);
        let build = BuildSpec {
            tag: tag.clone(),
            dockerfile: DOCKERFILE.to_owned(),
            labels: self.context.build_labels(&tag),
            network: spec.limits.network,
            rules: check.before_reading(spec.tree.as_ref()).await?,
        };
        {
            let _build = self.context.in_use.begin_build().await;
            self.build(spec, &build, &check, observer).await?;
        }
        let Some(image) = engine.image(&tag).await.map_err(build_error)? else {
            let message = "the engine does not have the image that it built".to_owned();
            return Err(ImageError::Build {
                dockerfile,
                message,
            }
            .into());
        };
        observer.build_finished(&BuiltImage {
            engine: identity.id,
            tag: tag.clone(),
            id: image.id.clone(),
        });
        Ok((tag, image))
    }

    /// Builds, and reports the images that the build uses. Its commands have a network if the run has one, but not the same.
    async fn build(
        &self,
        spec: &StartSpec,
        build: &BuildSpec,
        check: &SourceCheck<'_>,
        observer: &mut dyn StartObserver,
    ) -> Result<(), ExecutorError> {
        let line = format!("quire: building the image from {DOCKERFILE}\n");
        observer.line(Stream::Stdout, line.as_bytes());
        let tree = Arc::clone(&spec.tree);
        let open = Arc::new(move || tree.archive());
        let engine = &self.context.engine;
        let begun = {
            let mut output = |bytes: &[u8]| observer.line(Stream::Stdout, bytes);
            engine.begin_build(build, open, &mut output).await
        };
        let begun = begun.map_err(|error| check.reading_failed(error))?;
        let sources = begun.sources().map_err(build_error)?;
        check.after_reading(&sources).await?;
        for image in &sources.images {
            if let Ok(reference) = image.parse::<ImageReference>() {
                observer.image_used(&reference.full_name());
            }
        }
        let mut output = |bytes: &[u8]| observer.line(Stream::Stdout, bytes);
        begun.finish(&mut output).await.map_err(build_failed)
    }
}
