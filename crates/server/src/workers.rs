//! One task for each of a set of names that may change while the server runs.

use std::collections::HashMap;
use std::hash::Hash;

use tokio_util::task::AbortOnDropHandle;

/// The tasks that run. Dropping them ends them.
pub(crate) struct Workers<K>(HashMap<K, AbortOnDropHandle<()>>);

impl<K> Default for Workers<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Workers<K> {
    /// Starts the task of each name that has none, or whose task has ended. The task of a name that is gone ends by itself.
    pub(crate) fn ensure<F>(&mut self, names: impl IntoIterator<Item = K>, start: impl Fn(K) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.retain(|_, worker| !worker.is_finished());
        for name in names {
            self.0
                .entry(name.clone())
                .or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(start(name))));
        }
    }
}
