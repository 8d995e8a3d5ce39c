//! Images that only the manager's engine has, made available to the other nodes by a registry.
//!
//! The name of such an image in the registry stands for its content: it is made from its id. So it is pushed once, and the
//! registry may lose it.

use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;
use quire_types::names::RepoName;

use super::job::JobImage;
use crate::api::StartObserver;
use crate::docker::context::DockerContext;
use crate::docker::engine_images::RunImage;
use crate::docker::image_names::build_tag;
use crate::error::{ExecutorError, ImageError};

/// Pushes an image to the registry, unless it is there, and returns it as every node knows it.
pub(super) async fn publish(
    context: &DockerContext,
    registry: &str,
    repo: &RepoName,
    image: &RunImage,
    observer: &mut dyn StartObserver,
) -> Result<JobImage, ExecutorError> {
    let push_error = |message: String| ImageError::Push {
        registry: registry.to_owned(),
        message,
    };
    let tag = build_tag(&context.config.instance, repo, &image.details.id);
    let reference: ImageReference = format!("{registry}/{tag}")
        .parse()
        .map_err(|_| push_error("it cannot be a part of the name of an image".to_owned()))?;
    let engine = &context.engine;
    let digest = match engine.registry_digest(&reference).await {
        Ok(digest) => digest,
        // It is not there, or the registry is away, which the push will say.
        Err(_) => {
            let line = format!("quire: pushing the image to {registry}\n");
            observer.line(Stream::Stdout, line.as_bytes());
            let pushed = engine.push_as(&image.details.id, &reference).await;
            pushed.map_err(|error| push_error(error.engine_message()))?;
            let digest = engine.registry_digest(&reference).await;
            digest.map_err(|error| push_error(error.engine_message()))?
        }
    };
    match reference.with_digest(&digest) {
        Some(name) => Ok(JobImage {
            reference: name.to_string(),
            node: None,
        }),
        None => Err(push_error("it does not tell the digest of the image".to_owned()).into()),
    }
}
