//! The changed files of a commit or a comparison, as a part of a page and as data.
//!
//! A page lists 100 files and shows 3,000 lines, of one file 500; the rest has links. `?path=` shows one file alone.

use askama::Template;
use serde_json::{Value, json};

use super::super::error::WebError;
use super::address::{View, encoded_bytes};
use super::context::RepoContext;
use super::diff_lines::{DiffView, lines_html};
use super::source_text::{bounded_line, name_html, name_text};
use quire_git::read::{
    ChangeKind, ChangedFile, CommitDiff, DiffLine, DiffLineKind, DiffOptions, EntryMode,
    FoldReason, PatchFormat, TreePath, Whitespace,
};
use quire_highlight::LineColours;
use quire_types::names::ObjectId;

/// Lines of a page.
pub(super) const MAX_PAGE_LINES: usize = 3000;
/// Lines of one file among others.
const MAX_FILE_LINES: usize = 500;
/// Files of a page.
const MAX_PAGE_FILES: usize = 100;

/// Where a difference is shown.
pub(super) struct DiffAddress {
    /// The page without a query.
    pub(super) page: String,
    /// The parent that a merge is compared with, from 0.
    pub(super) parent: usize,
    pub(super) look: DiffLook,
    /// The commit after the change.
    pub(super) new: ObjectId,
    /// Whether it is the change of one commit.
    pub(super) is_commit: bool,
}

/// How lines are compared and shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DiffLook {
    pub(super) view: DiffView,
    pub(super) whitespace: Whitespace,
}

impl DiffLook {
    /// As the query asks for it: `view=split`, `ws=ignore`.
    pub(super) fn of(context: &RepoContext) -> Self {
        let asks = |name, value: &[u8]| context.query_bytes(name).as_deref() == Some(value);
        Self {
            view: match asks("view", b"split") {
                true => DiffView::Split,
                false => DiffView::Unified,
            },
            whitespace: match asks("ws", b"ignore") {
                true => Whitespace::Ignored,
                false => Whitespace::Compared,
            },
        }
    }
}

impl DiffAddress {
    /// The page with this query besides its own.
    fn with(&self, query: &str) -> String {
        self.looking(self.look, query)
    }

    /// The page of all files.
    pub(super) fn here(&self) -> String {
        self.with("")
    }

    /// The page with another look.
    fn looking(&self, look: DiffLook, query: &str) -> String {
        let mut parts = Vec::new();
        if self.parent > 0 {
            parts.push(format!("parent={}", self.parent + 1));
        }
        if look.view == DiffView::Split {
            parts.push("view=split".to_owned());
        }
        if look.whitespace == Whitespace::Ignored {
            parts.push("ws=ignore".to_owned());
        }
        if !query.is_empty() {
            parts.push(query.to_owned());
        }
        match parts.as_slice() {
            [] => self.page.clone(),
            parts => format!("{}?{}", self.page, parts.join("&")),
        }
    }

    /// The patch in a format.
    fn patch(&self, format: PatchFormat) -> String {
        let parent = match self.parent {
            0 => String::new(),
            other => format!("?parent={}", other + 1),
        };
        format!("{}{}{parent}", self.page, format.extension())
    }

