//! Deletes the repositories that have been in the trash for too long, and measures the others.

use std::sync::atomic::Ordering;

use crate::rename::Renamer;
use crate::trash::TrashedRepo;

use super::cleanup_pass::CleanupPass;
use super::error::HousekeepingError;

impl CleanupPass<'_> {
    pub(super) async fn empty_trash(&mut self) -> Result<(), HousekeepingError> {
        let paths = self.deps.paths.clone();
        let renamer = Renamer::new(&paths, self.deps.store.clone());
        let cutoff = self.trash_cutoff;
        let emptied = tokio::task::spawn_blocking(move || {
            let deleted = match cutoff {
                Some(cutoff) => renamer.lock()?.delete_expired(cutoff)?,
                None => (0, 0),
            };
            let kept = TrashedRepo::list(&renamer.git)?;
            let sizes = kept.iter().map(|one| one.bytes(&paths, &renamer.git));
            Ok::<_, HousekeepingError>((deleted, sizes.sum()))
        });
        let ((count, bytes), kept_bytes) = emptied.await??;
        self.freed.trash += count;
        self.freed.bytes += bytes;
        let metrics = &self.deps.metrics;
        metrics.trash_bytes.store(kept_bytes, Ordering::Relaxed);
        Ok(())
    }
}
