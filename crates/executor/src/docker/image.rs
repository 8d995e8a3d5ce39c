//! The image of a run: by reference, or built from its tree.

use std::sync::Arc;

use super::base_images::DOCKERFILE;
use super::build_sources::{SourceCheck, build_error, build_failed};
use super::engine_images::{DockerImages, RunImage};
use super::image_names::build_tag;
use super::in_use::RunLease;
use super::newer_images::{NewestImage, is_look_due, is_of_registry, report_failed_look};
use crate::api::{ContainerSettings, ImageSource, LookResult, StartObserver, StartSpec};
use crate::engine::{Build, BuildSources, BuildSpec, ImageDetails};
use crate::error::{ExecutorError, ImageError};
use crate::images::BuiltImage;
use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;

/// Where programs are looked for if the image does not say it: as the engine does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is looked for before an image is built, for messages.
const BASE_IMAGES: &str = "newer base images";

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

/// The user of commands in a container of the image, in Docker's notation: what the run says, or else the image.
pub(super) fn command_user(image: &ImageDetails, settings: &ContainerSettings) -> String {
    let user = settings.user.as_ref().unwrap_or(&image.user);
    user.clone()
}

/// Whether newer base images are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Not,
    /// If that fails, the image is built with those of the engine.
    ForNewImage,
    /// If that fails, the existing image is used: it may have newer ones than the engine.
    ForExistingImage,
    /// If that fails, the start fails.
    Required,
}

impl DockerImages {
    /// Returns the run's image, pulled or built if it is missing.
    pub(super) async fn provide(
        &self,
        spec: &StartSpec,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<RunImage, ExecutorError> {
        match &spec.image {
            ImageSource::Reference(reference) => {
                self.ensure_image(reference, spec.rebuild, observer, lease)
                    .await
            }
            ImageSource::Dockerfile => self.provide_built(spec, observer, lease).await,
        }
    }

    /// Returns the image of a reference, pulled if it is missing or if a newer version is to be used, and keeps it for as long as
    /// the lease lives.
    pub(super) async fn ensure_image(
        &self,
        reference: &ImageReference,
        rebuild: bool,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<RunImage, ExecutorError> {
        let (image, is_new) = self.fetch(reference, observer, lease).await?;
        if is_new {
            let result = LookResult {
                image_id: image.details.id.clone(),
                newer: None,
            };
            observer.looked_for_newer(&image.name, &result);
            return Ok(image);
        }
        let newest = NewestImage {
            images: self,
            reference,
            rebuild,
            lease,
        };
        newest.find(image, observer).await
    }

    /// Returns the image of the run's tree, by its tag; built if it is missing or if newer base images are to be looked for.
    async fn provide_built(
        &self,
        spec: &StartSpec,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<RunImage, ExecutorError> {
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
        let look = self.look_for_bases(spec, &tag, existing.is_some(), observer);
        if let Some(details) = &existing
            && look == Look::Not
            && !spec.rebuild
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
            cache: !spec.rebuild,
            rules: check.before_reading(spec.tree.as_ref()).await?,
        };
        {
            let _build = self.context.in_use.begin_build().await;
            let reading = self.read_dockerfile(spec, &mut build, &check, look, observer);
            let begun = match (reading.await, existing) {
                (Ok(begun), _) => begun,
                // It was built from the same Dockerfile, so what failed is the look for newer images.
                (Err(ExecutorError::Image(error)), Some(details))
                    if look == Look::ForExistingImage =>
                {
                    report_failed_look(BASE_IMAGES, &error, observer);
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
        Ok(RunImage {
            name: tag,
            details: image,
        })
    }

    /// Whether newer base images of the image with this tag are looked for now. A run without a network fetches nothing.
    fn look_for_bases(
        &self,
        spec: &StartSpec,
        tag: &str,
        exists: bool,
        observer: &mut dyn StartObserver,
    ) -> Look {
        let policy = self.context.config.pull;
        let is_due = spec.rebuild || is_look_due(policy, observer.last_look(tag).as_ref());
        if !spec.limits.network || !is_due {
            return Look::Not;
        }
        observer.looked_for_newer(tag, &LookResult::default());
        match (spec.rebuild, exists) {
            (true, _) => Look::Required,
            (false, true) => Look::ForExistingImage,
            (false, false) => Look::ForNewImage,
        }
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
                report_failed_look(BASE_IMAGES, &error, observer);
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

    /// Whether the engine has some of these images, and all that it has came from the registries of their names.
    async fn are_of_registries(&self, names: &[ImageReference]) -> Result<bool, ExecutorError> {
        let mut has_some = false;
        for name in names {
            let Some(image) = self.find(&name.tagged_name()).await? else {
                continue;
            };
            if !is_of_registry(name, &image) {
                return Ok(false);
            }
            has_some = true;
        }
        Ok(has_some)
    }
}

/// Reports that an image that was built before is used.
fn use_existing(tag: String, details: ImageDetails, observer: &mut dyn StartObserver) -> RunImage {
    let line = format!("quire: using {tag}, built from the same tree before\n");
    observer.line(Stream::Stdout, line.as_bytes());
    observer.image_used(&tag);
    RunImage { name: tag, details }
}
