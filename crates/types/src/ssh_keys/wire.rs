//! The binary form of keys and certificates: fields, each with its length.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// Splits off a field: its length as four bytes, then its content.
pub(super) fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// How many fields follow the type in a key of this type; `None` if sshd does not know the type.
pub(super) fn field_count(key_type: &str) -> Option<usize> {
    match key_type {
        "ssh-ed25519" => Some(1),
        "ssh-rsa"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "ecdsa-sha2-nistp521"
        | "sk-ssh-ed25519@openssh.com" => Some(2),
        "sk-ecdsa-sha2-nistp256@openssh.com" => Some(3),
        _ => None,
    }
}

/// Whether a decoded key consists of its type and that many fields, each with its length, and of
/// nothing else.
pub(super) fn is_complete(raw: &[u8], key_type: &str, fields: usize) -> bool {
    let mut rest = raw;
    for index in 0..=fields {
        let Some((field, after)) = split_field(rest) else {
            return false;
        };
        if field.is_empty()
            || (index == 0 && field != key_type.as_bytes())
            || (index == 1 && key_type == "ssh-ed25519" && field.len() != 32)
        {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// `SHA256:…` of a key in base64, as ssh-keygen prints it.
pub(super) fn fingerprint(blob: &str) -> String {
    STANDARD
        .decode(blob)
        .map_or_else(|_| "unknown key".to_owned(), |raw| fingerprint_of(&raw))
}

/// `SHA256:…` of a decoded key.
pub(super) fn fingerprint_of(raw: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(raw)))
}
