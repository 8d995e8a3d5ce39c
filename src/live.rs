//! Wake-ups that carry no data.
//!
//! Whoever changes a run (its state, its jobs, its log) says so here, after the change is
//! durable; whoever shows it wakes and reads the truth again, from the database and the log
//! files. So a missed or doubled wake-up is harmless and a follower has no seam to get wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::names::RunId;

/// The hub. Cloning it is cheap and gives the same hub.
#[derive(Debug, Clone)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: watch::Sender<u64>,
    runs: Mutex<HashMap<RunId, watch::Sender<u64>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(Inner {
            all: watch::Sender::new(0),
            runs: Mutex::default(),
        }))
    }
}

impl Live {
    /// A run's state, jobs or steps changed.
    pub fn state_changed(&self, run: RunId) {
        self.0.all.send_modify(|n| *n = n.wrapping_add(1));
        self.log_grew(run);
    }

    /// A run's log grew. Followers of lists are not woken.
    pub fn log_grew(&self, run: RunId) {
        let runs = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = runs.get(&run) {
            sender.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Wakes at each change of any run's state. Arm it before reading what it is about.
    #[must_use]
    pub fn watch_states(&self) -> watch::Receiver<u64> {
        self.0.all.subscribe()
    }

    /// Wakes at each change of one run, its log included. Arm it before reading.
    #[must_use]
    pub fn watch_run(&self, run: RunId) -> watch::Receiver<u64> {
        let mut runs = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|_, sender| sender.receiver_count() > 0);
        runs.entry(run)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// How many followers of single runs there are.
    #[must_use]
    pub fn followers(&self) -> usize {
        let runs = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.values().map(watch::Sender::receiver_count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_of_one_run_is_not_woken_by_another() {
        let live = Live::default();
        let (a, b) = (RunId::new(), RunId::new());
        let mut of_a = live.watch_run(a);
        let mut of_all = live.watch_states();
        of_a.mark_unchanged();
        of_all.mark_unchanged();
        live.state_changed(b);
        live.log_grew(a);
        assert!(of_a.has_changed().unwrap());
        assert!(of_all.has_changed().unwrap());
        of_a.mark_unchanged();
        of_all.mark_unchanged();
        live.log_grew(b);
        assert!(!of_a.has_changed().unwrap() && !of_all.has_changed().unwrap());
        drop(of_a);
        let _other = live.watch_run(b);
        assert_eq!(live.followers(), 1);
    }
}
