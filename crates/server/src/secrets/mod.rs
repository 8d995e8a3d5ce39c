//! Secrets that are set by a command: encrypted in the database, with keys in a file beside it or elsewhere.
//!
//! Invariants: a value is in the database only encrypted, and its name, its scope and its number are authenticated with it;
//! the file of keys always has every key that a value needs, also if a process is killed; one process at a time changes either.

mod error;
mod key_file;
mod resolver;
mod seal;
mod vault;

pub use error::StoredSecretError;
pub use key_file::KEY_FILE_VARIABLE;
pub use resolver::StoredSecrets;
pub use vault::{MAX_STORED_SECRET, NewSecret, SecretVault};
