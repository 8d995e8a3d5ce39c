//! The image of a run: by reference, or built from its tree.

use std::sync::Arc;
use std::time::Instant;

use super::base_images::DOCKERFILE;
use super::base_looks::BaseLooks;
use super::build_sources::{SourceCheck, build_error, build_failed};
use super::context::DockerContext;
use super::image_names::build_tag;
use super::in_use::RunLease;
use super::registries::check_registry;
use crate::api::{ImageSource, StartObserver, StartSpec};
use crate::engine::{Build, BuildSources, BuildSpec, ImageDetails};
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

/// Whether newer base images are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Not,
    /// If that fails, the image is built with those of the engine.
    ForNewImage,
    /// If that fails, the existing image is used: it may have newer ones than the engine.
    ForExistingImage,
}

/// The images on the engine. Cheap to clone.
#[derive(Clone)]
pub(super) struct DockerImages {
    pub(super) context: DockerContext,
    looks: BaseLooks,
}

impl DockerImages {
    pub(super) fn new(context: DockerContext) -> Self {
        Self {
            context,
            looks: BaseLooks::default(),
        }
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
        let existing = match content {
            Some(_) => self.find(&tag).await?,
            None => None,
        };
        let policy = self.context.config.pull;
        let looks = spec.limits.network && self.looks.take_due(policy, &tag, Instant::now());
        if let Some(details) = &existing
            && !looks
        {
            return Ok(use_existing(tag, details.clone(), observer));
        }
        let engine = &self.context.engine;
        let identity = engine.identity().await.map_err(build_error)?;
        let check = SourceCheck {
            context: &self.context,
            network: spec.limits.network,
        };
        observer.build_started(&identity.id, &tag);
        let mut build = BuildSpec {
            tag: tag.clone(),
            dockerfile: DOCKERFILE.to_owned(),
            labels: self.context.build_labels(&tag),
            network: spec.limits.network,
            pull: false,
            rules: check.before_reading(spec.tree.as_ref()).await?,
        };
        {
            let _build = self.context.in_use.begin_build().await;
            let look = match (looks, &existing) {
                (false, _) => Look::Not,
                (true, None) => Look::ForNewImage,
                (true, Some(_)) => Look::ForExistingImage,
            };
            let reading = self.read_dockerfile(spec, &mut build, &check, look, observer);
            let begun = match (reading.await, existing) {
                (Ok(begun), _) => begun,
                // It was built from the same Dockerfile, so what failed is the look for newer images.
                (Err(ExecutorError::Image(error)), Some(details)) => {
                    report_failed_look(&error, observer);
                    return Ok(use_existing(tag, details, observer));
                }
                (Err(error), _) => return Err(error),
            };
            let mut output = |bytes: &[u8]| observer.line(Stream::Stdout, bytes);
            begun.finish(&mut output).await.map_err(build_failed)?;
        }
        let image = engine.image(&tag).await.map_err(build_error)?;
        let image = image.ok_or_else(|| ImageError::Build {
            dockerfile,
            message: "the engine does not have the image that it built".to_owned(),
        })?;
        observer.build_finished(&BuiltImage {
            engine: identity.id,
            tag: tag.clone(),
            id: image.id.clone(),
        });
        Ok((tag, image))
    }

    /// Has the engine read the Dockerfile, checks what it would fetch, and reports the images that it uses. If newer base images
    /// are to be looked for, it is read once more with those of registries, if that succeeds.
    async fn read_dockerfile(
        &self,
        spec: &StartSpec,
        build: &mut BuildSpec,
        check: &SourceCheck<'_>,
        look: Look,
        observer: &mut dyn StartObserver,
    ) -> Result<Build, ExecutorError> {
        let line = format!("quire: building the image from {DOCKERFILE}\n");
        observer.line(Stream::Stdout, line.as_bytes());
        let (begun, sources) = self.read_once(spec, build, check, observer).await?;
        let mut names = Vec::new();
        names.extend(sources.images.iter().filter_map(|name| name.parse().ok()));
        for name in &names {
            observer.image_used(&ImageReference::full_name(name));
        }
        if look == Look::Not || !self.are_of_registries(&names).await? {
            return Ok(begun);
        }
        drop(begun);
        build.pull = true;
        match self.read_once(spec, build, check, observer).await {
            Ok((begun, _)) => return Ok(begun),
            Err(ExecutorError::Image(error)) if look == Look::ForNewImage => {
                report_failed_look(&error, observer);
            }
            Err(error) => return Err(error),
        }
        build.pull = false;
        let (begun, _) = self.read_once(spec, build, check, observer).await?;
        Ok(begun)
    }

    async fn read_once(
        &self,
        spec: &StartSpec,
        build: &BuildSpec,
        check: &SourceCheck<'_>,
        observer: &mut dyn StartObserver,
    ) -> Result<(Build, BuildSources), ExecutorError> {
        let tree = Arc::clone(&spec.tree);
        let open = Arc::new(move || tree.archive());
        let mut output = |bytes: &[u8]| observer.line(Stream::Stdout, bytes);
        let begun = self.context.engine.begin_build(build, open, &mut output);
        let begun = begun.await.map_err(|error| check.reading_failed(error))?;
        let sources = begun.sources().map_err(build_error)?;
        check.after_reading(&sources).await?;
        Ok((begun, sources))
    }

    /// Whether the engine has some of these images, and all that it has came from the registries of their names. An image that
    /// a user built is not looked for: its name may belong to another image there.
    async fn are_of_registries(&self, names: &[ImageReference]) -> Result<bool, ExecutorError> {
        let mut has_some = false;
        for name in names {
            let Some(image) = self.find(&name.tagged_name()).await? else {
                continue;
            };
            let repository = name.qualified_repository();
            let is_pulled = image.names.iter().any(|known| {
                let known = known.parse::<ImageReference>();
                known.is_ok_and(|known| {
                    known.has_digest() && known.qualified_repository() == repository
                })
            });
            if !is_pulled {
                return Ok(false);
            }
            has_some = true;
        }
        Ok(has_some)
    }
}

/// Reports that newer base images were looked for in vain.
fn report_failed_look(error: &ImageError, observer: &mut dyn StartObserver) {
    let line = format!("quire: cannot look for newer base images: {error}\n");
    observer.line(Stream::Stdout, line.as_bytes());
}

/// Reports that an image that was built before is used.
fn use_existing(
    tag: String,
    details: ImageDetails,
    observer: &mut dyn StartObserver,
) -> (String, ImageDetails) {
    let line = format!("quire: using {tag}, built from the same tree before\n");
    observer.line(Stream::Stdout, line.as_bytes());
    observer.image_used(&tag);
    (tag, details)
}
