//! `GET /{repo}/-/commit/{rev}`: a commit, and what it changed against its first parent.
//!
//! The page lists 100 files and shows 3,000 lines, of one file 500; the rest has links. `?path=` shows one file alone.

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::{View, encoded_bytes};
use super::commit_row::{commit_json, signed_at, subject_html};
use super::context::{RepoContext, RevContent};
use super::head::{RepoHead, Tab};
use super::source_text::{bounded_line, marked, name_html, name_text};
use quire_git::read::{
    ChangeKind, ChangedFile, CommitDetails, CommitDiff, DiffLine, DiffLineKind, DiffOptions,
    EntryMode, NamedRefs, Person, ReadError, ResolvedRev, RevPath, TreePath,
};
use quire_types::clock::Millis;

/// Lines of a page.
const MAX_PAGE_LINES: usize = 3000;
/// Lines of one file among others.
const MAX_FILE_LINES: usize = 500;
/// Files of a page.
const MAX_PAGE_FILES: usize = 100;

/// A person and a time, as HTML.
struct Signature {
    name: String,
    email: String,
    at: Millis,
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

#[derive(Template)]
#[template(path = "repo_commit.html")]
struct CommitTemplate {
    layout: Layout,
    head: RepoHead,
    id: String,
    subject: String,
    body: String,
    author: Signature,
    /// If another person committed it.
    committer: Option<Signature>,
    parents: Vec<(String, String)>,
    change: Option<String>,
    is_signed: bool,
    tree: String,
    /// Whether only one file is shown.
    whole: Option<String>,
    files: Vec<FileSection>,
    total: usize,
    is_cut: bool,
    next: Option<String>,
    out_of_time: bool,
}

struct CommitRead {
    details: CommitDetails,
    diff: CommitDiff,
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let only = context
        .query_bytes("path")
        .map(|path| TreePath::parse(&path).ok_or(WebError::NotFound))
        .transpose()?;
    let alone = only.is_some();
    let options = DiffOptions {
        skip_files: context.query_number("files")?.unwrap_or(0),
        max_files: MAX_PAGE_FILES,
        skip_lines: context.query_number("from")?.filter(|_| alone).unwrap_or(0),
        max_lines: if alone {
            MAX_PAGE_LINES
        } else {
            MAX_FILE_LINES
        },
        only,
    };
    let asked = options.clone();
    let read = context
        .read_rev(
            View::Commit,
            wanted,
            MAX_PAGE_LINES,
            move |reader, rev, path, budget| {
                if !path.is_root() {
                    return Err(ReadError::NoPath);
                }
                Ok(RevContent::Here(CommitRead {
                    details: reader.commit(&rev.commit)?,
                    diff: reader.commit_diff(&rev.commit, &asked, budget)?,
                }))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let choices = page.choices.take();
    let response = if context.wants_json() {
        as_json(context, &page.rev, &page.content, &options)
    } else {
        html(&template(
            context,
            &page.rev,
            &page.content,
            choices,
            &options,
        ))?
    };
    let is_whole = !page.content.diff.out_of_time;
    Ok(page.tag_if(is_whole, response))
}

fn template(
    context: &RepoContext,
    rev: &ResolvedRev,
    read: &CommitRead,
    choices: Option<NamedRefs>,
    options: &DiffOptions,
) -> CommitTemplate {
    let here = here(context, rev);
    let summary = &read.details.summary;
    let same_person = summary.author.name == summary.committer.name
        && summary.author.email == summary.committer.email;
    let parents = summary.parents.iter().map(|id| {
        let href = context.link(View::Commit, id.as_str().as_bytes(), &TreePath::default());
        (id.short().to_owned(), href)
    });
    let title = format!(
        "{} · {}",
        name_text(summary.subject.as_bytes()),
        context.repo
    );
    let files = read.diff.files.iter().enumerate();
    CommitTemplate {
        layout: context.layout(title),
        head: RepoHead::new(context, Tab::Commits, Some(rev), choices),
        id: rev.commit.to_string(),
        subject: subject_html(&summary.subject),
        body: marked(&read.details.body).html,
        author: signature(&summary.author),
        committer: (!same_person).then(|| signature(&summary.committer)),
        parents: parents.collect(),
        change: summary.change_id.clone(),
        is_signed: read.details.is_signed,
        tree: context.link(
            View::Tree,
            rev.commit.as_str().as_bytes(),
            &TreePath::default(),
        ),
        whole: options.only.as_ref().map(|_| here.clone()),
        files: files
            .map(|(at, file)| section(context, rev, at + options.skip_files, file))
            .collect(),
        total: read.diff.total,
        is_cut: read.diff.is_cut,
        next: read.diff.next.map(|next| format!("{here}?files={next}")),
        out_of_time: read.diff.out_of_time,
    }
}

fn here(context: &RepoContext, rev: &ResolvedRev) -> String {
    let id = rev.commit.as_str().as_bytes();
    context.link(View::Commit, id, &TreePath::default())
}

fn signature(person: &Person) -> Signature {
    Signature {
        name: marked(&person.name).html,
        email: marked(&person.email).html,
        at: signed_at(person),
    }
}

fn kind(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "added",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Modified => "modified",
        ChangeKind::Renamed => "renamed",
    }
}

fn section(context: &RepoContext, rev: &ResolvedRev, at: usize, file: &ChangedFile) -> FileSection {
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
        rest: rest_link(context, rev, file),
        file: link.map(|path| context.link(View::File, rev.commit.as_str().as_bytes(), &path)),
        lines,
    }
}

fn rest_link(context: &RepoContext, rev: &ResolvedRev, file: &ChangedFile) -> Option<String> {
    let next = file.diff.next?;
    let path = encoded_bytes(&file.path);
    Some(format!("{}?path={path}&from={next}", here(context, rev)))
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

fn as_json(
    context: &RepoContext,
    rev: &ResolvedRev,
    read: &CommitRead,
    options: &DiffOptions,
) -> Response {
    let here = here(context, rev);
    let files: Vec<Value> = read
        .diff
        .files
        .iter()
        .map(|file| file_json(context, rev, file))
        .collect();
    let mut data = commit_json(context, &read.details.summary);
    let more = json!({
        "repo": context.repo,
        "tree": read.details.tree,
        "body": read.details.body,
        "is_signed": read.details.is_signed,
        "total_files": read.diff.total,
        "is_cut": read.diff.is_cut,
        "skipped_files": options.skip_files,
        "files": files,
        "next": read.diff.next.map(|next| format!("{here}?files={next}")),
    });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    Json(data).into_response()
}

fn file_json(context: &RepoContext, rev: &ResolvedRev, file: &ChangedFile) -> Value {
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
    let version = |version: &Option<(EntryMode, quire_types::names::ObjectId)>| {
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
        "next": rest_link(context, rev, file),
    })
}
