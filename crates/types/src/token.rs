//! Random tokens that sign a browser in. The database holds only their hashes.
//!
//! A token is 32 random bytes in hexadecimal. The database holds its SHA-256, so a
//! copy of the database cannot be used to sign in. No salt is needed: the input has 256 bits of its own.

use std::fmt::Write as _;

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

/// Returns a new token and its hash. The user gets the token, the database the hash.
pub fn new_token() -> Result<(String, String), RandomError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    let token = hex(&bytes);
    let hash = hash_token(&token);
    Ok((token, hash))
}

/// The hash by which the database knows a token.
#[must_use]
pub fn hash_token(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
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
    fn the_hash_is_sha256() {
        assert_eq!(
            hash_token("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
