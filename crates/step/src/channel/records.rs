//! The records of one direction: `u16 length | ciphertext`, numbered from 0 without gaps.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use snow::{Error, StatelessTransportState};

use crate::channel::error::ChannelError;

/// The largest length of a record, which counts what follows it.
pub const MAX_RECORD: usize = u16::MAX as usize;

const LENGTH_BYTES: usize = 2;

/// What a record has beside its plain bytes.
const TAG: usize = 16;

const MAX_PLAIN: usize = MAX_RECORD - TAG;

/// Encrypts what is sent.
pub struct ChannelSender {
    state: Arc<StatelessTransportState>,
    number: u64,
}

/// Decrypts what is received, in pieces of any size. It holds at most one incomplete record.
pub struct ChannelReceiver {
    state: Arc<StatelessTransportState>,
    number: u64,
    /// The beginning of a record whose rest has not arrived.
    partial: Vec<u8>,
    failure: Option<ChannelError>,
}

impl ChannelSender {
    pub(crate) const fn new(state: Arc<StatelessTransportState>) -> Self {
        Self { state, number: 0 }
    }

    /// Appends `plain` to `out` as records.
    ///
    /// # Errors
    /// [`ChannelError::Exhausted`].
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ChannelError> {
        out.reserve(plain.len() + plain.len().div_ceil(MAX_PLAIN) * (LENGTH_BYTES + TAG));
        for piece in plain.chunks(MAX_PLAIN) {
            let length = u16::try_from(piece.len() + TAG).map_err(|_| ChannelError::Exhausted)?;
            out.extend_from_slice(&length.to_be_bytes());
            let start = out.len();
            out.resize(start + usize::from(length), 0);
            let record = out.get_mut(start..).unwrap_or_default();
            self.state
                .write_message(self.number, piece, record)
                .map_err(|_| ChannelError::Exhausted)?;
            self.number += 1;
        }
        Ok(())
    }
}

impl ChannelReceiver {
    pub(crate) const fn new(state: Arc<StatelessTransportState>) -> Self {
        Self {
            state,
            number: 0,
            partial: Vec::new(),
            failure: None,
        }
    }

    /// Takes bytes as they arrive, and appends what the records in them hold to `plain`.
    ///
    /// # Errors
    /// All but [`ChannelError::Handshake`]. What came before the record at fault is in `plain`.
    /// After an error each call returns it again.
    pub fn open(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), ChannelError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let result = self.open_records(bytes, plain);
        if let Err(failure) = result {
            self.failure = Some(failure);
            self.partial = Vec::new();
        }
        result
    }

    /// Whether bytes of an incomplete record are left: at the end of the input, it was cut.
    #[must_use]
    pub fn is_within_record(&self) -> bool {
        !self.partial.is_empty()
    }

    fn open_records(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), ChannelError> {
        let mut partial = core::mem::take(&mut self.partial);
        while !partial.is_empty() {
            let missing = match record_length(&partial)? {
                None => LENGTH_BYTES - partial.len(),
                Some(length) => LENGTH_BYTES + length - partial.len(),
            };
            if missing == 0 {
                self.open_record(partial.get(LENGTH_BYTES..).unwrap_or_default(), plain)?;
                partial.clear();
                break;
            }
            let Some((first, rest)) = bytes.split_at_checked(missing) else {
                partial.extend_from_slice(bytes);
                self.partial = partial;
                return Ok(());
            };
            partial.extend_from_slice(first);
            bytes = rest;
        }
        while let Some(length) = record_length(bytes)? {
            let rest = bytes.get(LENGTH_BYTES..).unwrap_or_default();
            let Some((record, rest)) = rest.split_at_checked(length) else {
                break;
            };
            self.open_record(record, plain)?;
            bytes = rest;
        }
        partial.extend_from_slice(bytes);
        self.partial = partial;
        Ok(())
    }

    fn open_record(&mut self, record: &[u8], plain: &mut Vec<u8>) -> Result<(), ChannelError> {
        let start = plain.len();
        plain.resize(start + record.len().saturating_sub(TAG), 0);
        let room = plain.get_mut(start..).unwrap_or_default();
        match self.state.read_message(self.number, record, room) {
            Ok(_) => {
                self.number += 1;
                Ok(())
            }
            Err(error) => {
                plain.truncate(start);
                Err(match error {
                    Error::State(_) => ChannelError::Exhausted,
                    _ => ChannelError::Forged,
                })
            }
        }
    }
}

/// The length at the beginning of `bytes`; `None` if it is not complete.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, ChannelError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes(*length);
    if usize::from(length) < TAG {
        return Err(ChannelError::ShortRecord(length));
    }
    Ok(Some(usize::from(length)))
}

// The keys stay out of what is printed.

impl fmt::Debug for ChannelSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReceiver")
            .field("number", &self.number)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
