//! Small objects that were read once. An object never changes, so what the intake has read of a push is not read again
//! by the runner a moment later, which saves it a git process.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::error::ANSWER_TIMEOUT;

/// What all entries weigh together, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Larger objects are not kept.
const MAX_OBJECT_BYTES: usize = 64 << 10;
/// How many entries are expected.
const EXPECTED_ENTRIES: usize = 512;

/// The folder of a repository: its device and inode. A repository that was removed and made anew has another one.
pub(super) type RepoIdentity = (u64, u64);

/// The identity of the repository at a path; `None` if there is none, or if its disk does not answer.
pub(super) async fn identity(repo: &Path) -> Option<RepoIdentity> {
    let found = tokio::time::timeout(ANSWER_TIMEOUT, tokio::fs::metadata(repo)).await;
    let found = found.ok()?.ok()?;
    Some((found.dev(), found.ino()))
}

/// An object as git prints it.
#[derive(Debug)]
pub(super) struct CachedObject {
    pub(super) kind: String,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ObjectKey {
    repo: RepoIdentity,
    id: String,
}

#[derive(Debug, Clone)]
struct BytesOfObject;

impl Weighter<ObjectKey, Arc<CachedObject>> for BytesOfObject {
    fn weight(&self, key: &ObjectKey, object: &Arc<CachedObject>) -> u64 {
        let names = key.id.len() + object.kind.len();
        (size_of::<ObjectKey>() + size_of::<CachedObject>() + names + object.bytes.len()) as u64
    }
}

type ObjectsByKey = Cache<ObjectKey, Arc<CachedObject>, BytesOfObject>;

/// The most useful objects of all repositories, 1 MiB of them. Clones share them. One that is never used has no memory: a
/// [`Git`](super::Git) is often made for a single call.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectCache(Arc<OnceLock<ObjectsByKey>>);

impl ObjectCache {
    pub(super) fn get(&self, repo: RepoIdentity, id: &str) -> Option<Arc<CachedObject>> {
        let id = id.to_owned();
        self.0.get()?.get(&ObjectKey { repo, id })
    }

    /// Keeps a whole object.
    pub(super) fn insert(&self, repo: RepoIdentity, id: &str, kind: &str, bytes: &[u8]) {
        if bytes.len() > MAX_OBJECT_BYTES {
            return;
        }
        let id = id.to_owned();
        let object = CachedObject {
            kind: kind.to_owned(),
            bytes: bytes.to_vec(),
        };
        let objects = self
            .0
            .get_or_init(|| Cache::with_weighter(EXPECTED_ENTRIES, MAX_BYTES, BytesOfObject));
        objects.insert(ObjectKey { repo, id }, Arc::new(object));
    }
}
