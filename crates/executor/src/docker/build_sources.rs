//! What a build may fetch: images, if it has a network, but not those of local registries; without a network nothing.
//!
//! It is checked three times. Engine 24 and newer have rules for what their BuildKit fetches. For an older one the Dockerfile is
//! looked through for names of images before it reads it, because reading it already fetches what it says of its base images.
//! And every engine says what it has read, before it executes it: that decides.

use quire_types::image_reference::ImageReference;

use super::base_images::{self, DOCKERFILE};
use super::context::DockerContext;
use super::registries::check_registry;
use crate::api::Tree;
use crate::engine::{BuildSources, DockerError, SourceRule};
use crate::error::{ExecutorError, ImageError};

/// What the engine's answer says if a rule denies a source.
const DENIED: &str = "denied by policy";

/// Hosts that end with what an address may end with, or have a name of the own machine, or are IPv6 addresses.
const MAYBE_LOCAL: &str = r"(?i)(\[|([^/]*\.)?(localhost|localdomain|[0-9][^./:]*)(:[0-9]+)?/)";
/// IPv4 addresses.
const IPV4: &str = r"((0|[1-9][0-9]{0,2})\.){3}(0|[1-9][0-9]{0,2})(:[0-9]+)?/";
/// IPv4 addresses of the own machine and of its link.
const LOCAL_IPV4: &str = r"(0|127|169\.254)\.";

/// A build's limits for what it fetches.
pub(super) struct SourceCheck<'a> {
    pub(super) context: &'a DockerContext,
    pub(super) network: bool,
}

impl SourceCheck<'_> {
    /// Returns the rules for the engine's BuildKit, after the check that an engine without rules needs.
    pub(super) async fn before_reading(
        &self,
        tree: &dyn Tree,
    ) -> Result<Vec<SourceRule>, ExecutorError> {
        let engine = &self.context.engine;
        let has_rules = engine.has_source_rules().await.map_err(build_error)?;
        if !has_rules {
            for name in base_images::names_in(tree).await? {
                self.check_image(&name).await?;
            }
        }
        self.rules().await
    }

    async fn rules(&self) -> Result<Vec<SourceRule>, ExecutorError> {
        let mut rules = vec![SourceRule::deny("."), SourceRule::allow("^local://")];
        if self.network {
            rules.push(SourceRule::allow_images("."));
            rules.push(SourceRule::deny_images(MAYBE_LOCAL));
            rules.push(SourceRule::allow_images(IPV4));
            rules.push(SourceRule::deny_images(LOCAL_IPV4));
            let listed = self.context.config.registries.iter();
            rules.extend(listed.map(|registry| {
                let host: String = registry.chars().flat_map(escaped).collect();
                SourceRule::allow_images(&format!("(?i){host}(:[0-9]+)?/"))
            }));
            return Ok(rules);
        }
        let images = self.context.engine.images(&Vec::new()).await;
        for image in images.map_err(build_error)? {
            for name in image.tags.iter().chain(&image.digests) {
                if let Ok(reference) = name.parse::<ImageReference>() {
                    rules.push(SourceRule::allow_image(&reference.qualified_name()));
                }
            }
        }
        Ok(rules)
    }

    /// Checks what the engine read in the Dockerfile.
    pub(super) async fn after_reading(&self, sources: &BuildSources) -> Result<(), ExecutorError> {
        if let Some(address) = sources.addresses.first() {
            return Err(ImageError::RemoteSource {
                dockerfile: DOCKERFILE,
                address: quire_pipeline::sanitize_message(address),
            }
            .into());
        }
        if sources.network && !self.network {
            return Err(ImageError::BuildNetwork {
                dockerfile: DOCKERFILE,
            }
            .into());
        }
        for image in &sources.images {
            match image.parse::<ImageReference>() {
                Ok(reference) => self.check_image(&reference).await?,
                Err(_) => return Err(unknown_image(image)),
            }
        }
        Ok(())
    }

    async fn check_image(&self, reference: &ImageReference) -> Result<(), ExecutorError> {
        check_registry(reference, &self.context.config.registries)?;
        if self.network {
            return Ok(());
        }
        let found = self.context.engine.image(&reference.full_name()).await;
        match found.map_err(build_error)? {
            Some(_) => Ok(()),
            None => Err(ImageError::MissingBaseImage {
                name: reference.to_string(),
            }
            .into()),
        }
    }

    /// Returns the error of a build that failed while the engine read the Dockerfile.
    pub(super) fn reading_failed(&self, error: DockerError) -> ExecutorError {
        let message = error.engine_message();
        let denied = message.find(DENIED);
        let name =
            denied.and_then(|end| message[..end].trim_end().rsplit("docker-image://").next());
        match name {
            Some(name) => {
                let name = name.trim_end_matches(['"', ' ', ':']);
                match name.parse::<ImageReference>() {
                    Ok(reference) => {
                        let registries = &self.context.config.registries;
                        match check_registry(&reference, registries) {
                            Err(error) => error.into(),
                            Ok(()) => ImageError::MissingBaseImage {
                                name: name.to_owned(),
                            }
                            .into(),
                        }
                    }
                    Err(_) => build_failed(error),
                }
            }
            None => build_failed(error),
        }
    }
}

/// Escapes a character of a host for a regular expression.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let is_plain = c.is_ascii_alphanumeric() || c == ':' || c == '-';
    (!is_plain).then_some('\\').into_iter().chain([c])
}

pub(super) fn build_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("build the image", error)
}

/// Returns the error of a build that failed: the engine's fault, or that of the Dockerfile.
pub(super) fn build_failed(error: DockerError) -> ExecutorError {
    if error.is_unavailable() || matches!(error, DockerError::UploadSource(_)) {
        return build_error(error);
    }
    ImageError::Build {
        dockerfile: DOCKERFILE,
        message: error.engine_message(),
    }
    .into()
}

pub(super) fn unknown_image(name: &str) -> ExecutorError {
    ImageError::UnknownBaseImage {
        dockerfile: DOCKERFILE,
        name: quire_pipeline::sanitize_message(name),
    }
    .into()
}
