//! Objects of Git LFS on their way to a remote, or from there: quire as the client of both protocols of Git LFS.
//!
//! ```text
//! commits of the refs, without those that are known ─► pointers, in batches ─► the remote: which of them? ─► one object after the other
//!
//! remote over HTTPS: the batch API at ADDRESS.git/info/lfs      over SSH: git-lfs-transfer, else what git-lfs-authenticate names
//! ```
//! Objects are streamed and never held in memory. The answers of the batch API name addresses: each is resolved and checked as that of
//! the remote is ([`crate::addresses`]), has to be one of HTTPS, and gets the login of the remote only if it is on the same server.
//! Redirects are not followed. `.lfsconfig` is not read: it is content of the repository, and would say where a login is sent.

mod batch;
mod endpoint;
mod error;
mod http;
mod remote;
mod room;
mod ssh;
mod stall;
mod transfer;

pub(super) use error::LfsError;
pub(super) use transfer::{LfsSummary, LfsTransfer};
