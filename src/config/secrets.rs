//! Where the configuration says that secrets come from. A value is read when it is first used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// No secret is larger.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// Where a secret's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable of `serve`.
    Environment(String),
}

/// Why a secret has no value. No text of it holds any part of a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The configuration names no such secret.
    #[error("there is no secret `{name}`; {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// A sentence on those there are.
        known: String,
    },
    /// Its file cannot be read.
    #[error("the file of the secret `{name}`, {}, cannot be read", path.display())]
    File {
        /// The secret.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its environment variable is not set.
    #[error("the environment variable {variable} of the secret `{name}` is not set")]
    Environment {
        /// The secret.
        name: String,
        /// Its variable.
        variable: String,
    },
    /// There is a value that cannot be one.
    #[error("the value of the secret `{name}` {what}")]
    Value {
        /// The secret.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl SecretSource {
    /// What a source has to be, for messages.
    pub(super) const EXPECTED: &'static str = "{:file \"/path\"} or {:env \"NAME\"}: where the value is, not the value";

    /// Reads `{:file …}` or `{:env …}`.
    pub(super) fn from_data(value: &Value) -> Option<Self> {
        let fields = value.as_object().filter(|fields| fields.len() == 1)?;
        let (key, value) = fields.iter().next()?;
        let value = value.as_str().filter(|value| !value.is_empty() && !value.contains('\0'))?;
        match key.as_str() {
            "file" => Some(PathBuf::from(value)).filter(|path| path.is_absolute()).map(Self::File),
            "env" => Some(Self::Environment(value.to_owned())).filter(|_| !value.contains('=')),
            _ => None,
        }
    }

    /// Reads the value, without the newlines at its end. `environment` looks a variable up.
    pub fn read(&self, name: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        let value = match self {
            Self::File(path) => {
                read_file(path).map_err(|source| SecretError::File { name: name.to_owned(), path: path.clone(), source })?
            }
            Self::Environment(variable) => {
                let value = environment(variable).map(|value| Zeroizing::new(value.into_bytes()));
                value.ok_or_else(|| SecretError::Environment { name: name.to_owned(), variable: variable.clone() })?
            }
        };
        let wrong = |what| Err(SecretError::Value { name: name.to_owned(), what });
        if value.len() > MAX_SECRET_BYTES {
            return wrong("is larger than 64 KiB");
        }
        let Ok(text) = std::str::from_utf8(&value) else { return wrong("is not UTF-8 text") };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() { wrong("is empty") } else { Ok(Secret::new(text.to_owned())) }
    }
}

fn read_file(path: &std::path::Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Its whole size at once: a buffer that grows leaves copies of what it held.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    File::open(path)?.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut value)?;
    Ok(value)
}

/// Reads one of these secrets.
pub(super) fn read(
    sources: &BTreeMap<String, SecretSource>,
    name: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Secret, SecretError> {
    match sources.get(name) {
        Some(source) => source.read(name, environment),
        None => {
            let names: Vec<&str> = sources.keys().map(String::as_str).collect();
            let known = match super::nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "name it under :secrets in the configuration".to_owned(),
                None => format!("the configuration has {}", names.join(", ")),
            };
            Err(SecretError::Unknown { name: name.chars().take(60).collect(), known })
        }
    }
}
