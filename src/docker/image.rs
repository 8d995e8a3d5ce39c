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
    /// When it was built, in Unix seconds.
    pub created: i64,
}

impl Engine {
    /// The user that an image's commands run as (empty for root); none when it is not there.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn image_user(&self, reference: &str) -> Result<Option<String>, DockerError> {
        let asked = self.call("inspect the image", self.timings().call, |docker| async move { docker.inspect_image(reference).await });
        match asked.await {
            Ok(image) => Ok(Some(image.config.and_then(|config| config.user).unwrap_or_default())),
            Err(DockerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image; `line` gets progress, a few lines in all. Ends when dropped.
    ///
    /// # Errors
    /// With the registry's words.
    pub async fn pull(&self, reference: &str, line: &mut (dyn FnMut(&str) + Send)) -> Result<(), DockerError> {
        let attempt = "pull the image";
        let options = query::CreateImageOptions { from_image: Some(full_reference(reference)), ..Default::default() };
        let docker = self.client().await?;
        let mut stream = docker.create_image(Some(options), None, None).boxed();
        let mut progress = Progress::default();
        while let Some(info) = self.next_of(&mut stream).await? {
            let info = match info {
                Ok(info) => info,
                Err(error) => return Err(self.diagnose(DockerError::from_bollard(attempt, error)).await),
            };
            progress.take(&info, Instant::now(), line);
        }
        Ok(())
    }

    /// Builds an image from a tar stream; `output` gets the log as it comes. Ends when dropped.
    ///
    /// # Errors
    /// With the builder's words.
    pub async fn build(&self, spec: &BuildSpec, context: TarStream, output: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), DockerError> {
        let attempt = "build the image";
        let feed = Feed::default();
        let body = bollard::body_try_stream(feed.watch(context));
        let docker = limit_memory(self.client().await?, spec.memory);
        let mut stream = docker.build_image(build_options(spec), None, Some(body)).boxed();
        while let Some(info) = self.next_of(&mut stream).await? {
            match info {
                Ok(info) => build_output(&info, output),
                // The image's id, as some engines spell it.
                Err(bollard::errors::Error::JsonDataError { .. }) => {}
                Err(error) => return Err(self.diagnose(feed.blame(DockerError::from_bollard(attempt, error))).await),
            }
        }
        Ok(())
    }

    /// The images that carry all of the labels, newest first.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn images(&self, labels: &Labels) -> Result<Vec<ListedImage>, DockerError> {
        let options = query::ListImagesOptions { filters: Some(label_filter(labels)), ..Default::default() };
        let listed = self.call("list images", self.timings().call, |docker| async move { docker.list_images(Some(options)).await }).await?;
        let real = |tag: &String| !tag.starts_with("<none>");
        let mut images: Vec<ListedImage> = listed
            .into_iter()
            .map(|i| ListedImage { id: i.id, tags: i.repo_tags.into_iter().filter(real).collect(), created: i.created })
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(images)
    }

    /// Removes one name of an image, and the image with its last name. One that is missing or in use is fine; gives whether it went.
    ///
    /// # Errors
    /// When the engine cannot do it.
    pub async fn remove_image(&self, reference: &str) -> Result<bool, DockerError> {
        let removed = self.call("remove the image", self.timings().heavy, |docker| async move {
            docker.remove_image(reference, None::<query::RemoveImageOptions>, None).await
        });
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

fn build_output(info: &BuildInfo, output: &mut (dyn FnMut(&[u8]) + Send)) {
    if let Some(text) = &info.stream {
        output(text.as_bytes());
    } else if let Some(status) = &info.status
        && info.progress_detail.as_ref().is_none_or(|p| p.current.is_none())
    {
        output(format!("{status}\n").as_bytes());
    }
}

/// The reference with a tag: without one, old engines would pull every tag.
#[must_use]
pub fn full_reference(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
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
}

/// The least time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    fn take(&mut self, info: &CreateImageInfo, now: Instant, line: &mut (dyn FnMut(&str) + Send)) {
        let status = info.status.as_deref().unwrap_or_default();
        let layer = info.id.as_deref().filter(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()));
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
        layer.done |= matches!(status, "Pull complete" | "Already exists");
        if self.last.is_none_or(|last| now.duration_since(last) >= PROGRESS_EVERY) && !self.layers.values().all(|l| l.total == 0) {
            self.last = Some(now);
            line(&self.summary());
        }
    }

    fn summary(&self) -> String {
        let done = self.layers.values().filter(|l| l.done).count();
        let sum = |pick: fn(&Layer) -> i64| self.layers.values().map(pick).sum::<i64>() / 1_000_000;
        let current = sum(|l| if l.done { l.total } else { l.current });
        format!("{done} of {} layers, {current} of {} MB downloaded", self.layers.len(), sum(|l| l.total))
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
    fn a_thousand_messages_become_a_few_lines() {
        let start = Instant::now();
        let (mut progress, mut lines) = (Progress::default(), Vec::new());
        let mut take = |progress: &mut Progress, id: &str, status: &str, current: i64, at: u64| {
            let progress_detail = Some(ProgressDetail { current: Some(current), total: Some(100_000_000) });
            let info = CreateImageInfo { id: Some(id.into()), status: Some(status.into()), progress_detail, ..Default::default() };
            progress.take(&info, start + Duration::from_millis(at), &mut |line| lines.push(line.to_owned()));
        };
        take(&mut progress, "trixie", "Pulling from library/debian", 0, 0);
        for step in 0..1000 {
            take(&mut progress, "0123456789ab", "Downloading", step * 100_000, step.unsigned_abs() * 10);
        }
        take(&mut progress, "0123456789ab", "Pull complete", 0, 20_000);
        assert_eq!(
            lines,
            [
                "Pulling from library/debian",
                "0 of 1 layers, 0 of 100 MB downloaded",
                "0 of 1 layers, 50 of 100 MB downloaded",
                "1 of 1 layers, 100 of 100 MB downloaded"
            ]
        );
    }
}
