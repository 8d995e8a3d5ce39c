//! Why a key was not added, found or removed.

use std::io;
use std::path::PathBuf;

use quire_types::ssh_keys::KeyLineError;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no public key in what was given")]
    NoKey,
    #[error("there is more than one key in what was given")]
    SeveralKeys,
    #[error("what was given is larger than {0} bytes, so it is not a public key")]
    TooLarge(usize),
    #[error("the key was not added")]
    Line(#[from] KeyLineError),
    #[error("the key would have expired already")]
    ExpiresInPast,
    #[error("the key `{name}` is there already, from {source_name}")]
    Exists { name: String, source_name: String },
    #[error("there is no key `{0}`")]
    NotFound(String),
    #[error("`{name}` is the name of several keys: {}", .fingerprints.join(", "))]
    Ambiguous {
        name: String,
        fingerprints: Vec<String>,
    },
    #[error("the key `{name}` comes from {source_name}, so it cannot be removed here")]
    FromElsewhere { name: String, source_name: String },
    #[error("`{0}` is the last key that may do everything, without an end")]
    LastFull(String),
    #[error(
        "{} would be larger than {max} bytes, and then none of its keys could connect",
        path.display()
    )]
    FileTooLarge { path: PathBuf, max: usize },
    #[error("{} is not a regular file of UTF-8 text, so it was not changed", .0.display())]
    NotText(PathBuf),
    #[error("cannot {attempt} {}, so nothing was changed", path.display())]
    Io {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
