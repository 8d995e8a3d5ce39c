//! Files that were highlighted once, so that another window, or another page of the same file, does not do it again.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use quire_types::names::ObjectId;

use super::grammars::Grammar;
use super::lines::{HighlightedLines, highlight};

/// What all entries weigh together, in bytes.
const MAX_BYTES: u64 = 24 << 20;
/// How many entries are expected.
const EXPECTED_ENTRIES: usize = 1000;

/// What the colours of a file depend on.
type HighlightKey = (ObjectId, Grammar);

#[derive(Clone)]
struct BytesOfTokens;

impl Weighter<HighlightKey, Arc<HighlightedLines>> for BytesOfTokens {
    fn weight(&self, (id, _): &HighlightKey, lines: &Arc<HighlightedLines>) -> u64 {
        let fixed = size_of::<HighlightKey>() + size_of::<HighlightedLines>();
        (fixed + id.as_str().len() + lines.bytes()) as u64
    }
}

/// Files that were highlighted once, the most useful 24 MiB of their tokens.
pub struct HighlightCache(Cache<HighlightKey, Arc<HighlightedLines>, BytesOfTokens>);

impl Default for HighlightCache {
    fn default() -> Self {
        Self(Cache::with_weighter(
            EXPECTED_ENTRIES,
            MAX_BYTES,
            BytesOfTokens,
        ))
    }
}

impl HighlightCache {
    /// The colours of a blob by the grammar of its name; `None` if it has no grammar. `lines` are those of `data`.
    pub fn of<'a>(
        &self,
        blob: &ObjectId,
        name: &[u8],
        data: &[u8],
        mut lines: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Option<Arc<HighlightedLines>> {
        let first = lines.clone().next().unwrap_or_default();
        let key = (blob.clone(), Grammar::of(name, first)?);
        if let Some(known) = self.0.get(&key) {
            return Some(known);
        }
        let found = Arc::new(highlight(key.1, data.len(), &mut lines));
        self.0.insert(key, found.clone());
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_highlighted_once_for_each_grammar() {
        let cache = HighlightCache::default();
        let id: ObjectId = "1".repeat(40).parse().unwrap();
        let of = |name: &str| {
            let data = b"let a = 1;\n";
            cache.of(&id, name.as_bytes(), data, std::iter::once(&data[..10]))
        };
        let first = of("a.rs").unwrap();
        assert!(Arc::ptr_eq(&first, &of("b.rs").unwrap()));
        assert_ne!(first, of("a.c").unwrap());
        assert!(of("a.txt").is_none());
    }
}
