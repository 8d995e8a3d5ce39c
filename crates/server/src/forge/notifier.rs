//! Who is told that an operation changed something.

use crate::control::client;
use crate::queue::Queue;
use quire_runtime::changes::ChangeNotifier;
use quire_types::names::RunId;
use quire_types::paths::Paths;

/// Notifies the parts of the running server. They also poll, so a lost notification only delays them.
#[derive(Clone)]
pub enum Notifier {
    /// From within the server: the queue's waiters, and the pages that show these runs.
    Server {
        queue: Queue,
        changes: ChangeNotifier,
    },
    /// From a process beside the server: over the control socket.
    Command(Paths),
}

impl Notifier {
    /// Reports that these runs changed, or what decides which run starts next. Returns whether the
    /// server was reached.
    pub(super) fn notify(&self, runs: &[RunId]) -> bool {
        match self {
            Self::Server { queue, changes } => {
                runs.iter().for_each(|run| changes.notify_run(*run));
                queue.wake();
                true
            }
            Self::Command(paths) => client::wake(paths).is_ok(),
        }
    }
}
