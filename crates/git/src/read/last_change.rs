//! Which commit changed each entry of a folder last.
//!
//! One walk answers for all entries: every commit of the queue carries the set of entries that came to it unchanged. An entry goes on to
//! the first parent that has it unchanged, as `git log` simplifies the history of its path; at a commit where no parent has it, it was changed.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use gix::ObjectId as Id;
use gix::object::Kind;
use gix::objs::TreeRefIter;
use quire_types::names::ObjectId;

use super::budget::Budget;
use super::commit::CommitSummary;
use super::error::ReadError;
use super::history::Walk;
use super::reader::{Reader, gix_id};
use super::tree::{EntryMode, MAX_TREE_BYTES};
use super::tree_path::TreePath;

/// How many folders' entries are remembered.
const MAX_REMEMBERED: usize = 64;

/// Numbers of entries.
#[derive(Clone, Default)]
struct EntrySet(Vec<u64>);

/// What a folder had at one commit, by the number of the entry.
type FolderTable = Rc<Vec<Option<(EntryMode, Id)>>>;

/// The last changes of entries, as far as there was time to find them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastChanges {
    /// The commit of each entry that was found.
    pub of: BTreeMap<Vec<u8>, CommitSummary>,
    /// Whether all were found.
    pub is_whole: bool,
}

impl EntrySet {
    fn all(count: usize) -> Self {
        let mut set = Self(vec![0; count.div_ceil(64)]);
        for number in 0..count {
            set.insert(number);
        }
        set
    }

    fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| at * 64 + bit)
        })
    }

    fn keep(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    fn remove(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }
}

/// The entries of the folder at the commits that the walk visits.
struct FolderEntries<'a> {
    reader: &'a Reader,
    numbers: HashMap<&'a [u8], usize>,
    remembered: HashMap<Id, FolderTable>,
}

impl FolderEntries<'_> {
    fn of(&mut self, folder: Option<(EntryMode, Id)>) -> Result<FolderTable, ReadError> {
        let Some((EntryMode::Folder, id)) = folder else {
            return Ok(Rc::new(vec![None; self.numbers.len()]));
        };
        if let Some(known) = self.remembered.get(&id) {
            return Ok(known.clone());
        }
        let data = self.reader.object(id, Kind::Tree, MAX_TREE_BYTES)?;
        let mut entries = vec![None; self.numbers.len()];
        for entry in TreeRefIter::from_bytes(&data, id.kind()) {
            let entry = entry.map_err(ReadError::damaged("read a tree"))?;
            let name: &[u8] = entry.filename;
            if let Some(number) = self.numbers.get(name) {
                entries[*number] = Some((EntryMode::of(entry.mode), entry.oid.to_owned()));
            }
        }
        let entries = Rc::new(entries);
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(id, entries.clone());
        Ok(entries)
    }
}

impl Reader {
    /// The last change of each of these entries of a folder, seen from a commit.
    pub fn last_changes(
        &self,
        commit: &ObjectId,
        folder: &TreePath,
        names: &[Vec<u8>],
        budget: &Budget,
    ) -> Result<LastChanges, ReadError> {
        let mut walk = Walk::new(self, folder)?;
        let mut entries = FolderEntries {
            reader: self,
            numbers: names
                .iter()
                .enumerate()
                .map(|(at, name)| (name.as_slice(), at))
                .collect(),
            remembered: HashMap::new(),
        };
        let start = gix_id(commit)?;
        let mut open = EntrySet::all(names.len());
        let mut waiting = HashMap::from([(start, open.clone())]);
        let mut found = LastChanges::default();
        walk.add(start)?;
        while !open.is_empty() && !budget.is_over() {
            let Some(visited) = walk.pop() else { break };
            let mut set = waiting.remove(&visited.id).unwrap_or_default();
            set.keep(&open);
            if set.is_empty() {
                continue;
            }
            if walk.is_surely_unchanged(&visited)
                && let Some(parent) = visited.parents.first()
            {
                waiting.entry(*parent).or_default().add(&set);
                walk.add(*parent)?;
                continue;
            }
            let here = walk.entry_in(visited.tree)?;
            for parent in &visited.parents {
                let there = walk.tree_of(*parent)?;
                let there = walk.entry_in(there)?;
                let same = if here == there {
                    set.clone()
                } else {
                    let (here, there) = (entries.of(here)?, entries.of(there)?);
                    let mut same = EntrySet::all(0);
                    same.0.resize(set.0.len(), 0);
                    for number in set.iter().filter(|number| here[*number] == there[*number]) {
                        same.insert(number);
                    }
                    same
                };
                if same.is_empty() {
                    continue;
                }
                set.remove(&same);
                waiting.entry(*parent).or_default().add(&same);
                walk.add(*parent)?;
                if set.is_empty() {
                    break;
                }
            }
            if !set.is_empty() {
                let summary = self.commit_details(visited.id)?.summary;
                for number in set.iter() {
                    found.of.insert(names[number].clone(), summary.clone());
                }
                open.remove(&set);
            }
        }
        found.is_whole = open.is_empty();
        Ok(found)
    }
}
