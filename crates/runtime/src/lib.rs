//! What the parts of quire share and needs tokio: child processes and change notification.

pub mod blocking;
pub mod changes;
pub mod malloc;
pub mod process;
pub mod thread_priority;
