//! Which of the changed files are renamed ones, as git decides it: first those with the same object, then those whose name is
//! unique on both sides, then by how much of the content is common.
//!
//! How much is compared is bounded by numbers of files and bytes, so that the same commit has the same renames each time.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;

use gix::ObjectId as Id;
use gix::object::Kind;

use super::budget::Budget;
use super::error::ReadError;
use super::reader::Reader;
use super::tree::EntryMode;
use super::tree_changes::{Change, Version};
use super::tree_path::TreePath;
use quire_types::names::ObjectId;

/// Renames by content are looked for among this many changes at most.
const MAX_CHANGES: usize = 2000;
/// Pairs of files that are compared.
const MAX_PAIRS: usize = 1_000_000;
/// Bytes of all files that are compared.
const MAX_BYTES: u64 = 16 << 20;
/// Larger files are not compared.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How much of the larger file has to be common, in thousandths.
const MIN_SIMILARITY: u64 = 500;
/// How much if both have the same name, and no others have it.
const MIN_NAMESAKE_SIMILARITY: u64 = 750;
/// The longest piece of a line that is compared as one.
const MAX_CHUNK_BYTES: usize = 64;

/// How many bytes a file has of each piece of text, by the hash of the piece.
pub(super) struct Fingerprint {
    size: u64,
    chunks: Vec<(u32, u32)>,
}

/// The numbers of the files on both sides that have no partner yet.
struct Candidates<'a> {
    reader: &'a Reader,
    changes: &'a [Change],
    deleted: Vec<usize>,
    added: Vec<usize>,
    fingerprints: HashMap<Id, Option<Rc<Fingerprint>>>,
    bytes_left: u64,
    /// The deleted file that each added one was before.
    found: HashMap<usize, usize>,
}

impl Reader {
    /// What a file was called before a commit renamed it, with the parent that had it so; `None` if the commit did not rename it.
    pub fn renamed_from(
        &self,
        commit: &ObjectId,
        path: &TreePath,
        budget: &Budget,
    ) -> Result<Option<(ObjectId, TreePath)>, ReadError> {
        let Some(parent) = self.commit(commit)?.summary.parents.into_iter().next() else {
            return Ok(None);
        };
        let (old, new) = self.trees_of_change(commit, 0)?;
        let (changes, _) = self.changes(old, new, budget)?;
        let renamed = changes
            .into_iter()
            .find(|change| change.path == path.as_bytes());
        let old_path = renamed.and_then(|change| TreePath::parse(&change.old_path?));
        Ok(old_path.map(|old_path| (parent, old_path)))
    }

    /// The files that differ between two trees, renamed ones as one change, and whether there are more.
    pub(super) fn changes(
        &self,
        old: Option<Id>,
        new: Id,
        budget: &Budget,
    ) -> Result<(Vec<Change>, bool), ReadError> {
        let (changes, is_cut) = self.plain_changes(old, new, budget)?;
        if is_cut {
            return Ok((changes, true));
        }
        let mut candidates = Candidates::new(self, &changes);
        candidates.pair_same_objects();
        if changes.len() <= MAX_CHANGES {
            candidates.pair_namesakes(budget);
            candidates.pair_by_content(budget);
        }
        let found = candidates.found;
        Ok((renamed(changes, &found), false))
    }
}

