//! The paths of a commit's files that contain the characters of a text in their order, the best first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use quire_types::names::ObjectId;

use super::super::budget::{Budget, Portion};
use super::super::error::ReadError;
use super::super::reader::{Reader, gix_id};
use super::super::tree_path::TreePath;
use super::code_cursor::CodeCursor;
use super::file_walk::{FileWalk, FileWalkStep};
use super::fuzzy::FuzzyPattern;
use super::path_globs::PathGlobs;

/// What is searched for in paths.
#[derive(Debug, Clone)]
pub struct PathQuery {
    /// The characters; spaces do not count, and case counts if one of them is an upper-case letter.
    pub text: String,
    /// Which files are searched.
    pub paths: PathGlobs,
    /// The last path of the page before.
    pub after: Option<PathCursor>,
}

/// A place in the list of paths, the best first, and of equally good ones the shortest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathCursor {
    score: Reverse<i32>,
    length: usize,
    path: TreePath,
}

impl PathCursor {
    fn new(score: i32, path: TreePath) -> Self {
        Self {
            score: Reverse(score),
            length: path.as_bytes().len(),
            path,
        }
    }

    /// Parses what [`Self::to_bytes`] writes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let colon = memchr::memchr(b':', bytes)?;
        let score = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
        let path = TreePath::parse(&bytes[colon + 1..])?;
        Some(Self::new(score, path))
    }

    /// As it stands in an address: `SCORE:PATH`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let score = self.score.0.to_string();
        [score.as_bytes(), b":", self.path.as_bytes()].concat()
    }
}

/// A path that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathHit {
    /// The path.
    pub path: TreePath,
    /// The path as text; what is no UTF-8 is U+FFFD.
    pub text: String,
    /// What of the text matches.
    pub matches: Vec<Range<usize>>,
}

/// The best paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathHits {
    /// The best of them first.
    pub page: Portion<PathHit, PathCursor>,
    /// How many paths match; at least so many if the time ended.
    pub total: usize,
}

impl Reader {
    /// Searches the paths of files and links for the best `budget.lines`.
    pub fn search_paths(
        &self,
        commit: &ObjectId,
        query: &PathQuery,
        budget: &Budget,
    ) -> Result<PathHits, ReadError> {
        let mut hits = PathHits {
            page: Portion::empty(),
            total: 0,
        };
        let Some(mut pattern) = FuzzyPattern::new(&query.text) else {
            return Ok(hits);
        };
        let root = self.root_tree(gix_id(commit)?)?;
        let mut walk = FileWalk::new(self, root, &query.paths, CodeCursor::default())?;
        let mut best = BinaryHeap::new();
        let mut has_more = false;
        loop {
            let file = match walk.next(budget)? {
                FileWalkStep::File(file) => file,
                FileWalkStep::End => break,
                FileWalkStep::OutOfTime => {
                    hits.page.out_of_time = true;
                    break;
                }
            };
            let text = String::from_utf8_lossy(file.path.as_bytes());
            let Some(score) = file.is_named.then(|| pattern.score(&text)).flatten() else {
                continue;
            };
            hits.total += 1;
            let place = PathCursor::new(score, file.path);
            if query.after.as_ref().is_some_and(|after| place <= *after) {
                continue;
            }
            best.push(place);
            if best.len() > budget.lines {
                best.pop();
                has_more = true;
            }
        }
        let best = best.into_sorted_vec();
        // Without all paths it is not known which one comes after these.
        if has_more && !hits.page.out_of_time {
            hits.page.next = best.last().cloned();
        }
        hits.page.items = best
            .into_iter()
            .map(|place| {
                let text = String::from_utf8_lossy(place.path.as_bytes()).into_owned();
                PathHit {
                    matches: pattern.matches(&text),
                    text,
                    path: place.path,
                }
            })
            .collect();
        Ok(hits)
    }
}
