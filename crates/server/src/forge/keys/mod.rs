//! The SSH keys that may connect.
//!
//! Keys come from the file in the volume, which these operations change, from a file that is mounted and from the
//! environment. `quire init` merges them into the file that sshd reads.

mod add;
mod error;
mod list;
mod remove;
mod stored;

pub use add::{AddRequest, AddedKey, MAX_KEY_INPUT, add, add_lines};
pub use error::KeyError;
pub use list::{KeyEntry, find, list};
pub use remove::{RemovedKey, remove};
