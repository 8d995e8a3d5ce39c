//! What this process has in hand, so that neither a sweep nor the removal of images and caches takes
//! it from under a run.
//!
//! A run takes the names of its image and its volumes before it looks whether they are there; whoever
//! removes one announces it before, and gives way where a run has it. A run that wants what is just
//! going waits until it is gone, and gets a new one. While an image is built none goes at all: what a
//! build stands on shows only in its course.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::names::RunId;

/// Everything in hand. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Live(Arc<Inner>);

#[derive(Default)]
struct Inner {
    table: Mutex<Table>,
    /// Something has gone, or stays.
    settled: Notify,
}

#[derive(Default)]
struct Table {
    runs: Vec<RunId>,
    /// Names of images and volumes that runs have.
    taken: Vec<String>,
    /// Those that are being removed.
    going: Vec<String>,
    builds: usize,
}

impl Live {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs in hand.
    pub(super) fn runs(&self) -> Vec<RunId> {
        self.table().runs.clone()
    }

    /// Enters a run.
    pub(super) fn hold(&self, run: RunId) -> Hold {
        self.table().runs.push(run);
        Hold {
            live: self.clone(),
            run,
            taken: Mutex::default(),
        }
    }

    /// Whether a run has this image or volume.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table().taken.iter().any(|taken| taken == name)
    }

    /// Announces that a volume is removed; none where a run has it.
    pub(super) fn volume_goes(&self, name: &str) -> Option<Going> {
        self.goes(name, |_| true)
    }

    /// Announces that an image is removed; none where a run has it, or one is being built.
    pub(super) fn image_goes(&self, name: &str) -> Option<Going> {
        self.goes(name, |table| table.builds == 0)
    }

    fn goes(&self, name: &str, may: impl FnOnce(&Table) -> bool) -> Option<Going> {
        let mut table = self.table();
        if table.taken.iter().any(|taken| taken == name) || !may(&table) {
            return None;
        }
        table.going.push(name.to_owned());
        Some(Going {
            live: self.clone(),
            name: name.to_owned(),
        })
    }

    /// Waits until nothing that `concerns` goes any more, then does `enter`, in one moment.
    async fn once_settled(&self, concerns: impl Fn(&str) -> bool, enter: impl FnOnce(&mut Table)) {
        loop {
            let mut settled = std::pin::pin!(self.0.settled.notified());
            settled.as_mut().enable();
            {
                let mut table = self.table();
                if !table.going.iter().any(|name| concerns(name)) {
                    return enter(&mut table);
                }
            }
            settled.await;
        }
    }

    /// Announces a build.
    pub(super) async fn build(&self) -> Build {
        self.once_settled(|_| true, |table| table.builds += 1).await;
        Build(self.clone())
    }
}

/// A run's entry, with the images and volumes that it has; gone when dropped.
pub(super) struct Hold {
    live: Live,
    run: RunId,
    taken: Mutex<Vec<String>>,
}

impl Hold {
    /// Takes an image or a volume by name, before it is looked for.
    pub(super) async fn take(&self, name: &str) {
        self.live
            .once_settled(
                |going| going == name,
                |table| table.taken.push(name.to_owned()),
            )
            .await;
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.live.table();
        if let Some(at) = table.runs.iter().position(|run| *run == self.run) {
            table.runs.swap_remove(at);
        }
        for name in self
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            if let Some(at) = table.taken.iter().position(|taken| taken == name) {
                table.taken.swap_remove(at);
            }
        }
    }
}

/// Something that is being removed, until dropped.
pub(super) struct Going {
    live: Live,
    name: String,
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut table = self.live.table();
        if let Some(at) = table.going.iter().position(|going| *going == self.name) {
            table.going.swap_remove(at);
        }
        drop(table);
        self.live.0.settled.notify_waiters();
    }
}

/// A build that goes on, until dropped.
pub(super) struct Build(Live);

impl Drop for Build {
    fn drop(&mut self) {
        self.0.table().builds -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_a_run_has_stays_and_what_goes_is_waited_for() {
        let live = Live::default();
        let hold = live.hold(RunId::new());
        hold.take("debian:13").await;
        assert!(live.has("debian:13") && live.image_goes("debian:13").is_none());
        let going = live.image_goes("node:20").unwrap();
        let pending = async |future: &mut (dyn Future<Output = ()> + Unpin + Send)| {
            tokio::time::timeout(Duration::from_millis(20), future)
                .await
                .is_err()
        };
        let mut take = Box::pin(hold.take("node:20"));
        let mut build = Box::pin(async { drop(live.build().await) });
        assert!(pending(&mut take).await && pending(&mut build).await);
        hold.take("other:1").await;
        drop(going);
        take.await;
        build.await;
        assert!(live.image_goes("node:20").is_none());
        drop(hold);
        let build = live.build().await;
        assert!(
            live.runs().is_empty()
                && live.image_goes("node:20").is_none()
                && live.volume_goes("v").is_some()
        );
        drop(build);
        assert!(live.image_goes("node:20").is_some());
    }
}
