//! Tells the targets of `:notify` of the ends of runs and of findings about health, or of pushes.
//!
//! ```text
//! run ends, … ──same transaction─────► outbox ──worker of a target: arm, query, poll──► decide ─┬─► not for it ──► next
//!                                                                                               └─► deliver ─┬─► next
//!                                                                 again, after a delay ◄── failed ───────────┤
//!                                                                 given up: too old, or refused ─────────────┴─► next
//! ```
//! Each target has a worker of its own, which delivers in the order of the outbox and holds up nothing else: no other
//! target, no run and no push. A message is delivered at least once; one that is repeated has the same id. [`policy`]
//! alone decides what a target is told of; it does no I/O. No secret of the configuration is part of a message, and no
//! connection is made to an address that [`crate::addresses`] does not permit.

mod alternation;
mod compose;
mod delivery;
mod delivery_context;
mod delivery_error;
mod deps;
mod failed_jobs;
mod finding_text;
mod message;
mod outgoing_request;
mod policy;
mod readers;
mod repo_choices;
mod service;
mod settings;
mod summary;
mod targets;
mod urgency;
mod worker;

pub use deps::NotifyDeps;
pub use policy::{RefFilter, RepoFilter, RunSelection};
pub use readers::{SecretReader, UrlReader};
pub(crate) use repo_choices::problem_of_target;
pub use service::{NotificationTestError, Notifications};
pub use settings::{NotifySettings, TargetConfig};
pub use targets::{
    CommitStatusTarget, EmailTarget, GitNotesTarget, GithubPushTarget, GotifyTarget, MatrixTarget,
    NtfyTarget, SlackTarget, TargetService, WebhookTarget,
};
