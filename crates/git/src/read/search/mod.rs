//! Searches: the lines of the files of a commit, the paths of its files, and the commits of a history.
//!
//! Every search reads in the order of the answer, ends where the budget ends, and says where it goes on. Nothing is indexed: what is
//! searched is what the repository holds at that moment.

mod code;
mod code_cursor;
mod commit_filter;
mod commits;
mod file_walk;
mod fuzzy;
mod line_matches;
mod path_globs;
mod paths;
mod pattern_syntax;
mod text_pattern;

pub use code::{CodeHits, CodeQuery, FileHits};
pub use code_cursor::CodeCursor;
pub use commit_filter::CommitFilter;
pub use commits::CommitHit;
pub use line_matches::MatchedLine;
pub use path_globs::{PathGlobs, PathGlobsError};
pub use paths::{PathCursor, PathHit, PathHits, PathQuery};
pub use pattern_syntax::PatternError;
pub use text_pattern::TextPattern;
