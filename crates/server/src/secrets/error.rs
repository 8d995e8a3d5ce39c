//! Why a stored secret cannot be used or changed. No message contains any part of a value.

use std::io;
use std::path::PathBuf;

use quire_store::StoreError;
use quire_types::names::{RefName, RepoName};
use quire_types::secret::SecretName;
use quire_types::token::RandomError;

#[derive(Debug, thiserror::Error)]
pub enum StoredSecretError {
    #[error("there is no stored secret `{0}`")]
    NotFound(SecretName),
    #[error("the value is empty, so nothing was changed")]
    Empty,
    #[error("the value is larger than 1 MiB, so nothing was changed")]
    TooLarge,
    #[error("the value is not UTF-8 text, so nothing was changed")]
    NotText,
    #[error("the configuration defines the secret `{0}`, so it cannot be set here")]
    Configured(SecretName),
    #[error(
        "the secret `{name}` is not available to runs of {repo} at {ref_name}: it was set for other ones (--repo, --ref)"
    )]
    NotGranted {
        name: SecretName,
        repo: RepoName,
        ref_name: RefName,
    },
    #[error("the key of the stored secrets, {}, is missing", .0.display())]
    KeyMissing(PathBuf),
    #[error("{} is not a file of keys: each line has to be 32 bytes in base64", .0.display())]
    KeyMalformed(PathBuf),
    #[error("the secret `{name}` is encrypted with a key that is not in {}", path.display())]
    UnknownKey { name: SecretName, path: PathBuf },
    #[error("the secret `{0}` cannot be decrypted: its row in the database was damaged or changed")]
    Damaged(SecretName),
    #[error("a value cannot be encrypted")]
    Cipher,
    #[error("cannot {attempt} {}", path.display())]
    Io {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
