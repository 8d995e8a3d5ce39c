//! The lines of a commit's files that match.

use std::ops::ControlFlow;

use gix::object::Kind;
use quire_types::names::ObjectId;

use super::super::blob::is_binary;
use super::super::budget::{Budget, Portion};
use super::super::error::ReadError;
use super::super::reader::{Reader, gix_id};
use super::super::tree_path::TreePath;
use super::code_cursor::CodeCursor;
use super::file_walk::{FileWalk, FileWalkStep, WalkedFile};
use super::line_matches::{LineMatches, LineStep, MatchedLine};
use super::path_globs::PathGlobs;
use super::text_pattern::TextPattern;

/// What is searched for in files.
#[derive(Debug, Clone)]
pub struct CodeQuery {
    /// What a line must match.
    pub pattern: TextPattern,
    /// Which files are searched.
    pub paths: PathGlobs,
    /// Where to begin.
    pub after: CodeCursor,
    /// Lines of one file at most.
    pub max_file_lines: usize,
}

/// The lines of a file that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHits {
    /// The file.
    pub path: TreePath,
    /// Its first lines that match.
    pub lines: Vec<MatchedLine>,
    /// Where its further lines begin, if the file has more than a page shows of one.
    pub next: Option<CodeCursor>,
}

/// A part of what a search found, and what it left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeHits {
    /// Files in git's order.
    pub page: Portion<FileHits, CodeCursor>,
    /// How many files were searched for this page.
    pub searched: usize,
    /// How many files were larger than the budget.
    pub too_large: usize,
    /// How many files are binary.
    pub binary: usize,
    /// How many files cannot be read.
    pub unreadable: usize,
    /// How many lines were too long for the regular expression.
    pub long_lines: usize,
}

impl CodeHits {
    /// Whether these are all lines that match after the place where the search began.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let left_out = self.too_large + self.binary + self.unreadable + self.long_lines;
        self.page.is_last()
            && left_out == 0
            && self.page.items.iter().all(|file| file.next.is_none())
    }
}

struct CodeSearch<'a> {
    reader: &'a Reader,
    query: &'a CodeQuery,
    budget: &'a Budget,
    hits: CodeHits,
    lines: usize,
    /// The last place before which everything was searched.
    done: CodeCursor,
}

impl Reader {
    /// Searches the files of a commit: regular files of at most `budget.bytes` that are not binary, until `budget.lines` lines are found.
    pub fn search_code(
        &self,
        commit: &ObjectId,
        query: &CodeQuery,
        budget: &Budget,
    ) -> Result<CodeHits, ReadError> {
        let root = self.root_tree(gix_id(commit)?)?;
        let mut walk = FileWalk::new(self, root, &query.paths, query.after.clone())?;
        let mut search = CodeSearch {
            reader: self,
            query,
            budget,
            hits: CodeHits {
                page: Portion::empty(),
                searched: 0,
                too_large: 0,
                binary: 0,
                unreadable: 0,
                long_lines: 0,
            },
            lines: 0,
            done: query.after.clone(),
        };
        loop {
            match walk.next(budget)? {
                FileWalkStep::End => break,
                FileWalkStep::OutOfTime => {
                    search.hits.page.out_of_time = true;
                    search.hits.page.next = Some(search.done.clone());
                    break;
                }
                FileWalkStep::File(file) => {
                    if search.file(&file)?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(search.hits)
    }
}

impl CodeSearch<'_> {
    /// Searches a file. Breaks if the page ends here.
    fn file(&mut self, file: &WalkedFile) -> Result<ControlFlow<()>, ReadError> {
        let flow = match self.content(file)? {
            Some(content) => self.lines(&file.path, &content),
            None => ControlFlow::Continue(()),
        };
        if flow.is_continue() {
            self.done = CodeCursor::after_file(&file.path);
        }
        Ok(flow)
    }

    /// The content of a file that is searched.
    fn content(&mut self, file: &WalkedFile) -> Result<Option<Vec<u8>>, ReadError> {
        // As for git, the target of a link is no text.
        if !file.is_named || file.is_symlink {
            return Ok(None);
        }
        let read = self.reader.object(file.id, Kind::Blob, self.budget.bytes);
        let left_out = match read {
            Ok(content) if !is_binary(&content) => {
                self.hits.searched += 1;
                return Ok(Some(content));
            }
            Ok(_) => &mut self.hits.binary,
            Err(ReadError::TooLarge { .. }) => &mut self.hits.too_large,
            Err(ReadError::Damaged { .. }) => &mut self.hits.unreadable,
            Err(error) => return Err(error),
        };
        *left_out += 1;
        Ok(None)
    }

    fn lines(&mut self, path: &TreePath, content: &[u8]) -> ControlFlow<()> {
        let skipped = self.query.after.lines_done(path);
        let mut matches = LineMatches::new(&self.query.pattern, content, skipped);
        let mut file = FileHits {
            path: path.clone(),
            lines: Vec::new(),
            next: None,
        };
        let next = loop {
            match matches.next(self.budget) {
                LineStep::End => break None,
                LineStep::OutOfTime => {
                    self.hits.page.out_of_time = true;
                    break Some(CodeCursor::after_line(path, matches.lines_done()));
                }
                LineStep::Found(line) => {
                    let last = file.lines.last().map(|last| last.number);
                    let last = last.map(|line| CodeCursor::after_line(path, line));
                    if file.lines.len() == self.query.max_file_lines {
                        file.next = last;
                        break None;
                    }
                    if self.lines == self.budget.lines {
                        break Some(last.unwrap_or_else(|| self.done.clone()));
                    }
                    self.lines += 1;
                    file.lines.push(line);
                }
            }
        };
        self.hits.long_lines += matches.too_long();
        if !file.lines.is_empty() {
            self.hits.page.items.push(file);
        }
        match next {
            Some(next) => {
                self.hits.page.next = Some(next);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}
