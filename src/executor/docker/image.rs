//! The image a run gets: by reference, or built from its tree; and which built ones are kept.

use sha2::{Digest, Sha256};

use super::hold::Hold;
use super::recipe::refuse_fetching;
use super::{DockerExecutor, INSTANCE, REPO, fault};
use crate::docker::{
    Attachment, BuildNews, BuildSpec, DockerError, Labels, ListedImage, full_reference,
};
use crate::executor::{
    BuiltImage, BuiltLayer, ExecutorError, ImageFate, ImageSource, Images, OwnImage, StartObserver,
    StartSpec, Stream,
};
use crate::names::RepoName;

/// Where a tree keeps its image's recipe.
pub(super) const DOCKERFILE: &str = ".quire/Dockerfile";

/// How many built images of a repository are kept: branches that take turns keep their layers.
const KEPT: usize = 3;

/// So much is noted of one build's course. No Dockerfile has more steps, and its commands can print what looks like one.
const MOST_NEWS: usize = 1000;

/// An image that is there.
pub(super) struct Image {
    /// Its full name.
    pub(super) name: String,
    /// The user its commands run as, where that is not root.
    pub(super) user: Option<String>,
}

impl DockerExecutor {
    /// Makes sure of the run's image: pulls or builds it where it has to be.
    pub(super) async fn image_for(
        &self,
        spec: &StartSpec,
        observer: &mut dyn StartObserver,
        hold: &Hold,
    ) -> Result<Image, ExecutorError> {
        let name = match &spec.image {
            ImageSource::Reference(reference) if reference.trim().is_empty() => {
                return Err(ExecutorError::Image("the image's name is empty".into()));
            }
            ImageSource::Reference(reference) => full_reference(reference),
            ImageSource::Dockerfile => self.built_image(spec, observer, hold).await?,
        };
        let user = self.present(&name, observer, hold).await?;
        let root = matches!(user.split(':').next(), None | Some("" | "0" | "root"));
        Ok(Image {
            name,
            user: (!root).then_some(user),
        })
    }

    /// The image's user; none where there is no such image.
    async fn user_of(&self, name: &str) -> Result<Option<String>, ExecutorError> {
        self.engine
            .image_user(name)
            .await
            .map_err(|error| match error {
                DockerError::Engine {
                    status: 400,
                    message,
                    ..
                } => ExecutorError::Image(format!(
                    "`{name}` is not the name of an image ({message})"
                )),
                error => fault("look for the image", &error),
            })
    }

    /// Makes sure that an image by reference is there, for as long as it is held; gives its user.
    pub(super) async fn present(
        &self,
        name: &str,
        observer: &mut dyn StartObserver,
        hold: &Hold,
    ) -> Result<String, ExecutorError> {
        hold.take(name).await;
        if let Some(user) = self.user_of(name).await? {
            observer.image_used(name);
            return Ok(user);
        }
        self.pull(name, observer).await?;
        self.own(name, observer).await;
        self.user_of(name).await?.ok_or_else(|| {
            ExecutorError::Image(format!("the image {name} is missing though it was pulled"))
        })
    }

    /// Has it noted that quire brought an image. Where that cannot be known the image stays for good, which harms nobody.
    async fn own(&self, name: &str, observer: &mut dyn StartObserver) {
        let name = name_to_remove(name);
        if let (Ok(engine), Ok(Some(image))) =
            (self.engine.identity().await, self.engine.image(&name).await)
        {
            observer.image_pulled(&engine.id, &name, &image.id);
        }
    }

