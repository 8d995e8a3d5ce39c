//! Incoming webhooks: a request with the right secret starts a run.
//!
//! ```text
//! request ──► read the secret ──► verify ─┬─► wrong, or no such webhook: the same answer after the same work
//!                                         └─► known delivery? ──► its run
//!                                               └─► limit ──► body as parameters ──► run in the queue ──► answer
//! ```
//! Nothing of a request is looked at before its secret is verified, but its size.

mod credentials;
mod parameters;
mod rate_limit;
mod service;
mod settings;

pub use credentials::HookCredentials;
pub use service::{AcceptedHook, HookError, HookRequest, Hooks, HooksDeps};
pub use settings::{HookSettings, HookTarget, HooksSettings};
