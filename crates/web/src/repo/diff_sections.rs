//! The changed files of a commit or a comparison, as a part of a page and as data.
//!
//! A page lists 100 files and shows 3,000 lines, of one file 500; the rest has links. `?path=` shows one file alone.

use askama::Template;
use serde_json::{Value, json};

use super::super::error::WebError;
use super::address::{View, encoded_bytes};
use super::context::RepoContext;
use super::source_text::{bounded_line, marked, name_html, name_text};
use quire_git::read::{
    ChangeKind, ChangedFile, CommitDiff, DiffLine, DiffLineKind, DiffOptions, EntryMode, TreePath,
};
use quire_types::names::ObjectId;

/// Lines of a page.
pub(super) const MAX_PAGE_LINES: usize = 3000;
/// Lines of one file among others.
const MAX_FILE_LINES: usize = 500;
/// Files of a page.
const MAX_PAGE_FILES: usize = 100;

/// Where a difference is shown.
pub(super) struct DiffAddress {
    /// The page, with its own query if it has one.
    pub(super) here: String,
    /// The commit after the change.
    pub(super) new: ObjectId,
    /// Whether it is the change of one commit.
    pub(super) is_commit: bool,
}

impl DiffAddress {
    /// The page with another query.
    fn with(&self, query: &str) -> String {
        let separator = if self.here.contains('?') { '&' } else { '?' };
        format!("{}{separator}{query}", self.here)
    }

    fn rest_link(&self, file: &ChangedFile) -> Option<String> {
        let next = file.diff.next?;
        let path = encoded_bytes(&file.path);
        Some(self.with(&format!("path={path}&from={next}")))
    }

    pub(super) fn next_link(&self, diff: &CommitDiff) -> Option<String> {
        Some(self.with(&format!("files={}", diff.next?)))
    }
}

/// A changed file as the page shows it.
struct FileSection {
    anchor: String,
    name: String,
    old_name: Option<String>,
    kind: &'static str,
    counts: Option<(u32, u32)>,
    mode_change: Option<(&'static str, &'static str)>,
    /// Why there are no lines.
    note: Option<&'static str>,
    lines: String,
    has_hidden: bool,
    /// The file after the commit.
    file: Option<String>,
    /// The rest of its lines.
    rest: Option<String>,
}

/// The changed files, as a part of a page.
#[derive(Template)]
#[template(path = "repo_diff.html")]
pub(super) struct DiffSections {
    /// The page of all files, if only one is shown.
    whole: Option<String>,
    is_commit: bool,
    files: Vec<FileSection>,
    total: usize,
    is_cut: bool,
    next: Option<String>,
    out_of_time: bool,
}

impl DiffSections {
    pub(super) fn new(
        context: &RepoContext,
        place: &DiffAddress,
        diff: &CommitDiff,
        options: &DiffOptions,
    ) -> Self {
        let files = diff.files.iter().enumerate();
        Self {
            whole: options.only.as_ref().map(|_| place.here.clone()),
            is_commit: place.is_commit,
            files: files
                .map(|(at, file)| section(context, place, at + options.skip_files, file))
                .collect(),
            total: diff.total,
            is_cut: diff.is_cut,
            next: place.next_link(diff),
            out_of_time: diff.out_of_time,
        }
    }
}

/// Which part of a difference the query asks for.
pub(super) fn options(context: &RepoContext) -> Result<DiffOptions, WebError> {
    let only = context
        .query_bytes("path")
        .map(|path| TreePath::parse(&path).ok_or(WebError::NotFound))
        .transpose()?;
    let alone = only.is_some();
    Ok(DiffOptions {
        skip_files: context.query_number("files")?.unwrap_or(0),
        max_files: MAX_PAGE_FILES,
        parent: 0,
        skip_lines: context.query_number("from")?.filter(|_| alone).unwrap_or(0),
        max_lines: if alone {
            MAX_PAGE_LINES
        } else {
            MAX_FILE_LINES
        },
        only,
    })
}

/// The files of a difference as data.
pub(super) fn files_json(place: &DiffAddress, diff: &CommitDiff) -> Vec<Value> {
    diff.files
        .iter()
        .map(|file| file_json(place, file))
        .collect()
}

fn kind(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "added",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Modified => "modified",
        ChangeKind::Renamed => "renamed",
    }
}