    /// Pulls an image, with a few lines of progress.
    async fn pull(
        &self,
        image: &str,
        observer: &mut dyn StartObserver,
    ) -> Result<(), ExecutorError> {
        observer.line(
            Stream::Stdout,
            format!("quire: pulling {image}\n").as_bytes(),
        );
        let mut line = |text: &str| observer.line(Stream::Stdout, format!("{text}\n").as_bytes());
        match self.engine.pull(image, &mut line).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_unavailable() => Err(fault("pull the image", &error)),
            Err(error) => Err(ExecutorError::Image(format!(
                "the image {image} cannot be pulled: {}",
                error.words()
            ))),
        }
    }

    async fn built_image(
        &self,
        spec: &StartSpec,
        observer: &mut dyn StartObserver,
        hold: &Hold,
    ) -> Result<String, ExecutorError> {
        if !spec.tree.has_dockerfile() {
            return Err(ExecutorError::Image(format!(
                "there is no {DOCKERFILE} to build an image from"
            )));
        }
        let content = spec.tree.id();
        let tag = image_tag(
            &self.config.instance,
            &spec.repo,
            content.as_deref().unwrap_or(&spec.run.to_string()),
        );
        // Held before it is looked for, so that the end of another run's build does not remove it in between.
        hold.take(&tag).await;
        if content.is_some() && self.user_of(&tag).await?.is_some() {
            observer.line(
                Stream::Stdout,
                format!("quire: using {tag}, built from the same tree before\n").as_bytes(),
            );
            observer.image_used(&tag);
            return Ok(tag);
        }
        if !spec.limits.network {
            refuse_fetching(spec.tree.as_ref()).await?;
        }
        observer.build_started();
        let building = self.live.build().await;
        let built = match self.build(spec, &tag, observer).await {
            // The network was removed since it was last seen, or is not the only one of its name.
            Err((attachment, error)) if self.lacks_network(&attachment, &error) => {
                self.forget_network(&attachment).await;
                self.build(spec, &tag, observer).await
            }
            built => built,
        };
        drop(building);
        match built.map_err(|(_, error)| error) {
            Ok(()) => {}
            Err(error) if error.is_unavailable() => return Err(fault("build the image", &error)),
            Err(error @ DockerError::Source(_)) => return Err(fault("build the image", &error)),
            Err(error) => {
                return Err(ExecutorError::Image(format!(
                    "the image cannot be built from {DOCKERFILE}: {}",
                    error.words()
                )));
            }
        }
        observer.build_finished(&tag);
        // Housekeeping: what fails here is tried again after the next build, and does not concern this run.
        let _ = self.remove_old_images(&spec.repo, &tag).await;
        Ok(tag)
    }

    /// Builds, and has it noted what the build makes, brings and uses on its way. Its commands get what the run's get.
    async fn build(
        &self,
        spec: &StartSpec,
        tag: &str,
        observer: &mut dyn StartObserver,
    ) -> Result<(), (Attachment, DockerError)> {
        let nowhere = |error| (Attachment::None, error);
        let network = self
            .attachment(spec.limits.network)
            .await
            .map_err(nowhere)?;
        let build = BuildSpec {
            tag: tag.to_owned(),
            dockerfile: DOCKERFILE.to_owned(),
            labels: self.image_labels(&spec.repo),
            milli_cpus: spec.limits.milli_cpus,
            cpu_shares: self.config.cpu_shares,
            memory: spec.limits.memory,
            network: network.clone(),
        };
        let engine = self.engine.identity().await.map_err(nowhere)?;
        let (mut pulled, mut heard) = (Vec::new(), 0);
        let mut output = |bytes: &[u8], news: Option<BuildNews>| {
            observer.line(Stream::Stdout, bytes);
            let Some(news) = news.filter(|_| heard < MOST_NEWS) else {
                return;
            };
            heard += 1;
            match news {
                BuildNews::Layer(id) => {
                    let (engine, since_ms, built_for) =
                        (engine.id.clone(), engine.now_ms, build.tag.clone());
                    observer.layer_built(&BuiltLayer {
                        engine,
                        id,
                        since_ms,
                        built_for,
                    });
                }
                BuildNews::From(name) => observer.image_used(&full_reference(&name)),
                BuildNews::Pulled(name) => pulled.push(full_reference(&name)),
            }
        };
        let built = self
            .engine
            .build(&build, spec.tree.archive(), &mut output)
            .await;
        for name in pulled {
            self.own(&name, observer).await;
        }
        built.map_err(|error| (network, error))
    }

    /// What this appliance has built on the engine.
    pub(super) async fn images(&self) -> Result<Images, ExecutorError> {
        let failed = |error| fault("list the images", &error);
        let engine = self.engine.identity().await.map_err(failed)?.id;
        let listed = self
            .engine
            .images(&self.instance_labels())
            .await
            .map_err(failed)?;
        let built = listed.into_iter().filter_map(|image| {
            let repo = image
                .labels
                .iter()
                .find(|(key, _)| key == REPO)?
                .1
                .parse()
                .ok()?;
            let names = if image.tags.is_empty() {
                vec![image.id.clone()]
            } else {
                image.tags
            };
            Some(names.into_iter().map(move |name| BuiltImage {
                name,
                id: image.id.clone(),
                repo: RepoName::clone(&repo),
            }))
        });
        Ok(Images {
            engine,
            built: built.flatten().collect(),
        })
    }

    /// Removes an image, or the name it has from quire, where it still is what it was.
    pub(super) async fn remove_image(&self, image: &OwnImage) -> Result<ImageFate, ExecutorError> {
        let failed = |error| fault("remove the image", &error);
        let name = image.name();
        let Some(_going) = self.live.image_goes(name) else {
            return Ok(ImageFate::InUse);
        };
        let Some(found) = self.engine.image(name).await.map_err(failed)? else {
            return Ok(ImageFate::Missing);
        };
        let own = match image {
            OwnImage::Named { id, .. } => found.id == *id,
            OwnImage::Layer { since_ms, .. } => {
                found.names.is_empty()
                    && found
                        .created
                        .is_some_and(|created| created >= since_ms.div_euclid(1000))
            }
        };
        if !own {
            return Ok(ImageFate::SomebodyElses);
        }
        // One that a container has, or another image stands on, stays.
        let removed = self.engine.remove_image(name).await.map_err(failed)?;
        Ok(if removed {
            ImageFate::Gone
        } else {
            ImageFate::InUse
        })
    }

    fn image_labels(&self, repo: &RepoName) -> Labels {
        vec![
            (INSTANCE.to_owned(), self.config.instance.clone()),
            (REPO.to_owned(), repo.to_string()),
        ]
    }

    async fn remove_old_images(&self, repo: &RepoName, current: &str) -> Result<(), DockerError> {
        let images = self.engine.images(&self.image_labels(repo)).await?;
        for name in superfluous(&images, |tag| tag == current || self.live.has(tag)) {
            if let Some(_going) = self.live.image_goes(&name) {
                self.engine.remove_image(&name).await?;
            }
        }
        Ok(())
    }
}

