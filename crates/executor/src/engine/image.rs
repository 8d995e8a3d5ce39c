//! Images: find, pull, build, list, remove.

use std::time::Instant;

use bollard::Docker;
use bollard::models::BuildInfo;
use bollard::query_parameters as query;
use futures_util::StreamExt;

use super::client::Engine;
use super::error::DockerError;
use super::labels::{Labels, label_filter, label_map};
use super::pull_progress::PullProgress;
use super::transport::AnswerLimit;
use super::upload_body::UploadBody;
use crate::tar_stream::TarStream;
use quire_types::image_reference::ImageReference;

/// What an image is built from. The limits hold for the commands of its Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Name and tag.
    pub tag: String,
    /// The path of the Dockerfile in the build context.
    pub dockerfile: String,
    pub labels: Labels,
    /// CPUs in thousandths.
    pub milli_cpus: u64,
    /// The weight against other containers.
    pub cpu_shares: u32,
    /// The limit of memory, and of memory plus swap, in bytes.
    pub memory: u64,
    /// Whether commands have a network: the engine's default bridge.
    pub network: bool,
    /// A host name that the containers of the build have, as the mark by which they are found.
    pub mark: String,
}

/// An entry of a list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
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

/// What a line of a build's output says about its progress. Commands of the build can print such
/// lines as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// The build now stands on this image, built or found in the cache: the beginning of its id.
    Layer(String),
    /// A stage begins with the image of this name.
    From(String),
    /// The engine has pulled the image of this name for the build.
    Pulled(String),
}

impl Engine {
    /// Returns an image by name or id; `None` if it does not exist.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageDetails>, DockerError> {
        let inspected = self.call_on(
            "inspect the image",
            self.timeouts().call,
            reference,
            |docker, reference| async move { docker.inspect_image(&reference).await },
        );
        let found = match inspected.await {
            Ok(found) => found,
            Err(DockerError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
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
        let after = self.timeouts().pull_idle;
        let silent = |_| DockerError::RegistrySilent { after };
        while let Some(info) = tokio::time::timeout(after, self.next_with_liveness(&mut stream))
            .await
            .map_err(silent)??
        {
            let info = match info {
                Ok(info) => info,
                Err(error) => {
                    return Err(self
                        .diagnose(DockerError::of_stream(attempt, error, &limit))
                        .await);
                }
            };
            limit.renew();
            progress.update(&info, Instant::now(), line);
        }
        Ok(())
    }

    /// Builds an image from a tar stream; calls `output` with the log, and with the event that a
    /// line stands for. Dropping it cancels the build.
    pub async fn build(
        &self,
        spec: &BuildSpec,
        context: TarStream,
        output: &mut (dyn FnMut(&[u8], Option<BuildEvent>) + Send),
    ) -> Result<(), DockerError> {
        let attempt = "build the image";
        let upload = UploadBody::default();
        let body = bollard::body_try_stream(upload.watch(context));
        let limit = AnswerLimit::of_pieces();
        let docker = for_build(self.client().await?, spec.memory, limit.clone());
        let mut stream = docker
            .build_image(build_options(spec), None, Some(body))
            .boxed();
        while let Some(info) = self.next_with_liveness(&mut stream).await? {
            match info {
                Ok(info) => report_build_info(&info, output),
                // The id of the built image, in the form that some engines send it.
                Err(bollard::errors::Error::JsonDataError { .. }) => {}
                Err(error) => {
                    let error = DockerError::of_stream(attempt, error, &limit);
                    return Err(self.diagnose(upload.source_error_or(error)).await);
                }
            }
            limit.renew();
        }
        Ok(())
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
        let entry = |image: bollard::models::ImageSummary| ListedImage {
            id: image.id,
            tags: image
                .repo_tags
                .into_iter()
                .filter(|tag| !tag.starts_with("<none>"))
                .collect(),
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

/// Returns the client with the limit of its answers, and with the limit of memory added to its
/// requests: bollard's own fields for it end at 2 GiB.
fn for_build(docker: Docker, bytes: u64, limit: AnswerLimit) -> Docker {
    docker.with_request_modifier(move |request| {
        let mut request = limit.apply(request);
        let limited = format!("{}&memory={bytes}&memswap={bytes}", request.uri());
        // Digits cannot make a URI invalid.
        if let Ok(limited) = limited.parse() {
            *request.uri_mut() = limited;
        }
        request
    })
}

fn build_options(spec: &BuildSpec) -> query::BuildImageOptions {
    let period = 100_000_i32;
    query::BuildImageOptions {
        dockerfile: spec.dockerfile.clone(),
        t: Some(spec.tag.clone()),
        labels: Some(label_map(&spec.labels)),
        rm: true,
        forcerm: true,
        cpushares: i32::try_from(spec.cpu_shares).ok(),
        cpuperiod: Some(period),
        cpuquota: i32::try_from(spec.milli_cpus.saturating_mul(100)).ok(),
        extrahosts: Some(format!("{}:127.0.0.1", spec.mark)),
        networkmode: Some(if spec.network { "bridge" } else { "none" }.to_owned()),
        ..Default::default()
    }
}

fn report_build_info(info: &BuildInfo, output: &mut (dyn FnMut(&[u8], Option<BuildEvent>) + Send)) {
    if let Some(text) = &info.stream {
        output(text.as_bytes(), parse_event(text));
    } else if let Some(status) = &info.status
        && info
            .progress_detail
            .as_ref()
            .is_none_or(|progress| progress.current.is_none())
    {
        let pulled = status
            .strip_prefix("Status: Downloaded newer image for ")
            .map(|name| BuildEvent::Pulled(name.trim().to_owned()));
        output(format!("{status}\n").as_bytes(), pulled);
    }
}

/// Parses a line of the builder: ` ---> 0123456789ab` or `Step 1/2 : FROM image AS stage`.
fn parse_event(text: &str) -> Option<BuildEvent> {
    if let Some(id) = text.strip_prefix(" ---> ") {
        let id = id.strip_suffix('\n')?;
        return (id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| BuildEvent::Layer(id.to_owned()));
    }
    let instruction = text.strip_prefix("Step ")?.split_once(" : ")?.1;
    let mut words = instruction.split_ascii_whitespace();
    let is_from = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("from"));
    words
        .find(|word| !word.starts_with("--"))
        .filter(|_| is_from)
        .map(|name| BuildEvent::From(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_builder_are_parsed() {
        let layer = || Some(BuildEvent::Layer("0123456789ab".into()));
        let from = |name: &str| Some(BuildEvent::From(name.into()));
        for (text, event) in [
            (" ---> 0123456789ab\n", layer()),
            (" ---> Running in 0123456789ab\n", None),
            (" ---> 0123456789ab", None),
            (" ---> 0123456789abc\n", None),
            ("Step 1/2 : FROM debian:13 AS one", from("debian:13")),
            ("Step 1/2 : from --platform=linux/arm64 a/b", from("a/b")),
            ("Step 2/2 : RUN FROM x", None),
            ("Step 1/2 : FROM", None),
        ] {
            assert_eq!(parse_event(text), event, "{text:?}");
        }
    }
}
