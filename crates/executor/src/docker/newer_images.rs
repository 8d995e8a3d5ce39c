//! When newer versions of images are looked for, and which image is used for a reference.
//!
//! What a name refers to on the engine stays as it is, because other users of the engine depend on it. A newer version is pulled by
//! its digest, and runs use it until the name refers to another image than at the time of the look.

use std::time::Duration;

use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;
use quire_types::pull_policy::PullPolicy;

use super::engine_images::{DockerImages, RunImage};
use super::in_use::RunLease;
use super::registries::check_registry;
use crate::api::{ImageLook, LookResult, StartObserver};
use crate::engine::ImageDetails;
use crate::error::{ExecutorError, ImageError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether it is time to look for a newer version.
pub(super) fn is_look_due(policy: PullPolicy, last: Option<&ImageLook>) -> bool {
    match policy {
        PullPolicy::Missing => false,
        PullPolicy::Daily => last.is_none_or(|look| look.age >= DAY),
        PullPolicy::Always => true,
    }
}

/// Whether an image came from the registry of its name. An image that a user built is not looked for: its name may belong to
/// another image there.
pub(super) fn is_of_registry(name: &ImageReference, image: &ImageDetails) -> bool {
    name_with_digest(name, image).is_some()
}

/// The name by which the registry of an image's name has exactly this image; `None` if the image did not come from there.
pub(super) fn name_with_digest<'a>(
    name: &ImageReference,
    image: &'a ImageDetails,
) -> Option<&'a str> {
    let repository = name.qualified_repository();
    let mut names = image.names.iter().map(String::as_str);
    names.find(|known| {
        let known = known.parse::<ImageReference>();
        known.is_ok_and(|known| known.has_digest() && known.qualified_repository() == repository)
    })
}

/// Reports that newer images were looked for in vain.
pub(super) fn report_failed_look(what: &str, error: &ImageError, observer: &mut dyn StartObserver) {
    let line = format!("quire: cannot look for {what}: {error}\n");
    observer.line(Stream::Stdout, line.as_bytes());
}

/// A reference whose newest version is wanted.
pub(super) struct NewestImage<'a> {
    pub(super) images: &'a DockerImages,
    pub(super) reference: &'a ImageReference,
    /// Whether the version must be the newest one.
    pub(super) rebuild: bool,
    pub(super) lease: &'a RunLease,
}

impl NewestImage<'_> {
    /// Returns the image to use, if the engine has this one by the name of the reference.
    pub(super) async fn find(
        &self,
        named: RunImage,
        observer: &mut dyn StartObserver,
    ) -> Result<RunImage, ExecutorError> {
        let policy = self.images.context.config.pull;
        if self.reference.has_digest()
            || (policy == PullPolicy::Missing && !self.rebuild)
            || !is_of_registry(self.reference, &named.details)
        {
            return Ok(named);
        }
        let last = observer.last_look(&named.name);
        let last = last.filter(|look| look.result.image_id == named.details.id);
        let is_due = self.rebuild || is_look_due(policy, last.as_ref());
        let mut newer = last.and_then(|look| look.result.newer);
        if is_due {
            match self.look(&named.details).await {
                Ok(found) => newer = found,
                Err(error) => self.tolerate(error, observer)?,
            }
            let result = LookResult {
                image_id: named.details.id.clone(),
                newer: newer.clone(),
            };
            observer.looked_for_newer(&named.name, &result);
        }
        let Some(newer) = newer else {
            return Ok(named);
        };
        let fetched = self.images.fetch(&newer, observer, self.lease).await;
        match fetched {
            Ok((image, _)) => Ok(image),
            Err(error) => self.tolerate(error, observer).map(|()| named),
        }
    }

    /// Returns the newest version by its digest; `None` if it is this image.
    async fn look(&self, named: &ImageDetails) -> Result<Option<ImageReference>, ExecutorError> {
        let context = &self.images.context;
        check_registry(self.reference, &context.config.registries)?;
        let failed = |message: String| ImageError::Look {
            name: self.reference.full_name(),
            message,
        };
        let digest = match context.engine.registry_digest(self.reference, None).await {
            Ok(digest) => digest,
            Err(error) if error.is_unavailable() => {
                let attempt = "look for a newer image";
                return Err(ExecutorError::from_engine(attempt, error));
            }
            Err(error) => return Err(failed(error.engine_message()).into()),
        };
        let Some(newest) = self.reference.with_digest(&digest) else {
            return Err(failed("the registry names no digest".to_owned()).into());
        };
        let is_known = named.names.iter().any(|name| name.ends_with(&digest));
        Ok((!is_known).then_some(newest))
    }

    /// Reports the failure of a look, unless the newest version is required or the engine is away.
    fn tolerate(
        &self,
        error: ExecutorError,
        observer: &mut dyn StartObserver,
    ) -> Result<(), ExecutorError> {
        match error {
            ExecutorError::Image(error) if !self.rebuild => {
                report_failed_look("a newer image", &error, observer);
                Ok(())
            }
            error => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_as_the_policy_says() {
        let due = |policy, hours: Option<u64>| {
            let look = hours.map(|hours| ImageLook {
                age: Duration::from_secs(hours * 3600),
                result: LookResult::default(),
            });
            is_look_due(policy, look.as_ref())
        };
        assert!(!due(PullPolicy::Missing, None));
        assert!(due(PullPolicy::Daily, None));
        assert!(!due(PullPolicy::Daily, Some(23)));
        assert!(due(PullPolicy::Daily, Some(24)));
        assert!(due(PullPolicy::Always, Some(0)));
    }
}
