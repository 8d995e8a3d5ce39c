//! The sources of secrets. The value of a secret is read when it is first used.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde_json::Value;
use zeroize::Zeroizing;

use quire_types::names::{RefName, RepoName};
use quire_types::secret::{FinalNewline, Secret, SecretScope, secret_from_text};

/// The largest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// Where a secret's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    /// An environment variable of `serve`.
    Environment(String),
}

/// A secret of the configuration: where its value is, and which runs may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    pub source: SecretSource,
    pub scope: SecretScope,
    /// `:trim false` keeps the newlines at the end of the value.
    pub newline: FinalNewline,
}

/// Where the value is.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
        }
    }
}

impl From<SecretSource> for SecretGrant {
    fn from(source: SecretSource) -> Self {
        Self {
            source,
            scope: SecretScope::default(),
            newline: FinalNewline::default(),
        }
    }
}

impl SecretGrant {
    /// The expected value, for messages.
    pub(super) const EXPECTED: &'static str = "{:file \"/path\"} or {:env \"NAME\"} (where the value is, never the value itself), \
         optionally with :repos [\"app\"], :refs [\"refs/heads/main\" \"refs/tags/*\"] and :trim false";

    /// Reads a table such as `{:file … :repos […] :refs […]}`.
    pub(super) fn from_data(value: &Value) -> Option<Self> {
        let mut fields = value.as_object()?.clone();
        let mut list = |name: &str| match fields.remove(name) {
            None => Some(None),
            Some(list) => patterns(&list).map(Some),
        };
        let (repos, refs) = (list("repos")?, list("refs")?);
        let newline = match fields.remove("trim").map(|trim| trim.as_bool()) {
            None | Some(Some(true)) => FinalNewline::Trim,
            Some(Some(false)) => FinalNewline::Keep,
            Some(None) => return None,
        };
        Some(Self {
            source: SecretSource::from_data(&Value::Object(fields))?,
            scope: SecretScope { repos, refs },
            newline,
        })
    }

    /// Reads the value. `environment` returns the value of a variable.
    pub(super) fn read(
        &self,
        name: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        self.source.read_text(name, self.newline, environment)
    }
}

/// A list of at least one pattern. An empty list would grant the secret to no run.
fn patterns(list: &Value) -> Option<Vec<String>> {
    let names = list.as_array()?.iter().map(|name| {
        name.as_str()
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    });
    names
        .collect::<Option<Vec<_>>>()
        .filter(|names| !names.is_empty())
}

/// Why a secret cannot be used. No message contains any part of a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("there is no secret `{name}`; {hint}")]
    Unknown {
        name: String,
        /// How to find the right name.
        hint: String,
    },
    #[error(
        "the secret `{name}` is not available to runs of {repo} at {ref_name}: the configuration limits it by :repos or :refs"
    )]
    NotGranted {
        name: String,
        repo: RepoName,
        ref_name: RefName,
    },
    #[error("the file {} of the secret `{name}` cannot be read", path.display())]
    File {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the environment variable {variable} of the secret `{name}` is not set")]
    Environment { name: String, variable: String },
    #[error("the value of the secret `{name}` {problem}")]
    Value { name: String, problem: &'static str },
}

impl SecretSource {
    /// Reads a table such as `{:file …}` or `{:env …}`.
    pub(super) fn from_data(value: &Value) -> Option<Self> {
        let fields = value.as_object().filter(|fields| fields.len() == 1)?;
        let (key, value) = fields.iter().next()?;
        let value = value
            .as_str()
            .filter(|value| !value.is_empty() && !value.contains('\0'))?;
        match key.as_str() {
            "file" => Some(PathBuf::from(value))
                .filter(|path| path.is_absolute())
                .map(Self::File),
            "env" => Some(Self::Environment(value.to_owned())).filter(|_| !value.contains('=')),
            _ => None,
        }
    }

    /// Reads the value without trailing newlines; one of several lines keeps one. `environment` returns the value of a variable.
    pub fn read(
        &self,
        name: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        self.read_text(name, FinalNewline::Trim, environment)
    }

    fn read_text(
        &self,
        name: &str,
        newline: FinalNewline,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        let value = match self {
            Self::File(path) => read_file(path).map_err(|source| SecretError::File {
                name: name.to_owned(),
                path: path.clone(),
                source,
            })?,
            Self::Environment(variable) => {
                let value = environment(variable).map(|value| Zeroizing::new(value.into_bytes()));
                value.ok_or_else(|| SecretError::Environment {
                    name: name.to_owned(),
                    variable: variable.clone(),
                })?
            }
        };
        let invalid = |problem| {
            Err(SecretError::Value {
                name: name.to_owned(),
                problem,
            })
        };
        if value.len() > MAX_SECRET_BYTES {
            return invalid("is larger than 64 KiB");
        }
        let Ok(text) = std::str::from_utf8(&value) else {
            return invalid("is not UTF-8 text");
        };
        match secret_from_text(text, newline) {
            secret if secret.expose().is_empty() => invalid("is empty"),
            secret => Ok(secret),
        }
    }
}

fn read_file(path: &std::path::Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserves the whole size: a growing buffer would leave copies of the secret in freed memory.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    File::open(path)?
        .take(MAX_SECRET_BYTES as u64 + 1)
        .read_to_end(&mut value)?;
    Ok(value)
}
