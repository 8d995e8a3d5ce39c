//! Images: find, pull, list, remove.

use std::time::Instant;

use bollard::models::ImageInspect;
use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt};

use super::client::{Engine, url_part};
use super::error::DockerError;
use super::labels::{Labels, label_filter};
use super::pull_progress::PullProgress;
use super::registry_login::RegistryLogin;
use super::transport::AnswerLimit;
use quire_types::image_reference::ImageReference;

/// An entry of a list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    pub labels: Labels,
    /// When it was built, in Unix seconds.
    pub created: i64,
}

/// What the engine knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetails {
    pub id: String,
    /// Names with tags and names with digests.
    pub names: Vec<String>,
    /// When it was built, in Unix seconds, as its author says.
    pub created: Option<i64>,
    /// The user of its commands; empty for root.
    pub user: String,
    pub labels: Labels,
    /// The environment of its commands, as `NAME=value`.
    pub env: Vec<String>,
}

impl Engine {
    async fn inspect(&self, reference: &str) -> Result<Option<ImageInspect>, DockerError> {
        let inspected = self.call_on(
            "inspect the image",
            self.timeouts().call,
            reference,
            |docker, reference| async move { docker.inspect_image(&reference).await },
        );
        match inspected.await {
            Ok(found) => Ok(Some(found)),
            Err(DockerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the id and the size in bytes of an image by name or id, with all of its layers; `None` if it does not exist.
    pub async fn image_size(&self, reference: &str) -> Result<Option<(String, u64)>, DockerError> {
        let found = self.inspect(reference).await?;
        Ok(found.and_then(|found| {
            let bytes = u64::try_from(found.size?).ok()?;
            Some((found.id.unwrap_or_default(), bytes))
        }))
    }

    /// Returns an image by name or id; `None` if it does not exist.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageDetails>, DockerError> {
        let Some(found) = self.inspect(reference).await? else {
            return Ok(None);
        };
        let created = found
            .created
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(jiff::Timestamp::as_second);
        let names = found
            .repo_tags
            .into_iter()
            .chain(found.repo_digests)
            .flatten()
            .filter(|name| !name.starts_with("<none>"))
            .collect();
        let config = found.config.unwrap_or_default();
        Ok(Some(ImageDetails {
            id: found.id.unwrap_or_default(),
            names,
            created,
            user: config.user.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            env: config.env.unwrap_or_default(),
        }))
    }

    /// Returns the image of a container, `None` if one of them does not exist.
    pub async fn image_of_container(&self, id: &str) -> Result<Option<ImageDetails>, DockerError> {
        let found = self.inspect_container(id).await?;
        match found.and_then(|container| container.image) {
            Some(image) => self.image(&image).await,
            None => Ok(None),
        }
    }

    /// Pulls an image; calls `line` with progress, a few times in all. Dropping it cancels the pull.
    ///
    /// # Errors
    /// [`DockerError::RegistrySilent`] if the registry sends nothing for long: the engine itself
    /// would wait for ever.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), DockerError> {
        let attempt = "pull the image";
        let options = query::CreateImageOptions {
            from_image: Some(reference.full_name()),
            ..Default::default()
        };
        let limit = AnswerLimit::of_pieces();
        let docker = limit.attach(self.client().await?);
        let mut stream = docker.create_image(Some(options), None, None).boxed();
        let mut progress = PullProgress::default();
        while let Some(info) = self.next_piece(attempt, &mut stream, &limit).await? {
            progress.update(&info, Instant::now(), line);
        }
        Ok(())
    }

    /// Pushes an image under another name, which the engine has no longer than that takes.
    pub async fn push_as(
        &self,
        image: &str,
        name: &ImageReference,
        login: Option<&RegistryLogin>,
    ) -> Result<(), DockerError> {
        let full_name = name.full_name();
        let (repository, tag) = full_name.rsplit_once(':').unwrap_or((&full_name, "latest"));
        let options = query::TagImageOptions {
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
        };
        let limit = self.timeouts().call;
        self.call_on("name the image", limit, image, |docker, image| async move {
            docker.tag_image(&image, Some(options)).await
        })
        .await?;
        let pushed = self.push(repository, tag, login).await;
        // What was pushed stays in the registry; a name that is left does no harm.
        let _ = self.remove_image(&full_name).await;
        pushed
    }

    async fn push(
        &self,
        repository: &str,
        tag: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<(), DockerError> {
        let attempt = "push the image";
        let options = query::PushImageOptions {
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        let limit = AnswerLimit::of_pieces();
        let docker = limit.attach(self.client().await?);
        let repository = url_part(repository)?;
        let credentials = login.map(RegistryLogin::credentials);
        let pushing = docker.push_image(&repository, Some(options), credentials);
        let mut stream = pushing.boxed();
        while self
            .next_piece(attempt, &mut stream, &limit)
            .await?
            .is_some()
        {}
        Ok(())
    }

    /// Returns the next piece of what the engine says of its traffic with a registry; `None` at the end.
    async fn next_piece<T>(
        &self,
        attempt: &'static str,
        stream: &mut (impl Stream<Item = Result<T, bollard::errors::Error>> + Unpin),
        limit: &AnswerLimit,
    ) -> Result<Option<T>, DockerError> {
        let after = self.timeouts().pull_idle;
        let next = tokio::time::timeout(after, self.next_with_liveness(stream));
        let silent = |_| DockerError::RegistrySilent { after };
        match next.await.map_err(silent)?? {
            None => Ok(None),
            Some(Ok(piece)) => {
                limit.renew();
                Ok(Some(piece))
            }
            Some(Err(error)) => {
                let error = DockerError::of_stream(attempt, error, limit);
                Err(self.diagnose(error).await)
            }
        }
    }

    /// Asks the registry of an image for the digest of its newest version.
    pub async fn registry_digest(
        &self,
        reference: &ImageReference,
        login: Option<&RegistryLogin>,
    ) -> Result<String, DockerError> {
        let credentials = login.map(RegistryLogin::credentials);
        let name = reference.full_name();
        let inspected = self.call_on(
            "look up the image in its registry",
            self.timeouts().lifecycle,
            &name,
            |docker, name| async move { docker.inspect_registry_image(&name, credentials).await },
        );
        let descriptor = inspected.await?.descriptor;
        Ok(descriptor.digest.unwrap_or_default())
    }

    /// Lists the images that carry all of the labels, the newest first.
    pub async fn images(&self, labels: &Labels) -> Result<Vec<ListedImage>, DockerError> {
        let options = query::ListImagesOptions {
            filters: Some(label_filter(labels)),
            ..Default::default()
        };
        let listed = self
            .call("list images", self.timeouts().call, |docker| async move {
                docker.list_images(Some(options)).await
            })
            .await?;
        let named = |names: Vec<String>| -> Vec<String> {
            let is_name = |name: &String| !name.starts_with("<none>");
            names.into_iter().filter(is_name).collect()
        };
        let entry = |image: bollard::models::ImageSummary| ListedImage {
            id: image.id,
            tags: named(image.repo_tags),
            digests: named(image.repo_digests),
            labels: image.labels.into_iter().collect(),
            created: image.created,
        };
        let mut images: Vec<ListedImage> = listed.into_iter().map(entry).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(images)
    }

    /// Removes one name of an image, and the image with its last name. Returns `false` if it does
    /// not exist or is in use.
    pub async fn remove_image(&self, reference: &str) -> Result<bool, DockerError> {
        let removed = self.call_on(
            "remove the image",
            self.timeouts().lifecycle,
            reference,
            |docker, reference| async move {
                docker
                    .remove_image(&reference, None::<query::RemoveImageOptions>, None)
                    .await
            },
        );
        match removed.await {
            Ok(_) => Ok(true),
            Err(DockerError::NotFound { .. } | DockerError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
