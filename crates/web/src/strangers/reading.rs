//! The threads that read repositories for strangers, and who has them.
//!
//! What costs much holds one thread at most, so that it never has both. A few calls wait for a short time, those that cost little apart
//! from the others; more are refused.

use std::sync::Arc;

use quire_git::read::{CpuTimeObserver, ReadPool, ReadTurn};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cost::CostClass;
use super::limits::StrangerLimits;

/// The threads and the queues in front of them.
pub(super) struct StrangerReading {
    pool: ReadPool,
    limits: StrangerLimits,
    light_queue: Semaphore,
    deep_queue: Semaphore,
    heavy: Arc<Semaphore>,
}

impl StrangerReading {
    pub(super) fn new(limits: &StrangerLimits, observer: CpuTimeObserver) -> Self {
        Self {
            pool: ReadPool::start_in_background(limits.reading_threads).observed_by(observer),
            limits: *limits,
            light_queue: Semaphore::new(limits.queue),
            deep_queue: Semaphore::new(limits.queue),
            heavy: Arc::new(Semaphore::new(limits.heavy_threads)),
        }
    }

    /// Waits for a thread; `None` if too many wait, or for too long.
    pub(super) async fn turn(&self, cost: CostClass) -> Option<ReadTurn> {
        let queue = match cost {
            CostClass::Free | CostClass::Light => &self.light_queue,
            CostClass::Medium | CostClass::Heavy => &self.deep_queue,
        };
        // Until there is a thread.
        let _place = queue.try_acquire().ok()?;
        let max_wait = self.limits.max_wait;
        let turn = async {
            let heavy = match cost {
                CostClass::Heavy => Some(self.heavy.clone().acquire_owned().await.ok()?),
                _ => None,
            };
            let turn = self.pool.turn(max_wait).await.ok()?;
            Some(match heavy {
                Some(heavy) => turn.holding(heavy),
                None => turn,
            })
        };
        timeout(max_wait, turn).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(max_wait: Duration) -> StrangerReading {
        let limits = StrangerLimits {
            queue: 1,
            max_wait,
            ..StrangerLimits::default()
        };
        StrangerReading::new(&limits, Arc::new(|_| {}))
    }

    #[tokio::test]
    async fn what_costs_much_has_one_thread_and_the_rest_both() {
        let reading = reading(Duration::from_millis(50));
        let heavy = reading.turn(CostClass::Heavy).await.unwrap();
        assert!(reading.turn(CostClass::Heavy).await.is_none());
        let medium = reading.turn(CostClass::Medium).await.unwrap();
        assert!(reading.turn(CostClass::Light).await.is_none());
        drop(medium);
        let light = reading.turn(CostClass::Light).await.unwrap();
        drop(heavy);
        let medium = reading.turn(CostClass::Medium).await.unwrap();
        assert!(reading.turn(CostClass::Heavy).await.is_none());
        drop((light, medium));
        assert!(reading.turn(CostClass::Heavy).await.is_some());
    }

    #[tokio::test]
    async fn a_few_wait_and_more_are_refused_at_once() {
        let reading = Arc::new(reading(Duration::from_secs(60)));
        let first = reading.turn(CostClass::Medium).await.unwrap();
        let second = reading.turn(CostClass::Medium).await.unwrap();
        let other = reading.clone();
        let waiting = tokio::spawn(async move { other.turn(CostClass::Medium).await });
        tokio::task::yield_now().await;
        assert!(reading.turn(CostClass::Heavy).await.is_none());
        let other = reading.clone();
        let light = tokio::spawn(async move { other.turn(CostClass::Light).await });
        tokio::task::yield_now().await;
        assert!(reading.turn(CostClass::Light).await.is_none());
        drop((first, second));
        assert!(waiting.await.unwrap().is_some() && light.await.unwrap().is_some());
    }
}
