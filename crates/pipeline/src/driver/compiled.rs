//! Keeps the compiled files of pipelines in memory. A pipeline's text seldom changes between two
//! runs, and compiling takes most of the time until a driver knows the job graph.
//!
//! ```text
//! known source: Register {source, compiled} ──► Registered
//! new source:   Register {source}           ──► Compiled, Registered; cached under the source
//! ```
//!
//! The compiled files come from a process that runs untrusted code (macros run in the compiler), so
//! they may be wrong. They can only affect runs of the very same source: the parent computes the
//! key of all that a driver has seen before it registers (language, file, text, helpers), and
//! accepts nothing later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::protocol::{Language, PipelineSource};
use quire_types::sync::lock;

/// The largest size of one pipeline's compiled files.
const MAX_ENTRY_BYTES: usize = 2 << 20;
/// The largest size of all compiled files together.
const MAX_TOTAL_BYTES: usize = 16 << 20;
/// The largest number of pipelines.
const MAX_ENTRIES: usize = 256;

/// Pairs of path within the commit and Lua text.
pub(super) type CompiledFiles = Vec<(String, String)>;

/// The compiled files of the pipelines that were registered last. Clones share their entries.
#[derive(Debug, Clone, Default)]
pub struct CompiledCache(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    /// In the order of last use, the most recently used last.
    entries: VecDeque<(SourceDigest, CompiledFiles)>,
    bytes: usize,
}

/// A digest of everything that compiling depends on, besides this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SourceDigest([u8; 32]);

impl SourceDigest {
    fn of(source: &PipelineSource) -> Self {
        let language = match source.language {
            Language::Fennel => "fennel",
            Language::Lua => "lua",
        };
        let mut digest = Sha256::new();
        let helpers = source
            .helpers
            .iter()
            .flat_map(|(file, text)| [file.as_str(), text]);
        for part in [language, &source.file, &source.text]
            .into_iter()
            .chain(helpers)
        {
            // The lengths keep different sources from being the same sequence of bytes.
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

fn size(files: &CompiledFiles) -> usize {
    files
        .iter()
        .map(|(file, text)| file.len() + text.len())
        .sum()
}

impl CompiledCache {
    /// Returns the known compiled files of a source, which may be none.
    pub(super) fn get(&self, source: &PipelineSource) -> CompiledFiles {
        let key = SourceDigest::of(source);
        let mut cached = lock(&self.0);
        let Some(entry) = cached
            .entries
            .iter()
            .position(|(known, _)| *known == key)
            .and_then(|at| cached.entries.remove(at))
        else {
            return Vec::new();
        };
        let files = entry.1.clone();
        cached.entries.push_back(entry);
        files
    }

    /// Adds compiled files to those that are known of a source. Files that the source does not have
    /// are ignored, and so is everything if it would be larger than [`MAX_ENTRY_BYTES`].
    pub(super) fn insert(&self, source: &PipelineSource, fresh: CompiledFiles) {
        let of_source = |file: &String| {
            *file == source.file || source.helpers.iter().any(|(helper, _)| helper == file)
        };
        let mut files = self.get(source);
        for (file, text) in fresh {
            if of_source(&file) && files.iter().all(|(known, _)| *known != file) {
                files.push((file, text));
            }
        }
        if files.is_empty() || size(&files) > MAX_ENTRY_BYTES {
            return;
        }
        let key = SourceDigest::of(source);
        let mut cached = lock(&self.0);
        cached.entries.retain(|(known, _)| *known != key);
        cached.entries.push_back((key, files));
        cached.bytes = cached.entries.iter().map(|(_, files)| size(files)).sum();
        while (cached.bytes > MAX_TOTAL_BYTES || cached.entries.len() > MAX_ENTRIES)
            && let Some((_, oldest)) = cached.entries.pop_front()
        {
            cached.bytes -= size(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str, helpers: &[(&str, &str)]) -> PipelineSource {
        let helpers = helpers
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect();
        PipelineSource {
            language: Language::Fennel,
            file: "ci.fnl".to_owned(),
            text: text.to_owned(),
            helpers,
        }
    }

    fn compiled(text: &str) -> CompiledFiles {
        vec![("ci.fnl".to_owned(), text.to_owned())]
    }

    #[test]
    fn the_key_covers_all_that_the_driver_saw() {
        let cache = CompiledCache::default();
        let one = source("1", &[("a.fnl", "x"), ("b.fnl", "y")]);
        cache.insert(&one, compiled("return 1"));
        assert_eq!(cache.clone().get(&one), compiled("return 1"));
        for other in [
            source("2", &[("a.fnl", "x"), ("b.fnl", "y")]),
            source("1", &[("a.fnl", "x"), ("b.fnl", "z")]),
            source("1", &[("a.fnl", "x")]),
            source("1", &[("a.fnl", "xb.fnl"), ("", "y")]),
            PipelineSource {
                language: Language::Lua,
                ..one.clone()
            },
            PipelineSource {
                file: "ci.lua".to_owned(),
                ..one.clone()
            },
        ] {
            assert!(cache.get(&other).is_empty(), "{other:?}");
        }
    }

    #[test]
    fn known_files_are_not_replaced_and_foreign_files_not_cached() {
        let cache = CompiledCache::default();
        let one = source("1", &[("a.fnl", "x")]);
        cache.insert(&one, compiled("first"));
        let helper = ("a.fnl".to_owned(), "helper".to_owned());
        cache.insert(
            &one,
            vec![
                ("ci.fnl".to_owned(), "second".to_owned()),
                helper.clone(),
                ("other.fnl".to_owned(), "x".to_owned()),
            ],
        );
        assert_eq!(cache.get(&one), [compiled("first"), vec![helper]].concat());
        cache.insert(&source("2", &[]), compiled(&"x".repeat(MAX_ENTRY_BYTES)));
        assert!(cache.get(&source("2", &[])).is_empty());
    }

    #[test]
    fn the_least_recently_used_is_removed_first() {
        let cache = CompiledCache::default();
        let text = "x".repeat(MAX_ENTRY_BYTES - 100);
        let numbered = |n: usize| source(&n.to_string(), &[]);
        for n in 0..8 {
            cache.insert(&numbered(n), compiled(&text));
        }
        assert!(!cache.get(&numbered(0)).is_empty());
        cache.insert(&numbered(8), compiled(&text));
        cache.insert(&numbered(8), compiled(&text));
        let known: Vec<_> = (0..9)
            .filter(|n| !cache.get(&numbered(*n)).is_empty())
            .collect();
        assert_eq!(known, [0, 2, 3, 4, 5, 6, 7, 8]);
        for n in 100..100 + MAX_ENTRIES {
            cache.insert(&numbered(n), compiled("y"));
        }
        assert!(cache.get(&numbered(0)).is_empty());
        assert_eq!(cache.0.lock().unwrap().entries.len(), MAX_ENTRIES);
    }
}
