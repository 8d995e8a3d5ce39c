//! What a search found, as a page shows it.

use askama::Template;

use super::address::View;
use super::commit_row::{CUT_HISTORY, CommitRow};
use super::context::RepoContext;
use super::file::line_link;
use super::search_query::SearchQuery;
use super::search_read::{MAX_FILE_BYTES, SearchFindings};
use super::source_text::{line_html, name_html, name_matches_html};
use quire_git::read::{
    CodeHits, CommitHit, FileHits, HistoryCursor, MatchedLine, PathGlobs, PathHit, PathHits,
    Portion, ResolvedRev, TextPattern,
};
use quire_types::text::format_bytes;

/// A file with its lines.
struct FileRow {
    href: String,
    name: String,
    lines: String,
    /// Its further lines.
    next: Option<String>,
}

/// A path.
struct PathRow {
    href: String,
    name: String,
}

/// What a search found; one of the lists has items.
#[derive(Template)]
#[template(path = "repo_search_results.html")]
pub(super) struct SearchResults {
    /// How much there is.
    summary: String,
    /// What was left out, and why.
    notes: Vec<String>,
    files: Vec<FileRow>,
    paths: Vec<PathRow>,
    commits: Vec<CommitRow>,
    first: Option<String>,
    next: Option<String>,
}

impl SearchResults {
    /// `None` if nothing was searched for.
    pub(super) fn new(
        context: &RepoContext,
        query: &SearchQuery,
        rev: &ResolvedRev,
        found: &SearchFindings,
    ) -> Option<Self> {
        let is_continued = query.after.is_some();
        let results = match found {
            SearchFindings::Nothing => return None,
            SearchFindings::Code(hits) => Self::of_code(context, query, rev, hits),
            SearchFindings::Paths(hits) => Self::of_paths(context, rev, hits),
            SearchFindings::Commits(pattern, hits) => {
                Self::of_commits(context, pattern, hits, is_continued)
            }
        };
        let next = next_link(context, query, found);
        let first = is_continued.then(|| go_on(context, query, None));
        Some(Self {
            next,
            first,
            ..results
        })
    }

    fn with(summary: String, notes: Vec<String>) -> Self {
        Self {
            summary,
            notes,
            files: Vec::new(),
            paths: Vec::new(),
            commits: Vec::new(),
            first: None,
            next: None,
        }
    }

    fn of_code(
        context: &RepoContext,
        query: &SearchQuery,
        rev: &ResolvedRev,
        hits: &CodeHits,
    ) -> Self {
        let files = &hits.page.items;
        let lines: usize = files.iter().map(|file| file.lines.len()).sum();
        let is_part = query.after.is_some() || hits.page.next.is_some();
        let summary = match lines {
            0 if is_part => "No line matches here.".to_owned(),
            0 => "No line matches.".to_owned(),
            _ => format!(
                "{} in {} {}{}.",
                counted(lines, "line", "lines"),
                counted(files.len(), "file", "files"),
                if lines == 1 { "matches" } else { "match" },
                if is_part { ", on this page" } else { "" },
            ),
        };
        let mut notes = Vec::new();
        if hits.page.out_of_time {
            notes.push("The time for this page ended here. The next page goes on.".to_owned());
        }
        notes.extend(left_out(hits));
        Self {
            files: files
                .iter()
                .map(|file| file_row(context, query, rev, file))
                .collect(),
            ..Self::with(summary, notes)
        }
    }

    fn of_paths(context: &RepoContext, rev: &ResolvedRev, hits: &PathHits) -> Self {
        let PathHits { page, total } = hits;
        let is_all = page.items.len() == *total;
        let summary = match *total {
            0 => "No path matches.".to_owned(),
            1 => "1 path matches.".to_owned(),
            total if is_all => format!("{total} paths match, the best first."),
            total => format!(
                "{total} paths match. These are {} of them, the best first.",
                page.items.len()
            ),
        };
        let notes = page.out_of_time.then(|| {
            "The time for this page ended before all paths were seen. Globs of paths make a search shorter.".to_owned()
        });
        Self {
            paths: page
                .items
                .iter()
                .map(|hit| PathRow {
                    href: path_link(context, rev, hit),
                    name: name_matches_html(&hit.text, &hit.matches),
                })
                .collect(),
            ..Self::with(summary, notes.into_iter().collect())
        }
    }

