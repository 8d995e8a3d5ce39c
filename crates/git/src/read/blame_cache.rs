//! Lines that were traced once, so that another view of the same file does not trace them again.

use std::path::PathBuf;
use std::sync::Arc;

use gix::ObjectId as Id;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::blame_lines::TracedLines;
use super::tree_path::TreePath;

/// What all entries weigh together, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// How many entries are expected.
const EXPECTED_ENTRIES: usize = 256;

/// What the lines of a file depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlameKey {
    pub(super) repository: PathBuf,
    /// The last commit that changed the file.
    pub(super) commit: Id,
    pub(super) path: TreePath,
    /// The first line.
    pub(super) from: u32,
    /// How many lines.
    pub(super) count: u32,
    /// The list of commits that are passed over.
    pub(super) ignored: Option<Id>,
}

#[derive(Clone)]
struct BytesOfLines;

impl Weighter<BlameKey, Arc<TracedLines>> for BytesOfLines {
    fn weight(&self, key: &BlameKey, lines: &Arc<TracedLines>) -> u64 {
        let path = key.repository.as_os_str().len() + key.path.as_bytes().len();
        (size_of::<BlameKey>() + path + lines.bytes()) as u64
    }
}

/// Lines that were traced once, the most useful 4 MiB of them.
pub struct BlameCache(Cache<BlameKey, Arc<TracedLines>, BytesOfLines>);

impl Default for BlameCache {
    fn default() -> Self {
        Self(Cache::with_weighter(
            EXPECTED_ENTRIES,
            MAX_BYTES,
            BytesOfLines,
        ))
    }
}

impl BlameCache {
    pub(super) fn get(&self, key: &BlameKey) -> Option<Arc<TracedLines>> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: BlameKey, lines: Arc<TracedLines>) {
        self.0.insert(key, lines);
    }
}
