//! Public SSH keys: the lines of `authorized_keys` files, fingerprints, and the key of a session.
//!
//! This is the only parser of such lines. [`AuthorizedKey::parse`] is strict: it says what is wrong
//! with a line that sshd would ignore silently, and rejects options that quire cannot honour.
//! [`parse_all`] reads the file that sshd reads, and skips what is no key.
//!
//! A key is identified by its fingerprint. Its name, the comment, is for people and need not be
//! unique. [`AuthorizedKeys`] answers for a session what sshd answers for a connection: whether the key could connect now.

mod address_list;
mod certificate;
mod error;
mod line;
mod options;
mod quoting;
mod session;
mod wire;

pub use error::KeyLineError;
pub use line::{AuthorizedKey, PublicKey};
pub use quoting::unquote;
pub use session::{AuthorizedKeys, KeyDenied, SessionKey, parse_all, read, session_key};

#[cfg(test)]
mod tests;