/// The names to remove, given images newest first: all of old ones, and of the newest all but one
/// each; never one that is in use.
fn superfluous(images: &[ListedImage], in_use: impl Fn(&str) -> bool) -> Vec<String> {
    let used = |image: &ListedImage| image.tags.iter().any(|tag| in_use(tag));
    // Those in use count first: one built from layers of old is as old as they are.
    let (first, rest): (Vec<_>, Vec<_>) = images.iter().partition(|image| used(image));
    let mut names = Vec::new();
    for (place, image) in first.into_iter().chain(rest).enumerate() {
        let mut keep_one = place < KEPT && !used(image);
        for tag in image.tags.iter().filter(|tag| !in_use(tag)) {
            if !std::mem::take(&mut keep_one) {
                names.push(tag.clone());
            }
        }
        if image.tags.is_empty() {
            names.push(image.id.clone());
        }
    }
    names
}

/// The name under which the engine keeps what it pulled: by digest it has no tag.
fn name_to_remove(reference: &str) -> String {
    let Some((name, digest)) = reference.split_once('@') else {
        return reference.to_owned();
    };
    let untagged = match name.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => name,
    };
    format!("{untagged}@{digest}")
}

/// A name that docker accepts, with a tag that two different contents, repositories or appliances never share.
fn image_tag(instance: &str, repo: &RepoName, content: &str) -> String {
    let mut slug = String::new();
    for c in repo.as_str().chars().map(|c| c.to_ascii_lowercase()) {
        // Docker wants separators between letters or digits, one at a time.
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.ends_with(|last: char| last.is_ascii_alphanumeric()) => {
                slug.push(if c == '/' { '/' } else { '-' })
            }
            '/' => {
                slug.pop();
                slug.push('/');
            }
            _ => {}
        }
    }
    let slug = slug.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = if slug.is_empty() { "repository" } else { slug };
    let digest = Sha256::digest(format!("{instance}\n{repo}\n{content}"));
    let tag: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("quire/{name}:{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, tags: &[&str]) -> ListedImage {
        ListedImage {
            id: id.into(),
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            labels: Vec::new(),
            created: 0,
        }
    }

    #[test]
    fn tags_are_legal_and_distinct() {
        let tag = |instance: &str, repo: &str, content: &str| {
            image_tag(instance, &repo.parse().unwrap(), content)
        };
        for (repo, name) in [
            ("foo", "quire/foo"),
            ("Work/Foo", "quire/work/foo"),
            ("a.-_b", "quire/a-b"),
            ("_", "quire/repository"),
            ("a_/b", "quire/a/b"),
        ] {
            assert_eq!(tag("i", repo, "c").split_once(':').unwrap().0, name);
        }
        let all = [
            tag("i", "foo", "c"),
            tag("j", "foo", "c"),
            tag("i", "Foo", "c"),
            tag("i", "foo", "d"),
        ];
        assert_eq!(
            all.iter().collect::<std::collections::HashSet<_>>().len(),
            4
        );
    }

    #[test]
    fn what_is_pulled_by_digest_has_no_tag() {
        for (reference, name) in [
            ("debian:13", "debian:13"),
            ("debian@sha256:00", "debian@sha256:00"),
            ("debian:13@sha256:00", "debian@sha256:00"),
            ("host:5000/a@sha256:00", "host:5000/a@sha256:00"),
        ] {
            assert_eq!(name_to_remove(reference), name);
        }
    }

    #[test]
    fn old_images_go_and_used_ones_stay() {
        let images = [
            listed("5", &["a", "b"]),
            listed("4", &["c", "d"]),
            listed("3", &[]),
            listed("2", &["e", "f"]),
            listed("1", &["g"]),
        ];
        assert_eq!(
            superfluous(&images, |tag| tag == "b" || tag == "f"),
            ["a", "e", "d", "3", "g"]
        );
        assert_eq!(
            superfluous(&images, |_| false),
            ["b", "d", "3", "e", "f", "g"]
        );
    }
}
