//! Public SSH keys: the lines of `authorized_keys` files, fingerprints, and the key of a session.
//!
//! This is the only parser of such lines. [`AuthorizedKey::parse`] is strict: it says what is wrong
//! with a line that sshd would ignore silently, and rejects options that quire cannot honour.
//! [`parse_all`] reads the file that sshd reads, and skips what is no key.
//!
//! A key is identified by its fingerprint. Its name, the comment, is for people and need not be
//! unique. [`AuthorizedKeys`] answers for a session what sshd answers for a connection: whether the key could connect now, and
//! what it may do. [`KeyFile`] changes a file of keys.

mod address_list;
mod certificate;
mod error;
mod expiry;
mod key_file;
mod last_use;
mod limits;
mod line;
mod options;
mod quoting;
mod session;
mod wire;

pub use error::KeyLineError;
pub use expiry::{expiry_option, parse_end};
pub use key_file::{FileKey, KeyFile, merged_source};
pub use last_use::{forget_use, last_use, record_use};
pub use limits::KeyLimits;
pub use line::{AuthorizedKey, PublicKey, host_key_fingerprint};
pub use quoting::unquote;
pub use session::{AuthorizedKeys, KeyDenied, SessionKey, parse_all, read, session_key};

#[cfg(test)]
mod tests;