    fn rest_link(&self, file: &ChangedFile) -> Option<String> {
        let path = encoded_bytes(&file.path);
        match file.diff.next {
            Some(next) => Some(self.with(&format!("path={path}&from={next}"))),
            None => file
                .folded
                .is_some()
                .then(|| self.with(&format!("path={path}"))),
        }
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
    note: Option<String>,
    lines: String,
    has_hidden: bool,
    /// The file after the commit.
    file: Option<String>,
    /// The rest of its lines, or all if they are folded.
    rest: Option<String>,
    is_folded: bool,
}

/// The changed files, as a part of a page.
#[derive(Template)]
#[template(path = "repo_diff.html")]
pub(super) struct DiffSections {
    /// The page of all files, if only one is shown.
    whole: Option<String>,
    is_commit: bool,
    is_split: bool,
    /// The same part with the other view, and with the other comparison of white space.
    other_view: String,
    other_whitespace: String,
    ignores_whitespace: bool,
    /// The whole difference as text: for `git am` and for `git apply`.
    mail: String,
    plain: String,
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
        colours: &[LineColours],
    ) -> Self {
        let files = diff.files.iter().enumerate();
        let plain = LineColours::new();
        let part = part_query(options);
        let is_split = place.look.view == DiffView::Split;
        let ignores_whitespace = place.look.whitespace == Whitespace::Ignored;
        let other_view = DiffLook {
            view: match is_split {
                true => DiffView::Unified,
                false => DiffView::Split,
            },
            ..place.look
        };
        let other_whitespace = DiffLook {
            whitespace: match ignores_whitespace {
                true => Whitespace::Compared,
                false => Whitespace::Ignored,
            },
            ..place.look
        };
        Self {
            whole: options.only.as_ref().map(|_| place.here()),
            is_commit: place.is_commit,
            is_split,
            other_view: place.looking(other_view, &part),
            // The same number of lines is another part of the file.
            other_whitespace: place.looking(other_whitespace, &part_query(&from_start(options))),
            ignores_whitespace,
            mail: place.patch(PatchFormat::Mail),
            plain: place.patch(PatchFormat::Diff),
            files: files
                .map(|(at, file)| {
                    let colours = colours.get(at).unwrap_or(&plain);
                    section(context, place, at + options.skip_files, file, colours)
                })
                .collect(),
            total: diff.total,
            is_cut: diff.is_cut,
            next: place.next_link(diff),
            out_of_time: diff.out_of_time,
        }
    }
}

fn from_start(options: &DiffOptions) -> DiffOptions {
    DiffOptions {
        skip_lines: 0,
        ..options.clone()
    }
}

/// The query that asks for the part that `options` describes.
fn part_query(options: &DiffOptions) -> String {
    let mut parts = Vec::new();
    if let Some(only) = &options.only {
        parts.push(format!("path={}", encoded_bytes(only.as_bytes())));
    }
    for (name, number) in [("from", options.skip_lines), ("files", options.skip_files)] {
        if number > 0 {
            parts.push(format!("{name}={number}"));
        }
    }
    parts.join("&")
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
        whitespace: DiffLook::of(context).whitespace,
        folds: true,
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
    colours: &LineColours,
) -> FileSection {
    let (lines, has_hidden) = lines_html(&file.diff.lines, colours, place.look.view);
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
        note: note(file, place.look.whitespace),
        is_folded: file.folded.is_some(),
        has_hidden,
        rest: place.rest_link(file),
        file: link.map(|path| context.link(View::File, place.new.as_str().as_bytes(), &path)),
        lines,
    }
}

fn note(file: &ChangedFile, whitespace: Whitespace) -> Option<String> {
    let note = if file.is_binary {
        "Binary file."
    } else if file.is_too_large {
        "Too large to be compared."
    } else if file.counts.is_none() {
        "There was no time to compare it."
    } else if let Some(reason) = file.folded {
        return Some(format!(
            "The changes of this {} are folded.",
            reason.as_str()
        ));
    } else if file.diff.lines.is_empty() && file.diff.next.is_none() {
        match whitespace {
            Whitespace::Compared => "No line changed.",
            Whitespace::Ignored => "No line changed, or white space alone.",
        }
    } else {
        return None;
    };
    Some(note.to_owned())
}

/// The lines of a difference as data.
pub(super) fn lines_json(lines: &[DiffLine]) -> Vec<Value> {
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
    lines.iter().map(line).collect()
}

fn file_json(place: &DiffAddress, file: &ChangedFile) -> Value {
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
        "folded": file.folded.map(FoldReason::as_str),
        "lines": lines_json(&file.diff.lines),
        "next": place.rest_link(file),
    })
}
