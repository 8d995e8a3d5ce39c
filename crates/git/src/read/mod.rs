//! Reading repositories inside this process, for pages.
//!
//! Owns: revisions and paths as they stand in addresses ([`RevPath`]), folders, files, histories, commits and their differences, searches, and
//! the threads on which they are read ([`ReadPool`]). It starts no process, writes nothing, and knows neither HTML nor HTTP.
//!
//! Invariants: every call has a [`Budget`], and what does not fit into it is left out; only an archive is whole, and written
//! to who takes it. A list says with [`Portion::next`] where
//! the rest begins. Names are bytes, as git stores them; what they hold is trusted in nothing.

mod archive;
mod blame;
mod blame_cache;
mod blame_lines;
mod blame_walk;
mod blank_free;
mod blob;
mod budget;
mod changes;
mod commit;
mod commit_diff;
mod commit_graph;
mod commit_links;
mod compare;
mod error;
mod file_diff;
mod fold;
mod history;
mod last_change;
mod line_index;
mod patch;
mod path_filters;
mod pool;
mod reader;
mod ref_tips;
mod refs;
mod renames;
mod rev;
mod search;
mod tree;
mod tree_changes;
mod tree_path;
mod word_marks;

pub use archive::{ArchiveContent, ArchiveError, ArchiveFormat, LargeBlobs};
pub use blame::{Blame, BlameBlock, BlameQuery};
pub use blame_cache::BlameCache;
pub use blob::{BlobContent, MAX_BLOB_BYTES, is_binary};
pub use budget::{Budget, Portion};
pub use changes::ReachedCommits;
pub use commit::{CommitDetails, CommitSummary, Person};
pub use commit_diff::{ChangeKind, ChangedFile, CommitDiff, DiffOptions};
pub use compare::Comparison;
pub use error::ReadError;
pub use file_diff::{DiffLine, DiffLineKind, FileDiff, LineCounts, Whitespace};
pub use fold::FoldReason;
pub use history::{HistoryCursor, HistoryQuery};
pub use last_change::LastChanges;
pub use patch::{MAX_PATCH_COMMITS, PatchContent, PatchError, PatchFormat};
pub use path_filters::{PathFilters, PathKeys};
pub use pool::{CpuTimeObserver, ReadPool, ReadTurn};
pub use reader::Reader;
pub use ref_tips::{Annotation, RefTip, RefTips};
pub use refs::{BranchOrTag, NamedRefs, RefNames};
pub use rev::{ResolvedRev, RevPath};
pub use search::{
    CodeCursor, CodeHits, CodeQuery, CommitFilter, CommitHit, FileHits, MatchedLine, PathCursor,
    PathGlobs, PathGlobsError, PathHit, PathHits, PathQuery, PatternError, TextPattern,
};
pub use tree::{EntryMode, FolderPage, TreeItem};
pub use tree_path::TreePath;
pub use word_marks::side_by_side;

#[cfg(test)]
mod tests;
