//! Removes images: those that quire built or pulled and that were not used for long, those of repositories that no
//! longer exist, and what builds left. Images that a person brought or built are never removed: only rows say which
//! images are quire's.

use std::collections::HashSet;

use quire_executor::{Executor, ExecutorError, ImageRemoval, ImageStore, OwnedImage};
use quire_git::{Git, GitError};
use quire_store::{ImageUse, Store, StoreError};
use quire_types::names::RepoName;

use super::cleanup_pass::CleanupPass;
use super::error::HousekeepingError;
use super::policy::{ImageInventory, owned_image, superfluous_images, surplus_builds};

/// What became of an image that was to be removed.
enum RemovedImage {
    Removed,
    Kept,
    Failed(ExecutorError),
}

impl CleanupPass<'_> {
    pub(super) async fn remove_images(&mut self) -> Result<(), HousekeepingError> {
        // Several executors can use the same engine.
        let mut done: Vec<String> = Vec::new();
        for executor in &self.deps.executors {
            let Some(images) = executor.images() else {
                continue;
            };
            match images.engine_id().await {
                Ok(engine) if engine.is_empty() || done.contains(&engine) => {}
                Ok(engine) => {
                    done.push(engine.clone());
                    self.remove_images_of(images, engine).await?;
                }
                Err(error) => self.record_problem("cannot list images", &error),
            }
        }
        Ok(())
    }

    async fn remove_images_of(
        &mut self,
        image_store: &dyn ImageStore,
        engine: String,
    ) -> Result<(), HousekeepingError> {
        let read = {
            let engine = engine.clone();
            self.call(move |store| {
                Ok((
                    store.images().list(&engine)?,
                    store.images().layers(&engine)?,
                    store.queue().busy_repos()?,
                ))
            })
        };
        let (rows, layers, (at_work, image_unknown)) = read.await?;
        let inventory = ImageInventory {
            gone: self.missing_repos(&rows).await?,
            rows: &rows,
            layers: &layers,
            at_work: &at_work,
            image_unknown,
            cutoff: self.cutoff,
            build_cutoff: self.build_cutoff,
        };
        for image in superfluous_images(&inventory) {
            let store = &self.deps.store;
            match remove_image(store, image_store, &engine, &image).await? {
                RemovedImage::Removed => self.freed.images += 1,
                RemovedImage::Kept => {}
                RemovedImage::Failed(error) => {
                    let attempt = format!("cannot remove the image {}", image.name());
                    self.record_problem(&attempt, &error);
                }
            }
        }
        Ok(())
    }

    /// Returns the repositories of these images that no longer exist. One that cannot be read counts as existing.
    async fn missing_repos(&self, rows: &[ImageUse]) -> Result<HashSet<RepoName>, GitError> {
        let repos: HashSet<RepoName> = rows.iter().filter_map(|row| row.repo.clone()).collect();
        let is_missing = |git: &Git, repo: &RepoName| matches!(git.exists(repo), Ok(false));
        Git::new(&self.deps.paths)
            .call(move |git| {
                Ok(repos
                    .into_iter()
                    .filter(|repo| is_missing(git, repo))
                    .collect())
            })
            .await
    }
}

/// Removes the builds of a repository beyond those that are kept, after one of its runs. What cannot be removed is
/// retried by the next round.
pub async fn remove_surplus_builds(
    store: &Store,
    executor: &dyn Executor,
    repo: &RepoName,
) -> Result<(), StoreError> {
    let Some(image_store) = executor.images() else {
        return Ok(());
    };
    let built = {
        let repo = repo.clone();
        store.call(move |store| store.images().has_builds(&repo))
    };
    if !built.await? {
        return Ok(());
    }
    let Ok(engine) = image_store.engine_id().await else {
        return Ok(());
    };
    if engine.is_empty() {
        return Ok(());
    }
    let rows = {
        let engine = engine.clone();
        store.call(move |store| store.images().list(&engine))
    };
    for row in surplus_builds(&rows.await?, repo) {
        remove_image(store, image_store, &engine, &owned_image(row)).await?;
    }
    Ok(())
}

async fn remove_image(
    store: &Store,
    image_store: &dyn ImageStore,
    engine: &str,
    image: &OwnedImage,
) -> Result<RemovedImage, StoreError> {
    let removed = match image_store.remove(image).await {
        Ok(ImageRemoval::Removed) => {
            tracing::info!(image = image.name(), "removed an unused image");
            RemovedImage::Removed
        }
        Ok(ImageRemoval::Missing | ImageRemoval::NotOurs) => RemovedImage::Kept,
        Ok(ImageRemoval::InUse) => return Ok(RemovedImage::Kept),
        Err(error) => return Ok(RemovedImage::Failed(error)),
    };
    // The row comes last: after a crash here the next round finds the image missing and removes the row.
    quire_types::failpoint::hit("housekeeping-image-gone");
    let engine = engine.to_owned();
    let name = image.name().to_owned();
    store
        .call(move |store| store.images().forget(&engine, &name))
        .await?;
    Ok(removed)
}
