//! Places that strangers share with those who are signed in. Strangers may hold some of them, and never wait in front of others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// How often a stranger looks for a place that no other client waits for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Places for things that last.
#[derive(Debug, Clone)]
pub(super) struct Places {
    count: usize,
    all: Arc<Semaphore>,
    for_strangers: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_strangers: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// So many places, and how many of them strangers may hold.
    pub(super) fn new(count: usize, for_strangers: usize) -> Self {
        Self {
            count,
            all: Arc::new(Semaphore::new(count)),
            for_strangers: Arc::new(Semaphore::new(for_strangers)),
        }
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        self.count.saturating_sub(self.all.available_permits())
    }

    /// A place that is free now.
    pub(super) fn try_take(&self, is_stranger: bool) -> Option<Place> {
        let of_strangers = match is_stranger {
            true => Some(self.for_strangers.clone().try_acquire_owned().ok()?),
            false => None,
        };
        Some(Place {
            _of_all: self.all.clone().try_acquire_owned().ok()?,
            _of_strangers: of_strangers,
        })
    }

    /// Waits for a place; `None` if there is none in time.
    pub(super) async fn take(&self, is_stranger: bool, max_wait: Duration) -> Option<Place> {
        let taken = match is_stranger {
            true => timeout(max_wait, self.take_for_stranger()).await,
            false => timeout(max_wait, self.take_for_others()).await,
        };
        taken.ok().flatten()
    }

    async fn take_for_others(&self) -> Option<Place> {
        Some(Place {
            _of_all: self.all.clone().acquire_owned().await.ok()?,
            _of_strangers: None,
        })
    }

    async fn take_for_stranger(&self) -> Option<Place> {
        let of_strangers = self.for_strangers.clone().acquire_owned().await.ok()?;
        loop {
            // Fails also while a client that is signed in waits.
            if let Ok(of_all) = self.all.clone().try_acquire_owned() {
                return Some(Place {
                    _of_all: of_all,
                    _of_strangers: Some(of_strangers),
                });
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LATE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn strangers_hold_some_places_and_wait_behind_others() {
        let places = Places::new(3, 2);
        let first = places.take(true, LATE).await.unwrap();
        let second = places.try_take(true).unwrap();
        assert!(places.try_take(true).is_none() && places.take(true, SOON).await.is_none());
        let owner = places.take(false, LATE).await.unwrap();
        assert_eq!(places.held(), 3);
        assert!(places.take(false, SOON).await.is_none());
        // A stranger waits, then a client that is signed in, which is served first.
        drop(second);
        let (other, more) = (places.clone(), places.clone());
        let filled = places.take(false, LATE).await.unwrap();
        let stranger = tokio::spawn(async move { other.take(true, LATE).await });
        tokio::task::yield_now().await;
        let signed_in = tokio::spawn(async move { more.take(false, LATE).await });
        tokio::task::yield_now().await;
        drop(owner);
        let signed_in = signed_in.await.unwrap().unwrap();
        assert!(!stranger.is_finished());
        drop(filled);
        let stranger = stranger.await.unwrap().unwrap();
        assert_eq!(places.held(), 3);
        drop((first, signed_in, stranger));
        assert_eq!(places.held(), 0);
    }
}
