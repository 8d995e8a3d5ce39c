//! Encrypts and decrypts values: ChaCha20-Poly1305 (RFC 8439) with a random nonce for each value.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::error::StoredSecretError;
use super::key_file::{SecretKey, SecretKeys};
use quire_store::{SealedSecret, SealedValue};
use quire_types::secret::{Secret, SecretName, SecretScope};
use quire_types::token::random_bytes;

/// What is authenticated with a value, and so cannot be changed without its key.
pub(super) struct SecretContext<'a> {
    pub(super) name: &'a SecretName,
    pub(super) scope: &'a SecretScope,
    pub(super) version: u32,
}

impl<'a> From<&'a SealedSecret> for SecretContext<'a> {
    fn from(secret: &'a SealedSecret) -> Self {
        Self {
            name: &secret.name,
            scope: &secret.scope,
            version: secret.version,
        }
    }
}

impl SecretContext<'_> {
    /// The same bytes for the same context, and others for any other.
    fn bytes(&self, key_id: &str) -> Vec<u8> {
        let parts = serde_json::json!([
            "quire secret 1",
            self.name.as_str(),
            self.scope.repos,
            self.scope.refs,
            self.version,
            key_id
        ]);
        parts.to_string().into_bytes()
    }
}

/// Encrypts a value.
pub(super) fn seal(
    key: &SecretKey,
    context: &SecretContext<'_>,
    value: &Secret,
) -> Result<SealedValue, StoredSecretError> {
    let nonce: [u8; 12] = random_bytes()?;
    let text = value.expose().as_bytes();
    // With room for the tag: a buffer that grows would leave the value in freed memory.
    let mut buffer = Zeroizing::new(Vec::with_capacity(text.len() + CHACHA20_POLY1305.tag_len()));
    buffer.extend_from_slice(text);
    cipher(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context.bytes(&key.id)),
            &mut *buffer,
        )
        .map_err(|_| StoredSecretError::Cipher)?;
    Ok(SealedValue {
        key_id: key.id.clone(),
        nonce,
        ciphertext: buffer.to_vec(),
    })
}

/// Decrypts the value of a secret.
pub(super) fn open(keys: &SecretKeys, secret: &SealedSecret) -> Result<Secret, StoredSecretError> {
    let sealed = &secret.value;
    let key = keys
        .find(&sealed.key_id)
        .ok_or_else(|| StoredSecretError::UnknownKey {
            name: secret.name.clone(),
            path: keys.path.clone(),
        })?;
    let damaged = || StoredSecretError::Damaged(secret.name.clone());
    let mut buffer = Zeroizing::new(sealed.ciphertext.clone());
    let text = cipher(key)?
        .open_in_place(
            Nonce::assume_unique_for_key(sealed.nonce),
            Aad::from(SecretContext::from(secret).bytes(&key.id)),
            &mut buffer,
        )
        .map_err(|_| damaged())?;
    let text = std::str::from_utf8(text).map_err(|_| damaged())?;
    Ok(Secret::new(text.to_owned()))
}

fn cipher(key: &SecretKey) -> Result<LessSafeKey, StoredSecretError> {
    UnboundKey::new(&CHACHA20_POLY1305, key.bytes.as_slice())
        .map(LessSafeKey::new)
        .map_err(|_| StoredSecretError::Cipher)
}
