//! What pipelines compiled to, kept in memory: a pipeline's text seldom changes between two runs,
//! and Fennel's compiler is what takes longest until a driver has its graph.
//!
//! ```text
//! known source: Register {source, compiled} ──► Registered
//! new source:   Register {source}           ──► Compiled, Registered; kept under the source
//! ```
//!
//! Foreign code runs where the texts come from (macros run in the compiler), so a driver may lie.
//! It can only deceive runs of the very text it was given: the parent makes the key, of all that a
//! driver has seen before it registers (language, file, text, helpers), and takes nothing later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::protocol::{Language, PipelineSource};

/// The most that one pipeline's texts may take, in bytes.
const MAX_ENTRY: usize = 2 << 20;
/// The most that all may take.
const MAX_ALL: usize = 16 << 20;
/// The most pipelines.
const MAX_ENTRIES: usize = 256;

/// Compiled files: path within the commit, Lua text.
pub(super) type CompiledFiles = Vec<(String, String)>;

/// The compiled files of the pipelines that were registered last. Cloning gives the same one.
#[derive(Debug, Clone, Default)]
pub struct CompiledCache(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The one used last comes last.
    entries: VecDeque<(Key, CompiledFiles)>,
    bytes: usize,
}

/// Everything that compiling depends on, besides this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u8; 32]);

impl Key {
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
            // With its length, so that no two sources are one row of bytes.
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
    /// What this source compiled to; nothing where that is not known.
    pub(super) fn get(&self, source: &PipelineSource) -> CompiledFiles {
        let key = Key::of(source);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = kept
            .entries
            .iter()
            .position(|(known, _)| *known == key)
            .and_then(|at| kept.entries.remove(at))
        else {
            return Vec::new();
        };
        let files = entry.1.clone();
        kept.entries.push_back(entry);
        files
    }

    /// Keeps what a source compiled to, beside what is known of it already. What is too much, or of
    /// files that the source does not have, is not kept.
    pub(super) fn keep(&self, source: &PipelineSource, fresh: CompiledFiles) {
        let of_source = |file: &String| {
            *file == source.file || source.helpers.iter().any(|(helper, _)| helper == file)
        };
        let mut files = self.get(source);
        for (file, text) in fresh {
            if of_source(&file) && files.iter().all(|(known, _)| *known != file) {
                files.push((file, text));
            }
        }
        if files.is_empty() || size(&files) > MAX_ENTRY {
            return;
        }
        let key = Key::of(source);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.retain(|(known, _)| *known != key);
        kept.entries.push_back((key, files));
        kept.bytes = kept.entries.iter().map(|(_, files)| size(files)).sum();
        while (kept.bytes > MAX_ALL || kept.entries.len() > MAX_ENTRIES)
            && let Some((_, oldest)) = kept.entries.pop_front()
        {
            kept.bytes -= size(&oldest);
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
    fn a_source_is_known_by_all_that_its_driver_saw() {
        let cache = CompiledCache::default();
        let one = source("1", &[("a.fnl", "x"), ("b.fnl", "y")]);
        cache.keep(&one, compiled("return 1"));
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
    fn what_is_known_is_not_replaced_and_what_is_not_asked_for_is_not_kept() {
        let cache = CompiledCache::default();
        let one = source("1", &[("a.fnl", "x")]);
        cache.keep(&one, compiled("first"));
        let helper = ("a.fnl".to_owned(), "helper".to_owned());
        cache.keep(
            &one,
            vec![
                ("ci.fnl".to_owned(), "second".to_owned()),
                helper.clone(),
                ("other.fnl".to_owned(), "x".to_owned()),
            ],
        );
        assert_eq!(cache.get(&one), [compiled("first"), vec![helper]].concat());
        cache.keep(&source("2", &[]), compiled(&"x".repeat(MAX_ENTRY)));
        assert!(cache.get(&source("2", &[])).is_empty());
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let cache = CompiledCache::default();
        let text = "x".repeat(MAX_ENTRY - 100);
        let numbered = |n: usize| source(&n.to_string(), &[]);
        for n in 0..8 {
            cache.keep(&numbered(n), compiled(&text));
        }
        assert!(!cache.get(&numbered(0)).is_empty());
        cache.keep(&numbered(8), compiled(&text));
        cache.keep(&numbered(8), compiled(&text));
        let known: Vec<_> = (0..9)
            .filter(|n| !cache.get(&numbered(*n)).is_empty())
            .collect();
        assert_eq!(known, [0, 2, 3, 4, 5, 6, 7, 8]);
        for n in 100..100 + MAX_ENTRIES {
            cache.keep(&numbered(n), compiled("y"));
        }
        assert!(cache.get(&numbered(0)).is_empty());
        assert_eq!(cache.0.lock().unwrap().entries.len(), MAX_ENTRIES);
    }
}
