//! Images: find, pull, build, list, remove.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{BuildInfo, CreateImageInfo};
use bollard::query_parameters as query;
use futures_util::StreamExt;

use super::container::connect;
use super::{Attachment, DockerError, Engine, Feed, Labels, TarStream, label_filter, label_map};

/// What an image is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Name and tag.
    pub tag: String,
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Labels of the image.
    pub labels: Labels,
    /// CPUs in thousandths for its commands.
    pub milli_cpus: u64,
    /// Weight of its commands against other containers.
    pub cpu_shares: u32,
    /// Memory (and memory plus swap) in bytes for its commands.
    pub memory: u64,
    /// What its commands are connected to.
    pub network: Attachment,
}

/// An image of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its id.
    pub id: String,
    /// Its names with tags.
    pub tags: Vec<String>,
    /// Its labels.
    pub labels: Labels,
    /// When it was built, in Unix seconds.
    pub created: i64,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageState {
    /// Its id.
    pub id: String,
    /// Its names, with tags and with digests.
    pub names: Vec<String>,
    /// When it was made, in Unix seconds; of an image that was pulled, by whom it comes from.
    pub created: Option<i64>,
}

/// What a build says of its course, beside its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildNews {
    /// It stands on this image now, made or found: the beginning of its id. Commands of the build can say so too.
    Layer(String),
    /// It begins with the image of this name. Commands of the build can say so too.
    From(String),
    /// The engine has pulled the image of this name for it.
    Pulled(String),
}

impl Engine {
    /// An image by name or id; none when it is not there.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageState>, DockerError> {
        let asked = self.call(
            "inspect the image",
            self.timings().call,
            |docker| async move { docker.inspect_image(reference).await },
        );
        let found = match asked.await {
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
        Ok(Some(ImageState {
            id: found.id.unwrap_or_default(),
            names,
            created,
        }))
    }

