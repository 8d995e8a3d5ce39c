//! Fields of a body: integers in network byte order, and byte strings after their length.

use alloc::vec::Vec;

use crate::error::ProtocolError;

/// Takes the fields of a body one after another.
pub(crate) struct BodyReader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> BodyReader<'a> {
    pub(crate) const fn new(kind: u8, body: &'a [u8]) -> Self {
        Self { kind, rest: body }
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(ProtocolError::TrailingBytes { kind: self.kind })
    }

    pub(crate) const fn invalid(&self) -> ProtocolError {
        ProtocolError::InvalidValue { kind: self.kind }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let Some((first, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(ProtocolError::Truncated { kind: self.kind });
        };
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, ProtocolError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ProtocolError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], ProtocolError> {
        let length = self.u32()? as usize;
        let Some((string, rest)) = self.rest.split_at_checked(length) else {
            return Err(ProtocolError::Truncated { kind: self.kind });
        };
        self.rest = rest;
        Ok(string)
    }

    /// A byte string that the kernel will see as a C string.
    pub(crate) fn c_string(&mut self) -> Result<&'a [u8], ProtocolError> {
        let string = self.string()?;
        if string.contains(&0) {
            return Err(self.invalid());
        }
        Ok(string)
    }

    /// A list of `item`s after their number. The number is foreign, so it reserves nothing.
    pub(crate) fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Vec<T>, ProtocolError> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// Appends fields to a body.
pub(crate) struct BodyWriter<'a>(pub(crate) &'a mut Vec<u8>);

impl BodyWriter<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Lengths are not checked here: a body that is too long has a header that is refused.
    pub(crate) fn string(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    pub(crate) fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            write(self, item);
        }
    }
}

/// Appends a whole frame whose body is `fields` followed by `tail`, but leaves `tail` to the
/// caller, who writes it after `out` without a copy.
pub(crate) fn frame(
    out: &mut Vec<u8>,
    kind: u8,
    id: u32,
    tail: usize,
    fields: impl FnOnce(&mut BodyWriter<'_>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; crate::HEADER_LENGTH]);
    fields(&mut BodyWriter(out));
    let body = out.len() - start - crate::HEADER_LENGTH + tail;
    let header = crate::FrameHeader { kind, id, body }.encode();
    for (to, from) in out.iter_mut().skip(start).zip(header) {
        *to = from;
    }
}
