//! Artifacts: files and folders of a workspace that a run keeps on the data volume.
//!
//! ```text
//! archive of the workspace ─► unpacked into a temporary folder, checked entry by entry ─► synced ─► renamed
//! ```
//! The archive was made by foreign code. Nothing of it is written outside the folder that is held open for
//! it, and entries that could lead a later reader out of it are rejected: links that point outside, devices,
//! pipes.
//!
//! Invariants: under the name of an artifact there is either the whole artifact or nothing; the artifacts of
//! a run stay within their limit; a name is used once.

mod artifact_store;
mod error;
mod link;
mod name;
mod read;
mod removal;
#[cfg(test)]
mod tests;
mod unpack;

pub use artifact_store::{ArtifactStore, DEFAULT_CAP_BYTES, StoredArtifact};
pub use error::ArtifactError;
pub use name::{ArtifactName, ArtifactNameError};
pub use read::{Artifact, Folder, export_to, open};
pub use removal::remove;