fn renamed(changes: Vec<Change>, found: &HashMap<usize, usize>) -> Vec<Change> {
    let sources: HashMap<usize, Change> = found
        .values()
        .map(|at| (*at, changes[*at].clone()))
        .collect();
    let mut joined = Vec::new();
    for (at, mut change) in changes.into_iter().enumerate() {
        if sources.contains_key(&at) {
            continue;
        }
        if let Some(source) = found.get(&at).and_then(|source| sources.get(source)) {
            change.old_path = Some(source.path.clone());
            change.old = source.old;
        }
        joined.push(change);
    }
    joined
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

impl<'a> Candidates<'a> {
    fn new(reader: &'a Reader, changes: &'a [Change]) -> Self {
        let empty = Id::empty_blob(reader.repo.object_hash());
        let can_move = |version: Version| version.mode.is_blob() && version.id != empty;
        let numbers = |wanted: &dyn Fn(&Change) -> bool| {
            let numbers = changes.iter().enumerate();
            numbers
                .filter(|(_, c)| wanted(c))
                .map(|(at, _)| at)
                .collect()
        };
        Self {
            reader,
            changes,
            deleted: numbers(&|change| change.new.is_none() && change.old.is_some_and(can_move)),
            added: numbers(&|change| change.old.is_none() && change.new.is_some_and(can_move)),
            fingerprints: HashMap::new(),
            bytes_left: MAX_BYTES,
            found: HashMap::new(),
        }
    }

    fn pair(&mut self, deleted: usize, added: usize) {
        self.found.insert(added, deleted);
        self.deleted.retain(|at| *at != deleted);
        self.added.retain(|at| *at != added);
    }

    fn name(&self, at: usize) -> &'a [u8] {
        name(&self.changes[at].path)
    }

    fn pair_same_objects(&mut self) {
        let mut by_object: HashMap<(Id, bool), Vec<usize>> = HashMap::new();
        for at in &self.deleted {
            if let Some(old) = self.changes[*at].old {
                let key = (old.id, old.mode == EntryMode::Symlink);
                by_object.entry(key).or_default().push(*at);
            }
        }
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for at in &self.added {
            let Some(new) = self.changes[*at].new else {
                continue;
            };
            let key = (new.id, new.mode == EntryMode::Symlink);
            let Some(same) = by_object.get_mut(&key).filter(|same| !same.is_empty()) else {
                continue;
            };
            let namesake = same
                .iter()
                .position(|old| self.name(*old) == self.name(*at));
            let old = same.remove(namesake.unwrap_or(0));
            self.found.insert(*at, old);
            sources.push(old);
            targets.push(*at);
        }
        self.deleted.retain(|at| !sources.contains(at));
        self.added.retain(|at| !targets.contains(at));
    }

    /// Pairs files of the same name, if no other file on either side has it.
    fn pair_namesakes(&mut self, budget: &Budget) {
        let unique = |numbers: &[usize]| {
            let mut by_name: HashMap<&[u8], Option<usize>> = HashMap::new();
            for at in numbers {
                by_name
                    .entry(self.name(*at))
                    .and_modify(|known| *known = None)
                    .or_insert(Some(*at));
            }
            by_name
        };
        let (old, new) = (unique(&self.deleted), unique(&self.added));
        let mut pairs: Vec<(usize, usize)> = old
            .iter()
            .filter_map(|(name, old)| Some(((*old)?, (*new.get(name)?)?)))
            .collect();
        pairs.sort_unstable();
        for (old, new) in pairs {
            if budget.is_over() {
                return;
            }
            if self.similarity(old, new) >= MIN_NAMESAKE_SIMILARITY {
                self.pair(old, new);
            }
        }
    }

    fn pair_by_content(&mut self, budget: &Budget) {
        if self.deleted.len().saturating_mul(self.added.len()) > MAX_PAIRS {
            return;
        }
        let index = self.chunk_index();
        let mut pairs = Vec::new();
        for new in self.added.clone() {
            if budget.is_over() {
                return;
            }
            let Some(fingerprint) = self.changes[new].new.and_then(|new| self.fingerprint(new))
            else {
                continue;
            };
            let mut common: HashMap<usize, u64> = HashMap::new();
            for (hash, bytes) in &fingerprint.chunks {
                for (old, old_bytes) in index.get(hash).into_iter().flatten() {
                    *common.entry(*old).or_default() += u64::from(*bytes.min(old_bytes));
                }
            }
            for (old, common) in common {
                let old_size = self.changes[old].old.and_then(|old| self.fingerprint(old));
                let larger = fingerprint.size.max(old_size.map_or(0, |old| old.size));
                let similarity = share(common, larger);
                if similarity >= MIN_SIMILARITY {
                    let is_namesake = self.name(old) == self.name(new);
                    pairs.push((Reverse((similarity, is_namesake)), new, old));
                }
            }
        }
        pairs.sort_unstable();
        for (_, new, old) in pairs {
            if self.deleted.contains(&old) && self.added.contains(&new) {
                self.pair(old, new);
            }
        }
    }

    /// Which deleted files have a piece of text, and how many bytes of it.
    fn chunk_index(&mut self) -> HashMap<u32, Vec<(usize, u32)>> {
        let mut index: HashMap<u32, Vec<(usize, u32)>> = HashMap::new();
        for at in self.deleted.clone() {
            let Some(fingerprint) = self.changes[at].old.and_then(|old| self.fingerprint(old))
            else {
                continue;
            };
            for (hash, bytes) in &fingerprint.chunks {
                index.entry(*hash).or_default().push((at, *bytes));
            }
        }
        index
    }

    /// How much of the larger one of two files is common, in thousandths.
    fn similarity(&mut self, old: usize, new: usize) -> u64 {
        let (Some(old), Some(new)) = (self.changes[old].old, self.changes[new].new) else {
            return 0;
        };
        match (self.fingerprint(old), self.fingerprint(new)) {
            (Some(old), Some(new)) => old.similarity(&new),
            _ => 0,
        }
    }

    /// What a file is compared by; `None` for links, and for what is too large.
    fn fingerprint(&mut self, version: Version) -> Option<Rc<Fingerprint>> {
        if !matches!(version.mode, EntryMode::File | EntryMode::Executable) {
            return None;
        }
        if let Some(known) = self.fingerprints.get(&version.id) {
            return known.clone();
        }
        let max_bytes = MAX_FILE_BYTES.min(self.bytes_left);
        let content = self.reader.object(version.id, Kind::Blob, max_bytes).ok();
        let fingerprint = content.map(|content| Rc::new(Fingerprint::new(&content)));
        self.bytes_left -= fingerprint.as_ref().map_or(0, |read| read.size);
        self.fingerprints.insert(version.id, fingerprint.clone());
        fingerprint
    }
}