    fn of_commits(
        context: &RepoContext,
        pattern: &TextPattern,
        hits: &Portion<CommitHit, HistoryCursor>,
        is_continued: bool,
    ) -> Self {
        let is_part = is_continued || hits.next.is_some();
        let summary = match hits.items.len() {
            0 if is_part => "No commit matches here.".to_owned(),
            0 => "No commit matches.".to_owned(),
            count => format!(
                "{} {}{}.",
                counted(count, "commit", "commits"),
                if count == 1 { "matches" } else { "match" },
                if is_part { ", on this page" } else { "" },
            ),
        };
        let mut notes = Vec::new();
        if hits.is_cut {
            notes.push(CUT_HISTORY.to_owned());
        } else if hits.out_of_time {
            notes.push("The time for this page ended here. The next page goes on.".to_owned());
        }
        Self {
            commits: hits
                .items
                .iter()
                .map(|hit| CommitRow::found(context, hit, pattern))
                .collect(),
            ..Self::with(summary, notes)
        }
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

/// What of the files was not searched, as one sentence.
fn left_out(hits: &CodeHits) -> Option<String> {
    let size = format_bytes(MAX_FILE_BYTES);
    let kinds = [
        (
            hits.too_large,
            format!("file larger than {size}"),
            format!("files larger than {size}"),
        ),
        (
            hits.binary,
            "binary file".to_owned(),
            "binary files".to_owned(),
        ),
        (
            hits.unreadable,
            "damaged file".to_owned(),
            "damaged files".to_owned(),
        ),
        (
            hits.long_lines,
            "line that is too long for this expression".to_owned(),
            "lines that are too long for this expression".to_owned(),
        ),
    ];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, one, many)| counted(count, &one, &many))
        .collect();
    (!kinds.is_empty()).then(|| format!("Not searched: {}.", kinds.join(", ")))
}

fn file_row(
    context: &RepoContext,
    query: &SearchQuery,
    rev: &ResolvedRev,
    file: &FileHits,
) -> FileRow {
    let href = context.link(View::File, rev.commit.as_str().as_bytes(), &file.path);
    let line = |found: &MatchedLine| {
        let number = found.number;
        let link = line_link(&href, &file.path, number);
        // A block without text is not copied.
        let html = match found.text.is_empty() {
            true => "\n".to_owned(),
            false => line_html(found),
        };
        format!(
            "<span class=\"l\"><a href=\"{link}\" data-n=\"{number}\" aria-label=\"Line {number}\"></a>{html}</span>"
        )
    };
    FileRow {
        lines: file.lines.iter().map(line).collect(),
        name: name_html(file.path.as_bytes()),
        next: file_link(context, query, file),
        href,
    }
}

/// The address of a path that was found.
pub(super) fn path_link(context: &RepoContext, rev: &ResolvedRev, hit: &PathHit) -> String {
    context.link(View::File, rev.commit.as_str().as_bytes(), &hit.path)
}

/// The address of the further lines of a file.
pub(super) fn file_link(
    context: &RepoContext,
    query: &SearchQuery,
    file: &FileHits,
) -> Option<String> {
    let next = file.next.as_ref()?;
    let alone = SearchQuery {
        paths: PathGlobs::exact(&file.path),
        ..query.clone()
    };
    Some(go_on(context, &alone, Some(next.to_bytes())))
}

fn go_on(context: &RepoContext, query: &SearchQuery, after: Option<Vec<u8>>) -> String {
    let query = SearchQuery {
        after,
        ..query.clone()
    };
    query.link(&context.base)
}

/// The address where the search goes on.
pub(super) fn next_link(
    context: &RepoContext,
    query: &SearchQuery,
    found: &SearchFindings,
) -> Option<String> {
    let next = match found {
        SearchFindings::Nothing => None,
        SearchFindings::Code(hits) => hits.page.next.as_ref().map(|next| next.to_bytes()),
        SearchFindings::Paths(hits) => hits.page.next.as_ref().map(|next| next.to_bytes()),
        SearchFindings::Commits(_, hits) => {
            let next = hits.next.as_ref();
            next.map(|next| next.to_string().into_bytes())
        }
    };
    next.map(|next| go_on(context, query, Some(next)))
}