fn section(
    context: &RepoContext,
    place: &DiffAddress,
    at: usize,
    file: &ChangedFile,
) -> FileSection {
    let (lines, has_hidden) = lines_html(&file.diff.lines);
    let modes = file.old.as_ref().zip(file.new.as_ref());
    let link = TreePath::parse(&file.path).filter(|_| {
        file.new
            .as_ref()
            .is_some_and(|(mode, _)| *mode != EntryMode::Submodule)
    });
    FileSection {
        anchor: format!("file-{}", at + 1),
        name: name_html(&file.path),
        old_name: file.old_path.as_deref().map(name_html),
        kind: kind(file.kind),
        counts: file.counts.map(|counts| (counts.added, counts.removed)),
        mode_change: modes
            .filter(|((old, _), (new, _))| old != new)
            .map(|((old, _), (new, _))| (old.as_octal(), new.as_octal())),
        note: note(file),
        has_hidden,
        rest: place.rest_link(file),
        file: link.map(|path| context.link(View::File, place.new.as_str().as_bytes(), &path)),
        lines,
    }
}

fn note(file: &ChangedFile) -> Option<&'static str> {
    if file.is_binary {
        Some("Binary file.")
    } else if file.is_too_large {
        Some("Too large to be compared.")
    } else if file.counts.is_none() {
        Some("There was no time to compare it.")
    } else if file.diff.lines.is_empty() && file.diff.next.is_none() {
        Some("No line changed.")
    } else {
        None
    }
}

/// Lines of a difference as HTML, and whether they have hidden characters.
fn lines_html(lines: &[DiffLine]) -> (String, bool) {
    let mut html = String::new();
    let mut has_hidden = false;
    let number = |n: Option<u32>| n.map_or_else(String::new, |n| n.to_string());
    for line in lines {
        let (text, is_cut) = bounded_line(&line.text);
        // A carriage return ends lines of some files; it matters where it was added or removed.
        let text = match line.kind {
            DiffLineKind::Context => text.strip_suffix('\r').unwrap_or(&text),
            _ => &text,
        };
        let marked = marked(text);
        has_hidden |= marked.has_hidden;
        let (class, sign) = match line.kind {
            // The first lines of a file need no head.
            DiffLineKind::Hunk if line.old <= Some(1) && line.text.is_empty() => continue,
            DiffLineKind::Hunk => {
                html.push_str(&format!("<span class=\"dl hunk\">{}</span>", marked.html));
                continue;
            }
            DiffLineKind::NoNewline => {
                html.push_str("<span class=\"dl end\">No newline at the end of the file.</span>");
                continue;
            }
            DiffLineKind::Context => ("dl", " "),
            DiffLineKind::Added => ("dl add", "+"),
            DiffLineKind::Removed => ("dl del", "-"),
        };
        let end = if is_cut {
            "<i class=\"hidden-char\">…</i>"
        } else {
            ""
        };
        html.push_str(&format!(
            "<span class=\"{class}\" data-o=\"{}\" data-n=\"{}\"><b>{sign}</b>{}{end}</span>",
            number(line.old),
            number(line.new),
            marked.html
        ));
    }
    (html, has_hidden)
}

fn file_json(place: &DiffAddress, file: &ChangedFile) -> Value {
    let line = |line: &DiffLine| {
        let kind = match line.kind {
            DiffLineKind::Hunk => "hunk",
            DiffLineKind::Context => "context",
            DiffLineKind::Added => "added",
            DiffLineKind::Removed => "removed",
            DiffLineKind::NoNewline => "no-newline",
        };
        let (text, _) = bounded_line(&line.text);
        json!({ "kind": kind, "old": line.old, "new": line.new, "text": text })
    };
    let version = |version: &Option<(EntryMode, ObjectId)>| {
        version
            .as_ref()
            .map(|(mode, id)| json!({ "mode": mode.as_octal(), "id": id }))
    };
    json!({
        "kind": kind(file.kind),
        "path": name_text(&file.path),
        "old_path": file.old_path.as_deref().map(name_text),
        "old": version(&file.old),
        "new": version(&file.new),
        "added": file.counts.map(|counts| counts.added),
        "removed": file.counts.map(|counts| counts.removed),
        "is_binary": file.is_binary,
        "is_too_large": file.is_too_large,
        "lines": file.diff.lines.iter().map(line).collect::<Vec<_>>(),
        "next": place.rest_link(file),
    })
}
