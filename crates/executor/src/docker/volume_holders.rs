//! Containers and jobs that wait for runs mount volumes: they are removed when such a volume is to be removed.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, join_all};

/// Something that waits for runs, of one executor.
pub(super) trait VolumeHolder: Send + Sync {
    /// Removes what waits with this volume, and returns whether anything did.
    fn release_volume<'a>(&'a self, volume: &'a str) -> BoxFuture<'a, bool>;
}

/// What all executors of an engine hold ready. Clones share it.
#[derive(Clone, Default)]
pub(super) struct VolumeHolders(Arc<Mutex<Vec<Arc<dyn VolumeHolder>>>>);

impl VolumeHolders {
    pub(super) fn add(&self, holder: impl VolumeHolder + 'static) {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holders.push(Arc::new(holder));
    }

    /// Removes all that waits with this volume, and returns whether anything did.
    pub(super) async fn release(&self, volume: &str) -> bool {
        let holders = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let releases = holders.iter().map(|holder| holder.release_volume(volume));
        join_all(releases).await.contains(&true)
    }
}
