//! Where the configuration says that secrets come from. A value is read when it is first used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::names::{RefName, RepoName};
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

/// A secret: where its value is, and which runs may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    /// Where its value is.
    pub source: SecretSource,
    /// The repositories whose runs may have it; all where there is no list.
    pub repos: Option<Vec<String>>,
    /// The refs whose runs may have it; all where there is no list.
    pub refs: Option<Vec<String>>,
}

impl From<SecretSource> for SecretGrant {
    fn from(source: SecretSource) -> Self {
        Self {
            source,
            repos: None,
            refs: None,
        }
    }
}

impl SecretGrant {
    /// What one has to be, for messages.
    pub(super) const EXPECTED: &'static str = "{:file \"/path\"} or {:env \"NAME\"}: where the value is, not the value; \
         and for whom, where not for all: :repos [\"app\"] :refs [\"refs/heads/main\" \"refs/tags/*\"]";

    /// Reads `{:file … :repos […] :refs […]}`.
    pub(super) fn from_data(value: &Value) -> Option<Self> {
        let mut fields = value.as_object()?.clone();
        let mut list = |name: &str| match fields.remove(name) {
            None => Some(None),
            Some(list) => patterns(&list).map(Some),
        };
        let (repos, refs) = (list("repos")?, list("refs")?);
        Some(Self {
            source: SecretSource::from_data(&Value::Object(fields))?,
            repos,
            refs,
        })
    }

    /// Whether runs of this ref of this repository may have it.
    #[must_use]
    pub fn is_for(&self, repo: &RepoName, ref_name: &RefName) -> bool {
        let among = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|p| matches(p, name)))
        };
        among(&self.repos, repo.as_str()) && among(&self.refs, ref_name.as_str())
    }
}

/// A list of names, at least one; Lua has an empty table for an empty list, which would be for nobody.
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

/// Whether a name is as the pattern says; `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
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
    /// It is for other runs.
    #[error(
        "the secret `{name}` is not for runs of {repo} at {ref_name}: the configuration says for which it is"
    )]
    NotFor {
        /// The secret.
        name: String,
        /// Who asked.
        repo: RepoName,
        /// And of which ref.
        ref_name: RefName,
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
    /// Reads `{:file …}` or `{:env …}`.
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

    /// Reads the value, without the newlines at its end. `environment` looks a variable up.
    pub fn read(
        &self,
        name: &str,
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
        let wrong = |what| {
            Err(SecretError::Value {
                name: name.to_owned(),
                what,
            })
        };
        if value.len() > MAX_SECRET_BYTES {
            return wrong("is larger than 64 KiB");
        }
        let Ok(text) = std::str::from_utf8(&value) else {
            return wrong("is not UTF-8 text");
        };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            wrong("is empty")
        } else {
            Ok(Secret::new(text.to_owned()))
        }
    }
}

fn read_file(path: &std::path::Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Its whole size at once: a buffer that grows leaves copies of what it held.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    File::open(path)?
        .take(MAX_SECRET_BYTES as u64 + 1)
        .read_to_end(&mut value)?;
    Ok(value)
}

/// Reads one of these secrets for a run of this ref of this repository.
pub(super) fn read(
    grants: &BTreeMap<String, SecretGrant>,
    name: &str,
    (repo, ref_name): (&RepoName, &RefName),
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Secret, SecretError> {
    match grants.get(name) {
        Some(grant) if grant.is_for(repo, ref_name) => grant.source.read(name, environment),
        Some(_) => Err(SecretError::NotFor {
            name: name.to_owned(),
            repo: repo.clone(),
            ref_name: ref_name.clone(),
        }),
        None => {
            let permitted = grants
                .iter()
                .filter(|(_, grant)| grant.is_for(repo, ref_name));
            let names: Vec<&str> = permitted.map(|(name, _)| name.as_str()).collect();
            let known = match super::nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => {
                    "name it under :secrets in the configuration".to_owned()
                }
                None => format!("the configuration has {}", names.join(", ")),
            };
            Err(SecretError::Unknown {
                name: name.chars().take(60).collect(),
                known,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("app", "app", true),
            ("app", "apple", false),
            ("*", "", true),
            ("refs/tags/*", "refs/tags/v1/x", true),
            ("refs/tags/*", "refs/heads/refs/tags/x", false),
            ("*/app", "work/app", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
