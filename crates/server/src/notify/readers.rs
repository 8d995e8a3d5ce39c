//! Secrets and URLs of targets, which are read at each use.

use quire_types::http_url::HttpUrl;
use quire_types::secret::Secret;
pub use quire_types::secret::SecretReader;

/// Reads a secret that need not be there. Blocks.
pub(super) fn read_optional(secret: Option<&SecretReader>) -> Result<Option<Secret>, String> {
    secret.map(|read| read()).transpose()
}

/// A URL that may be a secret.
#[derive(Clone)]
pub enum UrlReader {
    Plain(HttpUrl),
    Secret(SecretReader),
}

impl UrlReader {
    /// Blocks.
    pub(super) fn read(&self) -> Result<HttpUrl, String> {
        match self {
            Self::Plain(url) => Ok(url.clone()),
            Self::Secret(read) => {
                let parsed = read()?.expose().parse::<HttpUrl>();
                parsed.map_err(|error| format!("the value of the secret `url` is {error}"))
            }
        }
    }
}
