//! The content of files.

use gix::ObjectId as Id;
use gix::object::Kind;
use quire_types::names::ObjectId;

use super::error::ReadError;
use super::reader::{Reader, gix_id};

/// The largest file whose content is read.
pub const MAX_BLOB_BYTES: u64 = 16 << 20;
/// How much of a file decides whether it is text, as in git.
const BINARY_PROBE_BYTES: usize = 8000;

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobContent {
    /// All bytes of it.
    pub data: Vec<u8>,
}

impl BlobContent {
    /// Whether git takes it for binary.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        is_binary(&self.data)
    }
}

/// Whether git takes these bytes for binary.
#[must_use]
pub fn is_binary(data: &[u8]) -> bool {
    let probe = &data[..data.len().min(BINARY_PROBE_BYTES)];
    memchr::memchr(0, probe).is_some()
}

impl Reader {
    /// The content of a file of at most `max_bytes`.
    pub fn blob(&self, id: &ObjectId, max_bytes: u64) -> Result<BlobContent, ReadError> {
        let max_bytes = max_bytes.min(MAX_BLOB_BYTES);
        let data = self.object(gix_id(id)?, Kind::Blob, max_bytes)?;
        Ok(BlobContent { data })
    }

    /// The size of a blob.
    pub(super) fn blob_size(&self, id: Id) -> Result<u64, ReadError> {
        let header = self.repo.find_header(id);
        Ok(header.map_err(ReadError::damaged("read an object"))?.size())
    }
}
