//! The secret that one helper and the appliance share.

use alloc::string::String;
use core::fmt;

use zeroize::Zeroize;

/// How many random bytes a token is made from.
pub const TOKEN_BYTES: usize = ID_BYTES + KEY_BYTES;

/// The length of a token as text.
pub const TOKEN_HEX_LENGTH: usize = 2 * TOKEN_BYTES;

const ID_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// The token of one connection. Its id is public: it stands in the first message. Its key is
/// removed from memory with it.
#[derive(Clone)]
pub struct ChannelToken {
    id: [u8; ID_BYTES],
    key: [u8; KEY_BYTES],
}

impl ChannelToken {
    #[must_use]
    pub fn from_random(bytes: &[u8; TOKEN_BYTES]) -> Self {
        let mut token = Self {
            id: [0; ID_BYTES],
            key: [0; KEY_BYTES],
        };
        let (id, key) = bytes.split_at(ID_BYTES);
        token.id.copy_from_slice(id);
        token.key.copy_from_slice(key);
        token
    }

    /// Reads what [`ChannelToken::to_hex`] returns. `None` if it is no token.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let (pairs, []) = text.as_chunks::<2>() else {
            return None;
        };
        let mut bytes = [0; TOKEN_BYTES];
        if pairs.len() != bytes.len() {
            return None;
        }
        let mut is_hex = true;
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => is_hex = false,
            }
        }
        let token = is_hex.then(|| Self::from_random(&bytes));
        bytes.zeroize();
        token
    }

    /// The token as [`TOKEN_HEX_LENGTH`] lower-case digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let mut text = String::with_capacity(TOKEN_HEX_LENGTH);
        for byte in self.id.iter().chain(&self.key) {
            for value in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(value), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// What the first message of a helper with this token begins with.
    #[must_use]
    pub const fn id(&self) -> [u8; ID_BYTES] {
        self.id
    }

    pub(crate) const fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }
}

impl Drop for ChannelToken {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for ChannelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}
