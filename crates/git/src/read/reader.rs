//! One repository, as a reading thread sees it.

use std::path::Path;

use gix::ObjectId as Id;
use quire_types::names::ObjectId;

use super::error::ReadError;

/// What a thread keeps of decoded objects, for each repository.
const OBJECT_CACHE_BYTES: usize = 2 << 20;
/// Settings of gix: little is kept of packs.
const SETTINGS: [&str; 1] = ["core.deltaBaseCacheLimit=2m"];

/// A repository that is open for reading.
pub struct Reader {
    pub(super) repo: gix::Repository,
}

impl Reader {
    /// Opens a bare repository by its folder. Only its own configuration counts.
    pub(super) fn open_shared(path: &Path) -> Result<gix::ThreadSafeRepository, ReadError> {
        gix::open::Options::isolated()
            .open_path_as_is(true)
            .config_overrides(SETTINGS)
            .open(path)
            .map_err(|source| ReadError::Open {
                path: path.to_owned(),
                source,
            })
    }

    pub(super) fn new(shared: &gix::ThreadSafeRepository) -> Self {
        let mut repo = shared.to_thread_local();
        repo.object_cache_size(OBJECT_CACHE_BYTES);
        Self { repo }
    }

    /// Opens a repository without a pool, for a single question.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::new(&Self::open_shared(path)?))
    }

    /// The bytes of an object of this kind; fails if it is larger than `max_bytes`.
    pub(super) fn object(
        &self,
        id: Id,
        kind: gix::object::Kind,
        max_bytes: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let attempt = "read an object";
        let header = self
            .repo
            .find_header(id)
            .map_err(ReadError::damaged(attempt))?;
        if header.size() > max_bytes {
            return Err(ReadError::TooLarge {
                bytes: header.size(),
            });
        }
        let mut object = self
            .repo
            .find_object(id)
            .map_err(ReadError::damaged(attempt))?;
        if object.kind != kind {
            return Err(ReadError::NoPath);
        }
        Ok(std::mem::take(&mut object.data))
    }
}

/// An id as the rest of quire knows it.
pub(super) fn public_id(id: impl AsRef<gix::oid>) -> Result<ObjectId, ReadError> {
    Ok(id.as_ref().to_string().parse()?)
}

/// An id as gix knows it.
pub(super) fn gix_id(id: &ObjectId) -> Result<Id, ReadError> {
    Id::from_hex(id.as_str().as_bytes()).map_err(|_| ReadError::NoRevision)
}
