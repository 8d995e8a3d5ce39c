//! Images that only the manager's engine has, made available to the other nodes by a registry.
//!
//! The name of such an image in the registry stands for its content: it is made from its id. So it is pushed once, and the
//! registry may lose it.

use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;
use quire_types::names::RepoName;

use super::config::SwarmRegistry;
use super::job::JobImage;
use crate::api::StartObserver;
use crate::docker::context::DockerContext;
use crate::docker::engine_images::RunImage;
use crate::docker::image_names::build_tag;
use crate::engine::RegistryLogin;
use crate::error::{ExecutorError, ImageError};

impl SwarmRegistry {
    fn host(&self) -> &str {
        let address = &self.address;
        address.split_once('/').map_or(address, |(host, _)| host)
    }

    /// What an engine needs to pull this image; `None` if it needs nothing, or if the image is of another registry.
    pub(super) async fn login_for(
        &self,
        image: &ImageReference,
    ) -> Result<Option<RegistryLogin>, ExecutorError> {
        match image.registry() == Some(self.host()) {
            true => self.login().await,
            false => Ok(None),
        }
    }

    /// The credentials, read anew each time.
    async fn login(&self) -> Result<Option<RegistryLogin>, ExecutorError> {
        let Some((user, read)) = self.login.clone() else {
            return Ok(None);
        };
        let reading = tokio::task::spawn_blocking(move || read()).await;
        let password = reading.unwrap_or_else(|error| Err(error.to_string()));
        let password = password.map_err(|message| ImageError::RegistryPassword {
            registry: self.address.clone(),
            message,
        })?;
        Ok(Some(RegistryLogin {
            registry: self.host().to_owned(),
            user,
            password,
        }))
    }

    /// Pushes an image, unless it is there, and returns it as every node knows it.
    pub(super) async fn publish(
        &self,
        context: &DockerContext,
        repo: &RepoName,
        image: &RunImage,
        observer: &mut dyn StartObserver,
    ) -> Result<JobImage, ExecutorError> {
        let push_error = |message: String| ImageError::Push {
            registry: self.address.clone(),
            message,
        };
        let tag = build_tag(&context.config.instance, repo, &image.details.id);
        let reference: ImageReference = format!("{}/{tag}", self.address)
            .parse()
            .map_err(|_| push_error("it cannot be a part of the name of an image".to_owned()))?;
        let login = self.login().await?;
        let login_of_call = login.as_ref();
        let engine = &context.engine;
        let digest = match engine.registry_digest(&reference, login_of_call).await {
            Ok(digest) => digest,
            // It is not there, or the registry is away, which the push will say.
            Err(_) => {
                let line = format!("quire: pushing the image to {}\n", self.address);
                observer.line(Stream::Stdout, line.as_bytes());
                let pushed = engine.push_as(&image.details.id, &reference, login_of_call);
                let pushed = pushed.await;
                pushed.map_err(|error| push_error(error.engine_message()))?;
                let digest = engine.registry_digest(&reference, login_of_call).await;
                digest.map_err(|error| push_error(error.engine_message()))?
            }
        };
        match reference.with_digest(&digest) {
            Some(name) => Ok(JobImage {
                reference: name.to_string(),
                node: None,
                login,
            }),
            None => Err(push_error("it does not tell the digest of the image".to_owned()).into()),
        }
    }
}
