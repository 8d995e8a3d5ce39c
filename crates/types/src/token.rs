//! Random tokens that sign a browser or a program in. The database holds only their hashes.
//!
//! A token is 32 random bytes in hexadecimal. The database holds its SHA-256, so a
//! copy of the database cannot be used to sign in. No salt is needed: the input has 256 bits of its own.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The operating system returned no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system returned no random bytes")]
pub struct RandomError(#[source] getrandom::Error);

#[cfg(test)]
impl RandomError {
    pub(crate) fn sample() -> Self {
        Self(getrandom::Error::UNSUPPORTED)
    }
}

/// Random bytes of the operating system.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// Returns a new token and its hash. The user gets the token, the database the hash.
pub fn new_token() -> Result<(String, String), RandomError> {
    let token = hex(&random_bytes::<32>()?);
    let hash = hash_token(&token);
    Ok((token, hash))
}

/// The hash by which the database knows a token.
#[must_use]
pub fn hash_token(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// The longest name of a token.
const MAX_NAME: usize = 50;

/// The name of an access token: up to 50 letters, digits, `.`, `_` and `-`, of which the first is no `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenName(String);

/// A text that is not the name of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has up to 50 letters, digits, `.`, `_` and `-`, and does not begin with `-`")]
pub struct TokenNameError;

impl TokenName {
    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        let is_name = (1..=MAX_NAME).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        is_name.then(|| Self(text.to_owned())).ok_or(TokenNameError)
    }
}

/// What an access token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenScope {
    /// To read pages, and to fetch.
    Read,
    /// Also to start, cancel and retry runs.
    Write,
}

/// A text that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is `read` or `write`")]
pub struct TokenScopeError;

impl TokenScope {
    /// As commands and the database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl FromStr for TokenScope {
    type Err = TokenScopeError;

    fn from_str(text: &str) -> Result<Self, TokenScopeError> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            _ => Err(TokenScopeError),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_new_each_time() {
        let (a, hash) = new_token().unwrap();
        let (b, _) = new_token().unwrap();
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
        assert_eq!(hash, hash_token(&a));
        assert_ne!(hash, a);
    }

    #[test]
    fn names_of_tokens() {
        for good in ["laptop", "ci_2.0-x", &"a".repeat(50)] {
            assert_eq!(good.parse::<TokenName>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", "a b", "ü", "a/b", &"a".repeat(51)] {
            assert_eq!(bad.parse::<TokenName>(), Err(TokenNameError), "{bad:?}");
        }
        assert_eq!("read".parse(), Ok(TokenScope::Read));
        assert_eq!("write".parse(), Ok(TokenScope::Write));
        assert_eq!("all".parse::<TokenScope>(), Err(TokenScopeError));
    }

    #[test]
    fn the_hash_is_sha256() {
        assert_eq!(
            hash_token("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
