//! The runs, images and volumes that this process uses, so that neither a sweep nor the removal of
//! images and caches removes them under a run.
//!
//! A run marks the names of its image and its volumes as used before it looks whether they exist.
//! A removal is announced before it is made, and refused if a run uses the name. A run that wants
//! what is just being removed waits until it is gone, and creates it anew. While an image is built
//! no image is removed at all, because what a build stands on shows only in its course.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quire_types::names::RunId;
use tokio::sync::Notify;

/// Everything in use. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct InUse(Arc<SharedTable>);

#[derive(Default)]
struct SharedTable {
    table: Mutex<Table>,
    /// Notified when a removal has ended.
    removal_ended: Notify,
}

#[derive(Default)]
struct Table {
    runs: Vec<RunId>,
    /// Names of images and volumes that runs use; once for each run.
    used: Vec<String>,
    /// Names of images and volumes that are being removed.
    removing: Vec<String>,
    builds: usize,
}

impl InUse {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs of this process.
    pub(super) fn runs(&self) -> Vec<RunId> {
        self.table().runs.clone()
    }

    /// Enters a run.
    pub(super) fn lease(&self, run: RunId) -> RunLease {
        self.table().runs.push(run);
        RunLease {
            in_use: self.clone(),
            run,
            used: Mutex::default(),
        }
    }

    /// Announces the removal of a volume; `None` if a run uses it.
    pub(super) fn begin_volume_removal(&self, name: &str) -> Option<RemovalGuard> {
        self.begin_removal(name, |_| true)
    }

    /// Announces the removal of an image; `None` if a run uses it or an image is being built.
    pub(super) fn begin_image_removal(&self, name: &str) -> Option<RemovalGuard> {
        self.begin_removal(name, |table| table.builds == 0)
    }

    fn begin_removal(
        &self,
        name: &str,
        is_allowed: impl FnOnce(&Table) -> bool,
    ) -> Option<RemovalGuard> {
        let mut table = self.table();
        if table.used.iter().any(|used| used == name) || !is_allowed(&table) {
            return None;
        }
        table.removing.push(name.to_owned());
        Some(RemovalGuard {
            in_use: self.clone(),
            name: name.to_owned(),
        })
    }

    /// Announces a build.
    pub(super) async fn begin_build(&self) -> BuildGuard {
        self.when_no_removal(|_| true, |table| table.builds += 1)
            .await;
        BuildGuard(self.clone())
    }

    /// Waits until no name that `concerns` is being removed, and calls `enter` in the same moment.
    async fn when_no_removal(
        &self,
        concerns: impl Fn(&str) -> bool,
        enter: impl FnOnce(&mut Table),
    ) {
        loop {
            let mut ended = std::pin::pin!(self.0.removal_ended.notified());
            // Before the table is read, so that no notification is missed in between.
            ended.as_mut().enable();
            {
                let mut table = self.table();
                if !table.removing.iter().any(|name| concerns(name)) {
                    return enter(&mut table);
                }
            }
            ended.await;
        }
    }
}

/// The entry of a run, with the images and volumes that it uses, until dropped.
pub(super) struct RunLease {
    in_use: InUse,
    run: RunId,
    used: Mutex<Vec<String>>,
}

impl RunLease {
    /// Marks an image or a volume as used, before the caller looks whether it exists.
    pub(super) async fn take(&self, name: &str) {
        let enter = |table: &mut Table| table.used.push(name.to_owned());
        self.in_use
            .when_no_removal(|removing| removing == name, enter)
            .await;
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
    }
}

impl Drop for RunLease {
    fn drop(&mut self) {
        let mut table = self.in_use.table();
        remove_first(&mut table.runs, &self.run);
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for name in used.iter() {
            remove_first(&mut table.used, name);
        }
    }
}

/// The removal of an image or a volume, until dropped.
pub(super) struct RemovalGuard {
    in_use: InUse,
    name: String,
}

impl Drop for RemovalGuard {
    fn drop(&mut self) {
        remove_first(&mut self.in_use.table().removing, &self.name);
        self.in_use.0.removal_ended.notify_waiters();
    }
}

/// A build of an image, until dropped.
pub(super) struct BuildGuard(InUse);

impl Drop for BuildGuard {
    fn drop(&mut self) {
        self.0.table().builds -= 1;
    }
}

fn remove_first<T: PartialEq>(list: &mut Vec<T>, item: &T) {
    if let Some(at) = list.iter().position(|found| found == item) {
        list.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn used_names_stay_and_removals_are_waited_for() {
        let in_use = InUse::default();
        let lease = in_use.lease(RunId::new());
        lease.take("debian:13").await;
        assert!(in_use.begin_image_removal("debian:13").is_none());
        let removal = in_use.begin_image_removal("node:20").unwrap();
        let is_pending = async |future: &mut (dyn Future<Output = ()> + Unpin + Send)| {
            tokio::time::timeout(Duration::from_millis(20), future)
                .await
                .is_err()
        };
        let mut take = Box::pin(lease.take("node:20"));
        let mut build = Box::pin(async { drop(in_use.begin_build().await) });
        assert!(is_pending(&mut take).await && is_pending(&mut build).await);
        lease.take("other:1").await;
        drop(removal);
        take.await;
        build.await;
        assert!(in_use.begin_image_removal("node:20").is_none());
        drop(lease);
        let build = in_use.begin_build().await;
        assert!(in_use.runs().is_empty());
        assert!(in_use.begin_image_removal("node:20").is_none());
        assert!(in_use.begin_volume_removal("v").is_some());
        drop(build);
        assert!(in_use.begin_image_removal("node:20").is_some());
    }
}
