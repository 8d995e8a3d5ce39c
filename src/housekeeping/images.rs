//! Images: those that quire built or pulled and nobody has used for long, those of repositories that are gone,
//! and what builds left on their way. What a person brought is none of it.

use std::sync::Arc;

use super::policy::{Shelf, superfluous_images};
use super::{DAY_MS, Housekeeping, HousekeepingError, put_off};
use crate::clock::Millis;
use crate::executor::{Executor, ImageFate, Images, OwnImage};
use crate::git::Git;
use crate::run::event::Freed;
use crate::store::StoreError;

impl Housekeeping {
    /// `cutoff`: what was last used before goes; none where nothing goes for its age. `believed`: whether the clock is.
    pub(super) async fn remove_images(
        &self,
        cutoff: Option<Millis>,
        believed: bool,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        for executor in &self.0.executors {
            match executor.images().await {
                Ok(images) if images.engine.is_empty() => {}
                Ok(images) => {
                    self.remove_images_of(executor, images, cutoff, believed, freed)
                        .await?
                }
                Err(error) => put_off("images", &error, freed),
            }
        }
        Ok(())
    }

    async fn remove_images_of(
        &self,
        executor: &Arc<dyn Executor>,
        images: Images,
        cutoff: Option<Millis>,
        believed: bool,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        let Images { engine, built } = images;
        let (of, named) = (engine.clone(), built.clone());
        let read = self.0.store.call(move |store| {
            let known = store.images(&of)?;
            // Built before such things were noted, or right before a crash: it counts as used now.
            for image in named.iter().filter(|image| {
                !known
                    .iter()
                    .any(|row| row.name == image.name && row.image_id == image.id)
            }) {
                store.image_owned(&of, &image.name, &image.id)?;
            }
            Ok((
                store.images(&of)?,
                store.layers(&of)?,
                store.repos_at_work()?,
            ))
        });
        let (rows, layers, (at_work, waits)) = read.await?;
        let git = Git::new(&self.0.paths);
        let a_day_ago = believed.then(|| self.0.store.clock().now().plus(-DAY_MS));
        let shelf = Shelf {
            gone: built
                .iter()
                .map(|image| &image.repo)
                .filter(|repo| matches!(git.exists(repo), Ok(false)))
                .cloned()
                .collect(),
            built: &built,
            rows: &rows,
            layers: &layers,
            at_work: &at_work,
            waits,
            cutoff,
            a_day_ago,
        };
        for image in superfluous_images(&shelf) {
            self.remove_image(executor, &engine, &image, freed).await?;
        }
        Ok(())
    }

    /// First the image, then its row: cut in between, the next look finds that the image is missing.
    async fn remove_image(
        &self,
        executor: &Arc<dyn Executor>,
        engine: &str,
        image: &OwnImage,
        freed: &mut Freed,
    ) -> Result<(), StoreError> {
        match executor.remove_image(image).await {
            Ok(ImageFate::Gone) => {
                tracing::info!(image = image.name(), "removed an image that nobody uses");
                freed.images += 1;
            }
            Ok(ImageFate::Missing | ImageFate::SomebodyElses) => {}
            Ok(ImageFate::InUse) => return Ok(()),
            Err(error) => {
                put_off(image.name(), &error, freed);
                return Ok(());
            }
        }
        crate::fault::point("housekeeping-image-gone");
        let (engine, name) = (engine.to_owned(), image.name().to_owned());
        self.0
            .store
            .call(move |store| store.forget_image(&engine, &name))
            .await
    }
}
