//! Git LFS: pointers in commits, and the objects and locks of a repository in its folder `lfs`, laid out as git-lfs does.
//!
//! ```text
//! lfs/objects/AA/BB/OID   a complete object; AA and BB are the first characters of its id
//! lfs/tmp/OID-UUID        an upload; its writer holds a lock of the kernel on it
//! lfs/locks.json          the locks of `git lfs lock`
//! ```
//! An object appears by one rename, after its size and its SHA-256 have been checked and its content is on the disk. So what
//! is in `objects` is complete, and what a killed process left is in `tmp`, without a lock.

mod direction;
mod fill;
mod locks;
mod missing;
mod new_files;
pub mod packets;
mod pointer;
mod referred;
mod ssh_session;
mod store;
mod transferred;
mod tree_files;

pub use direction::LfsDirection;
pub use fill::fill_pointers;
pub use locks::{LfsLock, LfsLocks, LockError, MAX_LOCKS};
pub use missing::MissingObjects;
pub use pointer::{LfsOid, LfsOidError, LfsPointer, MAX_POINTER};
pub use ssh_session::{LfsAuthentication, LfsSshConnection, LfsSshError, LfsSshSession};
pub use store::{LfsStore, LfsUpload, UploadError};
pub use transferred::{LfsProgress, RefusedObject, TransferredObjects};
pub use tree_files::PointerFile;

pub(crate) use tree_files::pointer_files;
