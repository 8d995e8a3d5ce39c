//! The commit-graph of a repository, where there is one that can be trusted.
//!
//! A file whose checksum is wrong, or whose format is not known, counts as absent: commits are read as objects, and the answers are the
//! same. The checksum of a file is computed once. A repository with a border where its history was cut off has no graph: git uses
//! none there either.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gix::commitgraph::Graph;
use quire_types::sync::lock;

use super::path_filters::{PathFilters, PathKeys};
use super::reader::Reader;
use super::tree_path::TreePath;

/// The most bytes of filters that are read.
const MAX_FILTER_BYTES: u64 = 16 << 20;
/// How many files' checksums are remembered.
const MAX_CHECKED: usize = 64;
/// Bytes before the table of chunks, and of each entry of it.
const HEAD_BYTES: u64 = 8;
const ENTRY_BYTES: u64 = 12;

/// Which file it is, and which content: device, inode, size, and when it was changed.
type FileIdentity = (u64, u64, u64, i64, i64);

/// Files whose checksums were computed, and whether they were right. The newest one is last.
static CHECKED: Mutex<Vec<(FileIdentity, bool)>> = Mutex::new(Vec::new());

/// A graph and the file that it was read from.
pub(super) struct CommitGraph {
    pub(super) graph: Graph,
    path: PathBuf,
    identity: FileIdentity,
}

/// The filters of a graph, for one path.
pub(super) struct PathFilter {
    filters: PathFilters,
    keys: PathKeys,
}

fn identity(found: &std::fs::Metadata) -> FileIdentity {
    (
        found.dev(),
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
    )
}

impl CommitGraph {
    /// The graph of a repository; `None` if there is none, it is damaged, or a setting or a replaced object forbids its use.
    pub(super) fn open(reader: &Reader) -> Option<Self> {
        let path = reader
            .repo
            .objects
            .store_ref()
            .path()
            .join("info/commit-graph");
        let identity = identity(&std::fs::metadata(&path).ok()?);
        if !is_sound(&path, identity) {
            return None;
        }
        let graph = reader.repo.commit_graph_if_enabled().ok()??;
        Some(Self {
            graph,
            path,
            identity,
        })
    }

    /// The filters for a path, if the graph has some that speak of it.
    pub(super) fn path_filter(&self, path: &TreePath) -> Option<PathFilter> {
        let file = File::open(&self.path).ok()?;
        // The places are those of the graph that is open.
        if identity(&file.metadata().ok()?) != self.identity {
            return None;
        }
        let filters = read_filters(&file)?;
        let commits = usize::try_from(self.graph.num_commits()).ok()?;
        let keys = filters.keys(path).filter(|_| filters.len() == commits)?;
        Some(PathFilter { filters, keys })
    }
}

impl PathFilter {
    pub(super) fn may_have_changed(&self, place: u32) -> bool {
        self.filters.may_have_changed(place, &self.keys)
    }
}

/// Whether the checksum at the end of the file is that of its content.
fn is_sound(path: &Path, identity: FileIdentity) -> bool {
    let known =
        |list: &[(FileIdentity, bool)]| list.iter().find(|(id, _)| *id == identity).copied();
    if let Some((_, is_sound)) = known(&lock(&CHECKED)) {
        return is_sound;
    }
    let file = gix::commitgraph::File::at(path);
    let is_sound = file.is_ok_and(|file| file.verify_checksum().is_ok());
    let mut checked = lock(&CHECKED);
    if checked.len() >= MAX_CHECKED {
        checked.remove(0);
    }
    checked.push((identity, is_sound));
    is_sound
}

/// Reads the chunks of the filters.
fn read_filters(file: &File) -> Option<PathFilters> {
    let mut head = [0; HEAD_BYTES as usize];
    file.read_exact_at(&mut head, 0).ok()?;
    // The table ends with an entry that says where the last chunk ends.
    let count = usize::from(head[6]) + 1;
    let mut table = vec![0; count * ENTRY_BYTES as usize];
    file.read_exact_at(&mut table, HEAD_BYTES).ok()?;
    let entries: Vec<([u8; 4], u64)> = table
        .as_chunks::<12>()
        .0
        .iter()
        .map(|entry| {
            let [a, b, c, d, offset @ ..] = *entry;
            ([a, b, c, d], u64::from_be_bytes(offset))
        })
        .collect();
    let chunk = |name: &[u8; 4]| {
        let pair = entries.windows(2).find(|pair| pair[0].0 == *name)?;
        let bytes = pair[1].1.checked_sub(pair[0].1)?;
        if bytes > MAX_FILTER_BYTES {
            return None;
        }
        let mut chunk = vec![0; usize::try_from(bytes).ok()?];
        file.read_exact_at(&mut chunk, pair[0].1).ok()?;
        Some(chunk)
    };
    PathFilters::parse(chunk(b"BIDX")?, chunk(b"BDAT")?)
}
