//! One line of an `authorized_keys` file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::{KeyLineError, MAX_LINE_BYTES};
use super::options::KeyOptions;
use super::quoting::{split_word, unquote};
use crate::text::is_unprintable;

use super::wire::{field_count, fingerprint, is_complete};

const MAX_NAME_CHARS: usize = 100;

/// A public key, as commands and pages show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicKey {
    /// The comment; the fingerprint if there is none.
    pub name: String,
    /// Such as `ssh-ed25519`.
    #[serde(rename = "type")]
    pub key_type: String,
    /// As `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// A line of an `authorized_keys` file: `[options] type base64 [comment]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizedKey<'a> {
    /// The whole line, without quotes around it.
    pub line: &'a str,
    options: &'a str,
    key_type: &'a str,
    blob: &'a str,
    comment: &'a str,
}

/// The fingerprint of a key that is written as its type and base64; `None` if it is none.
#[must_use]
pub fn host_key_fingerprint(key: &str) -> Option<String> {
    let key = AuthorizedKey::parse(key).ok()??;
    Some(key.public_key().fingerprint)
}

impl<'a> AuthorizedKey<'a> {
    /// Parses and checks a line. Returns `None` for a blank line and a comment.
    ///
    /// # Errors
    /// sshd would ignore the line, or it asks for a restriction that quire cannot enforce.
    pub fn parse(line: &'a str) -> Result<Option<Self>, KeyLineError> {
        let Some(key) = Self::split(line) else {
            return Ok(None);
        };
        key.check_line()?;
        key.options()?;
        key.check_key()?;
        Ok(Some(key))
    }

    /// Two lines with the same identity are the same key with the same rights.
    #[must_use]
    pub fn identity(&self) -> (&'a str, &'a str) {
        (self.options, self.blob)
    }

    /// The key without its options.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey {
            name: self.name(),
            key_type: self.key_type.to_owned(),
            fingerprint: fingerprint(self.blob),
        }
    }

    /// What its options restrict.
    pub(super) fn options(&self) -> Result<KeyOptions, KeyLineError> {
        KeyOptions::parse(self.options)
    }

    /// The key in base64.
    pub(super) fn blob(&self) -> &'a str {
        self.blob
    }

    /// Splits a line into its parts, any of which may be empty or wrong.
    fn split(line: &'a str) -> Option<Self> {
        // Editors on Windows begin a file with a byte order mark.
        let line = unquote(line.strip_prefix('\u{feff}').unwrap_or(line));
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (first, rest) = split_word(line);
        let (options, (key_type, rest)) = if looks_like_key_type(first) {
            ("", (first, rest))
        } else {
            (first, split_word(rest))
        };
        let (blob, comment) = split_word(rest);
        Some(Self {
            line,
            options,
            key_type,
            blob,
            comment,
        })
    }

    /// Like [`AuthorizedKey::parse`] for a file that is already in use: returns `None` for everything
    /// that is no key, and accepts all options and key types.
    pub(super) fn parse_leniently(line: &'a str) -> Option<Self> {
        Self::split(line).filter(|key| {
            looks_like_key_type(key.key_type)
                && STANDARD.decode(key.blob).is_ok_and(|raw| raw.len() > 16)
        })
    }

    fn check_line(&self) -> Result<(), KeyLineError> {
        let is_forbidden = |c: char| c.is_control() && c != '\t';
        if self.line.contains(is_forbidden) {
            Err(KeyLineError::ControlCharacter)
        } else if self.line.starts_with("-----BEGIN") || self.line.contains("PRIVATE KEY") {
            Err(KeyLineError::PrivateKey)
        } else if self.line.len() > MAX_LINE_BYTES {
            Err(KeyLineError::TooLong)
        } else {
            Ok(())
        }
    }

    fn check_key(&self) -> Result<(), KeyLineError> {
        let fields = match self.key_type {
            "" => return Err(KeyLineError::NoKey),
            "ssh-dss" => return Err(KeyLineError::DsaKey),
            key_type => field_count(key_type).ok_or(KeyLineError::UnknownKeyType)?,
        };
        if self.blob.is_empty() {
            return Err(KeyLineError::MissingKey);
        }
        let raw = STANDARD
            .decode(self.blob)
            .map_err(|_| KeyLineError::InvalidBase64)?;
        if is_complete(&raw, self.key_type, fields) {
            Ok(())
        } else {
            Err(KeyLineError::DamagedKey)
        }
    }

    fn name(&self) -> String {
        let name: String = self
            .comment
            .chars()
            .filter(|c| !is_unprintable(*c))
            .take(MAX_NAME_CHARS)
            .collect();
        if name.is_empty() {
            fingerprint(self.blob)
        } else {
            name
        }
    }
}

fn looks_like_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
        && !word.contains(['=', '"', ','])
}