/// A part in thousandths of the whole.
fn share(part: u64, whole: u64) -> u64 {
    (part * 1000).checked_div(whole).unwrap_or(0)
}

impl Fingerprint {
    pub(super) fn new(content: &[u8]) -> Self {
        let mut chunks: Vec<(u32, u32)> = content
            .split_inclusive(|b| *b == b'\n')
            .flat_map(|line| line.chunks(MAX_CHUNK_BYTES))
            .map(|chunk| {
                let text = chunk.strip_suffix(b"\r\n").unwrap_or(chunk);
                let text = text.strip_suffix(b"\n").unwrap_or(text);
                let mut hasher = DefaultHasher::new();
                hasher.write(text);
                (hasher.finish() as u32, chunk.len() as u32)
            })
            .collect();
        chunks.sort_unstable();
        chunks.dedup_by(|next, first| {
            let is_same = next.0 == first.0;
            if is_same {
                first.1 += next.1;
            }
            is_same
        });
        Self {
            size: content.len() as u64,
            chunks,
        }
    }

    /// How much of the larger one of two files is common, in thousandths.
    pub(super) fn similarity(&self, other: &Self) -> u64 {
        let (mut old, mut new) = (self.chunks.as_slice(), other.chunks.as_slice());
        let mut common = 0;
        while let ([a, rest_old @ ..], [b, rest_new @ ..]) = (old, new) {
            match a.0.cmp(&b.0) {
                std::cmp::Ordering::Less => old = rest_old,
                std::cmp::Ordering::Greater => new = rest_new,
                std::cmp::Ordering::Equal => {
                    common += u64::from(a.1.min(b.1));
                    (old, new) = (rest_old, rest_new);
                }
            }
        }
        share(common, self.size.max(other.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarity_is_the_share_of_common_lines() {
        let of = |a: &str, b: &str| {
            let (a, b) = (
                Fingerprint::new(a.as_bytes()),
                Fingerprint::new(b.as_bytes()),
            );
            a.similarity(&b)
        };
        assert_eq!(of("a\nb\nc\nd\n", "d\nb\na\nc\n"), 1000);
        assert_eq!(of("a\nb\nc\nd\n", "a\nb\nx\ny\n"), 500);
        assert_eq!(of("a\na\na\nb\n", "a\nb\n"), 500);
        assert_eq!(of("a\n", "a\nb\nc\nd\n"), 250);
        assert_eq!(of("", ""), 0);
    }
}
