//! Change notifications that carry no data.
//!
//! Code that changes a run (its state, its jobs, its log) notifies here, after the change is
//! durable; code that shows a run wakes up and reads the database and the log files again. So a
//! lost or repeated notification does no harm, and no follower has to join stored and live data.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use quire_types::names::{RepoName, RunId};
use quire_types::sync::lock;

/// Notifies about changed runs. A clone notifies the same subscribers.
#[derive(Debug, Clone)]
pub struct ChangeNotifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: watch::Sender<u64>,
    all_repos: watch::Sender<u64>,
    outbox: watch::Sender<u64>,
    runs: Mutex<HashMap<RunId, watch::Sender<u64>>>,
    repos: Mutex<HashMap<RepoName, watch::Sender<u64>>>,
}

impl Default for ChangeNotifier {
    fn default() -> Self {
        Self(Arc::new(Inner {
            all: watch::Sender::new(0),
            all_repos: watch::Sender::new(0),
            outbox: watch::Sender::new(0),
            runs: Mutex::default(),
            repos: Mutex::default(),
        }))
    }
}

impl ChangeNotifier {
    /// Reports that the state, a job or a step of a run changed.
    pub fn notify_run(&self, run: RunId) {
        self.0.all.send_modify(|n| *n = n.wrapping_add(1));
        self.notify_log(run);
    }

    /// Reports that the log of a run grew. Subscribers to all runs are not woken.
    pub fn notify_log(&self, run: RunId) {
        let runs = lock(&self.0.runs);
        if let Some(sender) = runs.get(&run) {
            sender.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Subscribes to the state of all runs. Subscribe first, then read, so that no change is missed in between.
    #[must_use]
    pub fn subscribe_all(&self) -> watch::Receiver<u64> {
        self.0.all.subscribe()
    }

    /// Subscribes to one run and its log. Subscribe first, then read.
    #[must_use]
    pub fn subscribe_run(&self, run: RunId) -> watch::Receiver<u64> {
        let mut runs = lock(&self.0.runs);
        runs.retain(|_, sender| sender.receiver_count() > 0);
        runs.entry(run)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Reports that the refs of a repository may have changed.
    pub fn notify_repo(&self, repo: &RepoName) {
        self.notify_names();
        let repos = lock(&self.0.repos);
        if let Some(sender) = repos.get(repo) {
            sender.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Reports that repositories may have other names or default branches. Subscribers to single repositories are not woken.
    pub fn notify_names(&self) {
        self.0.all_repos.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Subscribes to the refs and names of all repositories. Subscribe first, then read.
    #[must_use]
    pub fn subscribe_repos(&self) -> watch::Receiver<u64> {
        self.0.all_repos.subscribe()
    }

    /// Subscribes to the refs of one repository. Subscribe first, then read.
    #[must_use]
    pub fn subscribe_repo(&self, repo: &RepoName) -> watch::Receiver<u64> {
        let mut repos = lock(&self.0.repos);
        repos.retain(|_, sender| sender.receiver_count() > 0);
        repos
            .entry(repo.clone())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Reports that the outbox has something that is no end of a run and no push.
    pub fn notify_outbox(&self) {
        self.0.outbox.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Subscribes to what [`Self::notify_outbox`] reports. Subscribe first, then read.
    #[must_use]
    pub fn subscribe_outbox(&self) -> watch::Receiver<u64> {
        self.0.outbox.subscribe()
    }

    /// The number of subscriptions to single runs.
    #[must_use]
    pub fn followers(&self) -> usize {
        let runs = lock(&self.0.runs);
        runs.values().map(watch::Sender::receiver_count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_of_one_run_is_not_woken_by_another() {
        let live = ChangeNotifier::default();
        let (a, b) = (RunId::new(), RunId::new());
        let mut of_a = live.subscribe_run(a);
        let mut of_all = live.subscribe_all();
        of_a.mark_unchanged();
        of_all.mark_unchanged();
        live.notify_run(b);
        live.notify_log(a);
        assert!(of_a.has_changed().unwrap());
        assert!(of_all.has_changed().unwrap());
        of_a.mark_unchanged();
        of_all.mark_unchanged();
        live.notify_log(b);
        assert!(!of_a.has_changed().unwrap() && !of_all.has_changed().unwrap());
        drop(of_a);
        let _other = live.subscribe_run(b);
        assert_eq!(live.followers(), 1);
    }
}
