//! The handshake of both sides: one message in each direction, of a fixed size.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifier, HandshakeModifierList,
    HandshakePattern, HashChoice, NoiseParams,
};
use snow::{Builder, HandshakeState};

use crate::channel::error::ChannelError;
use crate::channel::noise::Primitives;
use crate::channel::records::{ChannelReceiver, ChannelSender};
use crate::channel::token::ChannelToken;

/// The length of the first message of a helper.
pub const FIRST_MESSAGE_LENGTH: usize = ID_LENGTH + REPLY_LENGTH;

/// The length of the appliance's reply to it.
pub const REPLY_LENGTH: usize = 48;

const ID_LENGTH: usize = 16;

/// The name and the version of what follows the handshake. Both sides mix it in, so that they
/// agree on it, with the id.
const PROLOGUE: &[u8] = b"quire step channel 1";

const NAME: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";

#[derive(Clone, Copy)]
enum HandshakeSide {
    Helper,
    Appliance,
}

/// Both directions after the handshake. They can be owned by different tasks.
#[derive(Debug)]
pub struct SecureChannel {
    pub sender: ChannelSender,
    pub receiver: ChannelReceiver,
}

/// The helper's side of the handshake, after its first message.
pub struct HelperHandshake(HandshakeState);

impl HelperHandshake {
    /// Returns the first message as well. `random` must be random bytes that are used for nothing
    /// else.
    ///
    /// # Errors
    /// [`ChannelError::Handshake`], which no input can cause.
    pub fn begin(
        token: &ChannelToken,
        random: [u8; 32],
    ) -> Result<(Self, [u8; FIRST_MESSAGE_LENGTH]), ChannelError> {
        let mut state = handshake(token, random, HandshakeSide::Helper)?;
        let mut message = [0; FIRST_MESSAGE_LENGTH];
        let (id, noise) = message.split_at_mut(ID_LENGTH);
        id.copy_from_slice(&token.id());
        write_message(&mut state, noise)?;
        Ok((Self(state), message))
    }

    /// # Errors
    /// [`ChannelError::Handshake`] if the reply was not made with the same token for the first
    /// message of this handshake.
    pub fn finish(mut self, reply: &[u8; REPLY_LENGTH]) -> Result<SecureChannel, ChannelError> {
        read_message(&mut self.0, reply)?;
        channel(self.0)
    }
}

/// The id of the token that a helper claims to have. Nothing about it is proven.
#[must_use]
pub fn first_message_id(message: &[u8; FIRST_MESSAGE_LENGTH]) -> [u8; 16] {
    let mut id = [0; ID_LENGTH];
    id.copy_from_slice(message.split_at(ID_LENGTH).0);
    id
}

/// The appliance's side of the handshake: the reply to a first message, and the channel. `random`
/// as for the helper.
///
/// The message can be a copy of one that was seen on the way. The sender of a copy cannot read or
/// write the channel, but the caller has to accept one message for a token only.
///
/// # Errors
/// [`ChannelError::Handshake`] if the message was not made with this token.
pub fn answer_helper(
    token: &ChannelToken,
    message: &[u8; FIRST_MESSAGE_LENGTH],
    random: [u8; 32],
) -> Result<([u8; REPLY_LENGTH], SecureChannel), ChannelError> {
    let (id, noise) = message.split_at(ID_LENGTH);
    if id != token.id() {
        return Err(ChannelError::Handshake);
    }
    let mut state = handshake(token, random, HandshakeSide::Appliance)?;
    read_message(&mut state, noise)?;
    let mut reply = [0; REPLY_LENGTH];
    write_message(&mut state, &mut reply)?;
    Ok((reply, channel(state)?))
}

fn handshake(
    token: &ChannelToken,
    random: [u8; 32],
    side: HandshakeSide,
) -> Result<HandshakeState, ChannelError> {
    let params = NoiseParams::new(
        String::from(NAME),
        BaseChoice::Noise,
        HandshakeChoice {
            pattern: HandshakePattern::NN,
            modifiers: HandshakeModifierList {
                list: vec![HandshakeModifier::Psk(0)],
            },
        },
        DHChoice::Curve25519,
        CipherChoice::ChaChaPoly,
        HashChoice::SHA256,
    );
    let prologue = [PROLOGUE, &token.id()].concat();
    Builder::with_resolver(params, Box::new(Primitives::new(random)))
        .prologue(&prologue)
        .and_then(|builder| builder.psk(0, token.key()))
        .and_then(|builder| match side {
            HandshakeSide::Helper => builder.build_initiator(),
            HandshakeSide::Appliance => builder.build_responder(),
        })
        .map_err(|_| ChannelError::Handshake)
}

/// Fills `message`, which has the length of a message without a payload.
fn write_message(state: &mut HandshakeState, message: &mut [u8]) -> Result<(), ChannelError> {
    match state.write_message(&[], message) {
        Ok(length) if length == message.len() => Ok(()),
        _ => Err(ChannelError::Handshake),
    }
}

fn read_message(state: &mut HandshakeState, message: &[u8]) -> Result<(), ChannelError> {
    match state.read_message(message, &mut []) {
        Ok(0) => Ok(()),
        _ => Err(ChannelError::Handshake),
    }
}

fn channel(state: HandshakeState) -> Result<SecureChannel, ChannelError> {
    let state = state
        .into_stateless_transport_mode()
        .map_err(|_| ChannelError::Handshake)?;
    let state = Arc::new(state);
    Ok(SecureChannel {
        sender: ChannelSender::new(Arc::clone(&state)),
        receiver: ChannelReceiver::new(state),
    })
}
