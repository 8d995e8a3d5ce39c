//! Pushes repositories to the remotes of `:mirrors`, imports repositories from remotes, and lets them follow those.
//!
//! ```text
//! push, poll, start, configuration ──► read the refs here ──► what is known of the remote differs, or is old?
//!                                                                │ yes, and no delay is left
//!                                      in sync ◄── push ◄── read the refs there ──► fails: again, after a delay
//! ```
//! The state to reach is that the refs of the remote equal those of the repository, as far as the patterns cover them. It is
//! compared, not remembered: many pushes are one, and neither a restart nor a lost notification loses any. Each mirror has a
//! worker of its own, which holds up no other mirror, no push and no run. A pull mirror is the same with the two sides exchanged: its worker
//! fetches, and moves the refs here as a push does. No secret is part of a message, and no
//! connection is made to an address that [`crate::addresses`] does not permit.

mod attempt;
mod attempt_error;
mod import;
mod import_error;
mod lfs;
mod lfs_step;
mod pull;
mod remote_connection;
mod service;
mod settings;
mod shared;
mod source;
mod worker;

pub use import_error::ImportError;
pub use service::{MirrorService, MirrorSyncError, SyncedMirror};
pub use settings::{
    GrantedSecretLookup, MirrorConfig, MirrorOrigin, MirrorSettings, MirrorTarget, NamedMirror,
    RepoCheck, SecretLookup,
};
pub use shared::MirrorDeps;
