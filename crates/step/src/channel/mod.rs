//! The encrypted channel between a helper that connects back and the appliance.
//!
//! ```text
//! helper                                        appliance
//!   │  id of the token (16) | e, tag (48)           │
//!   ├──────────────────────────────────────────────►│ finds the token by its id
//!   │                                    e, tag (48) │
//!   │◄──────────────────────────────────────────────┤
//!   │  u16 length | ciphertext, u16 length | …       │
//!   │◄─────────────────────────────────────────────►│
//! ```
//!
//! The handshake is `Noise_NNpsk0_25519_ChaChaPoly_SHA256` with the key of the token as the shared
//! key. What passes through the channel are the same bytes that pass through the standard streams
//! of a helper without one.
//!
//! Invariants: no byte is returned that was not authenticated in its place in the stream; after an
//! error a receiver returns nothing more. That a first message is accepted only once is left to
//! its caller: it has to forget the token.

mod error;
mod handshake;
mod noise;
mod records;
#[cfg(test)]
mod tests;
mod token;

pub use error::ChannelError;
pub use handshake::{
    FIRST_MESSAGE_LENGTH, HelperHandshake, REPLY_LENGTH, SecureChannel, answer_helper,
    first_message_id,
};
pub use records::{ChannelReceiver, ChannelSender, MAX_RECORD};
pub use token::{ChannelToken, TOKEN_BYTES, TOKEN_HEX_LENGTH};