    /// The user that an image's commands run as (empty for root); none when it is not there.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn image_user(&self, reference: &str) -> Result<Option<String>, DockerError> {
        let asked = self.call(
            "inspect the image",
            self.timings().call,
            |docker| async move { docker.inspect_image(reference).await },
        );
        match asked.await {
            Ok(image) => Ok(Some(
                image
                    .config
                    .and_then(|config| config.user)
                    .unwrap_or_default(),
            )),
            Err(DockerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image; `line` gets progress, a few lines in all. Ends when dropped.
    ///
    /// # Errors
    /// With the registry's words; [`DockerError::Silent`] when it has none for long, which the engine would wait for without end.
    pub async fn pull(
        &self,
        reference: &str,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), DockerError> {
        let attempt = "pull the image";
        let options = query::CreateImageOptions {
            from_image: Some(full_reference(reference)),
            ..Default::default()
        };
        let docker = self.client().await?;
        let mut stream = docker.create_image(Some(options), None, None).boxed();
        let mut progress = Progress::default();
        let after = self.timings().pull;
        let silent = |_| DockerError::Silent { after };
        while let Some(info) = tokio::time::timeout(after, self.next_of(&mut stream))
            .await
            .map_err(silent)??
        {
            let info = match info {
                Ok(info) => info,
                Err(error) => {
                    return Err(self
                        .diagnose(DockerError::from_bollard(attempt, error))
                        .await);
                }
            };
            progress.take(&info, Instant::now(), line);
        }
        Ok(())
    }

    /// Builds an image from a tar stream; `output` gets the log as it comes, and `news` what it means. Ends when dropped.
    ///
    /// # Errors
    /// With the builder's words.
    pub async fn build(
        &self,
        spec: &BuildSpec,
        context: TarStream,
        output: &mut (dyn FnMut(&[u8], Option<BuildNews>) + Send),
    ) -> Result<(), DockerError> {
        let attempt = "build the image";
        let feed = Feed::default();
        let body = bollard::body_try_stream(feed.watch(context));
        let docker = limit_memory(self.client().await?, spec.memory);
        let mut stream = docker
            .build_image(build_options(spec), None, Some(body))
            .boxed();
        while let Some(info) = self.next_of(&mut stream).await? {
            match info {
                Ok(info) => build_output(&info, output),
                // The image's id, as some engines spell it.
                Err(bollard::errors::Error::JsonDataError { .. }) => {}
                Err(error) => {
                    return Err(self
                        .diagnose(feed.blame(DockerError::from_bollard(attempt, error)))
                        .await);
                }
            }
        }
        Ok(())
    }

    /// The images that carry all of the labels, newest first.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn images(&self, labels: &Labels) -> Result<Vec<ListedImage>, DockerError> {
        let options = query::ListImagesOptions {
            filters: Some(label_filter(labels)),
            ..Default::default()
        };
        let listed = self
            .call("list images", self.timings().call, |docker| async move {
                docker.list_images(Some(options)).await
            })
            .await?;
        let real = |tag: &String| !tag.starts_with("<none>");
        let mut images: Vec<ListedImage> = listed
            .into_iter()
            .map(|i| {
                let (tags, labels) = (
                    i.repo_tags.into_iter().filter(real).collect(),
                    i.labels.into_iter().collect(),
                );
                ListedImage {
                    id: i.id,
                    tags,
                    labels,
                    created: i.created,
                }
            })
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(images)
    }

    /// Removes one name of an image, and the image with its last name. One that is missing or in use is fine; gives whether it went.
    ///
    /// # Errors
    /// When the engine cannot do it.
    pub async fn remove_image(&self, reference: &str) -> Result<bool, DockerError> {
        let removed = self.call(
            "remove the image",
            self.timings().heavy,
            |docker| async move {
                docker
                    .remove_image(reference, None::<query::RemoveImageOptions>, None)
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

/// The client with the limit of memory added to what it asks: its own fields for it end at 2 GiB.
fn limit_memory(docker: Docker, bytes: u64) -> Docker {
    docker.with_request_modifier(move |mut request| {
        let limited = format!("{}&memory={bytes}&memswap={bytes}", request.uri());
        // Digits cannot make an address unfit.
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
        networkmode: Some(connect(&spec.network, None).0),
        ..Default::default()
    }
}

fn build_output(info: &BuildInfo, output: &mut (dyn FnMut(&[u8], Option<BuildNews>) + Send)) {
    if let Some(text) = &info.stream {
        output(text.as_bytes(), told(text));
    } else if let Some(status) = &info.status
        && info
            .progress_detail
            .as_ref()
            .is_none_or(|p| p.current.is_none())
    {
        let pulled = status
            .strip_prefix("Status: Downloaded newer image for ")
            .map(|name| BuildNews::Pulled(name.trim().to_owned()));
        output(format!("{status}\n").as_bytes(), pulled);
    }
}

/// What a line of the builder's means: ` ---> 0123456789ab` or `Step 1/2 : FROM image AS stage`.
fn told(text: &str) -> Option<BuildNews> {
    if let Some(id) = text.strip_prefix(" ---> ") {
        let id = id.strip_suffix('\n')?;
        return (id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| BuildNews::Layer(id.to_owned()));
    }
    let instruction = text.strip_prefix("Step ")?.split_once(" : ")?.1;
    let mut words = instruction.split_ascii_whitespace();
    let from = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("from"));
    words
        .find(|word| !word.starts_with("--"))
        .filter(|_| from)
        .map(|name| BuildNews::From(name.to_owned()))
}

/// The reference with a tag: without one, old engines would pull every tag.
#[must_use]
pub fn full_reference(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    }
}

/// Condenses a pull's hundreds of progress messages to a line now and then.
#[derive(Debug, Default)]
pub struct Progress {
    layers: BTreeMap<String, Layer>,
    last: Option<Instant>,
}

#[derive(Debug, Default)]
struct Layer {
    current: i64,
    total: i64,
    done: bool,
    /// Whether the engine waits before it asks for it once more, and says so every second.
    retrying: bool,
}

/// The least time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    fn take(&mut self, info: &CreateImageInfo, now: Instant, line: &mut (dyn FnMut(&str) + Send)) {
        let status = info.status.as_deref().unwrap_or_default();
        let layer = info
            .id
            .as_deref()
            .filter(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(id) = layer else {
            if !status.is_empty() {
                line(status);
            }
            return;
        };
        let layer = self.layers.entry(id.to_owned()).or_default();
        if let (Some(detail), "Downloading") = (&info.progress_detail, status) {
            layer.current = detail.current.unwrap_or(layer.current);
            layer.total = detail.total.unwrap_or(layer.total);
        }
        let retrying = status.starts_with("Retrying in ");
        if retrying && !layer.retrying {
            line(&format!("layer {id} did not come whole: {status}"));
        }
        layer.retrying = retrying;
        layer.done |= matches!(status, "Pull complete" | "Already exists");
        if self
            .last
            .is_none_or(|last| now.duration_since(last) >= PROGRESS_EVERY)
            && !self.layers.values().all(|l| l.total == 0)
        {
            self.last = Some(now);
            line(&self.summary());
        }
    }

    fn summary(&self) -> String {
        let done = self.layers.values().filter(|l| l.done).count();
        let sum = |pick: fn(&Layer) -> i64| self.layers.values().map(pick).sum::<i64>() / 1_000_000;
        let current = sum(|l| if l.done { l.total } else { l.current });
        format!(
            "{done} of {} layers, {current} of {} MB downloaded",
            self.layers.len(),
            sum(|l| l.total)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn references_get_a_tag() {
        for (given, full) in [
            ("debian", "debian:latest"),
            ("debian:12", "debian:12"),
            ("host:5000/a/b", "host:5000/a/b:latest"),
            ("host:5000/a/b:1", "host:5000/a/b:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(full_reference(given), full);
        }
    }

    #[test]
    fn what_a_builder_says() {
        for (text, news) in [
            (
                " ---> 0123456789ab\n",
                Some(BuildNews::Layer("0123456789ab".into())),
            ),
            (" ---> Running in 0123456789ab\n", None),
            (" ---> 0123456789ab", None),
            (" ---> 0123456789abc\n", None),
            (
                "Step 1/2 : FROM debian:13 AS one",
                Some(BuildNews::From("debian:13".into())),
            ),
            (
                "Step 1/2 : from --platform=linux/arm64 a/b",
                Some(BuildNews::From("a/b".into())),
            ),
            ("Step 2/2 : RUN FROM x", None),
            ("Step 1/2 : FROM", None),
        ] {
            assert_eq!(told(text), news, "{text:?}");
        }
    }

    #[test]
    fn a_thousand_messages_become_a_few_lines() {
        let start = Instant::now();
        let (mut progress, mut lines) = (Progress::default(), Vec::new());
        let mut take = |progress: &mut Progress, id: &str, status: &str, current: i64, at: u64| {
            let progress_detail = Some(ProgressDetail {
                current: Some(current),
                total: Some(100_000_000),
            });
            let info = CreateImageInfo {
                id: Some(id.into()),
                status: Some(status.into()),
                progress_detail,
                ..Default::default()
            };
            progress.take(&info, start + Duration::from_millis(at), &mut |line| {
                lines.push(line.to_owned())
            });
        };
        take(&mut progress, "trixie", "Pulling from library/debian", 0, 0);
        for step in 0..1000 {
            take(
                &mut progress,
                "0123456789ab",
                "Downloading",
                step * 100_000,
                step.unsigned_abs() * 10,
            );
        }
        for step in 0..10 {
            take(
                &mut progress,
                "0123456789ab",
                &format!("Retrying in {} seconds", 10 - step),
                0,
                10_000,
            );
        }
        take(&mut progress, "0123456789ab", "Pull complete", 0, 20_000);
        assert_eq!(
            lines,
            [
                "Pulling from library/debian",
                "0 of 1 layers, 0 of 100 MB downloaded",
                "0 of 1 layers, 50 of 100 MB downloaded",
                "layer 0123456789ab did not come whole: Retrying in 10 seconds",
                "0 of 1 layers, 99 of 100 MB downloaded",
                "1 of 1 layers, 100 of 100 MB downloaded"
            ]
        );
    }
}
