//! `GET /{repo}/-/blame/{rev}/{path}`: a file with the commit that each line came with, in windows of lines.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::address::View;
use super::commit_row::{commit_json, page_and_subject, signed_at};
use super::context::{RepoContext, RevContent, RevPage, file_entry};
use super::file::lines;
use super::head::{RepoHead, Tab};
use super::kept_page::PageBody;
use super::source_text::{bounded_line, marked, marked_code, name_text};
use super::tree::Crumbs;
use quire_git::read::{
    Blame, BlameBlock, BlameQuery, CommitSummary, EntryMode, NamedRefs, ReadError, RevPath,
};
use quire_highlight::{CodeToken, HighlightedLines};
use quire_types::clock::Millis;

/// Lines of a window.
const MAX_WINDOW_LINES: usize = 2000;
/// Bytes of a line that are shown.
const MAX_LINE_BYTES: usize = 2000;

/// Whether a file can be traced.
enum BlameRead {
    Traced(Blame, Option<Arc<HighlightedLines>>),
    TooLarge,
}

/// The commit of a block as the page shows it.
struct BlockCommit {
    href: String,
    subject: String,
    author: String,
    at: Millis,
    /// The blame of the version before, at the line.
    before: Option<String>,
}

/// Lines that follow each other and came with one commit.
struct BlockView {
    /// `None` if there was no time to find it.
    commit: Option<BlockCommit>,
    lines: String,
}

#[derive(Template)]
#[template(path = "repo_blame.html", block = "main")]
struct BlameTemplate {
    head: RepoHead,
    crumbs: Crumbs,
    file: String,
    history: String,
    /// Why there are no lines.
    note: Option<&'static str>,
    blocks: Vec<BlockView>,
    from: usize,
    to: usize,
    total: usize,
    has_hidden: bool,
    /// How many lines were not traced in time.
    open_lines: u32,
    again: String,
    /// How many commits are listed as passed over, and the page with or without them.
    ignored: Option<(usize, String)>,
    honours_ignored: bool,
    earlier: Option<String>,
    later: Option<String>,
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let from = context.query_number("from")?.unwrap_or(1);
    let honours_ignored = context.query_text("ignore").as_deref() != Some("no");
    let cache = context.app.blames.clone();
    let highlights = (!context.wants_json()).then(|| context.app.highlights.clone());
    let read = context
        .read_rev(
            View::Blame,
            wanted,
            MAX_WINDOW_LINES,
            move |reader, rev, path, budget| {
                let Some(entry) = file_entry(reader, &rev.commit, path)? else {
                    return Ok(RevContent::At(View::Tree));
                };
                let query = BlameQuery {
                    commit: rev.commit.clone(),
                    path: path.clone(),
                    from,
                    honours_ignored,
                };
                let read = match reader.blame(&query, &cache, budget) {
                    Ok(blame) => {
                        let is_code = !blame.blocks.is_empty() && entry.mode != EntryMode::Symlink;
                        let highlights = highlights.filter(|_| is_code);
                        let (data, name) = (&blame.content, path.name());
                        let colours =
                            highlights.and_then(|all| all.of(&entry.id, name, data, lines(data)));
                        BlameRead::Traced(blame, colours)
                    }
                    Err(ReadError::TooLarge { .. }) => BlameRead::TooLarge,
                    Err(error) => return Err(error),
                };
                Ok(RevContent::Here(read))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let choices = page.choices.take();
    let blame = match &page.content {
        BlameRead::Traced(blame, _) => blame,
        BlameRead::TooLarge => &Blame::default(),
    };
    let is_whole = blame.is_whole();
    let body = if context.wants_json() {
        as_json(context, &page, blame)
    } else {
        let path = name_text(page.path.as_bytes());
        let title = format!("Blame of {path} · {}", context.repo);
        PageBody::html(title, &template(context, &page, blame, choices))?
    };
    context.send(&page.identity, is_whole, body).await
}

/// The address of the page from a line on.
fn window(context: &RepoContext, page: &RevPage<BlameRead>, from: usize, honours: bool) -> String {
    let here = context.link(View::Blame, &page.rev.spelled, &page.path);
    let from = (from > 1).then(|| format!("from={from}"));
    let ignore = (!honours).then(|| "ignore=no".to_owned());
    let query: Vec<String> = from.into_iter().chain(ignore).collect();
    match query.is_empty() {
        true => here,
        false => format!("{here}?{}", query.join("&")),
    }
}

/// The first and the last line of the window; both 0 if there is none.
fn bounds(blame: &Blame) -> (usize, usize) {
    let first = blame.blocks.first().map_or(0, |block| block.line as usize);
    let last = blame.blocks.last();
    let last = last.map_or(0, |block| (block.line + block.count - 1) as usize);
    (first, last)
}

fn template(
    context: &RepoContext,
    page: &RevPage<BlameRead>,
    blame: &Blame,
    choices: Option<NamedRefs>,
) -> BlameTemplate {
    let (rev, path) = (&page.rev, &page.path);
    let honours_ignored = context.query_text("ignore").as_deref() != Some("no");
    let (from, to) = bounds(blame);
    let to_window = |from: usize| window(context, page, from, honours_ignored);
    let plain = HighlightedLines::default();
    let colours = match &page.content {
        BlameRead::Traced(_, Some(colours)) => colours,
        _ => &plain,
    };
    let (blocks, has_hidden) = block_views(context, blame, colours);
    let open = blame.blocks.iter().filter(|block| block.commit.is_none());
    BlameTemplate {
        head: RepoHead::new(context, Tab::Code, Some(rev), choices),
        crumbs: Crumbs::new(context, View::Tree, rev, path),
        file: context.link(View::File, &rev.spelled, path),
        history: context.link(View::Log, &rev.spelled, path),
        note: match (&page.content, blame.total) {
            (BlameRead::TooLarge, _) => Some("This file is too large to be traced."),
            (_, 0) => Some("This file is empty."),
            _ if blame.blocks.is_empty() => Some("This is a binary file."),
            _ => None,
        },
        blocks,
        from,
        to,
        total: blame.total,
        has_hidden,
        open_lines: open.map(|block| block.count).sum(),
        again: to_window(from),
        ignored: (blame.listed_as_ignored > 0).then(|| {
            let other = window(context, page, from, !honours_ignored);
            (blame.listed_as_ignored, other)
        }),
        honours_ignored,
        earlier: (from > 1).then(|| to_window(from.saturating_sub(MAX_WINDOW_LINES).max(1))),
        later: (to < blame.total).then(|| to_window(to + 1)),
    }
}

fn block_views(
    context: &RepoContext,
    blame: &Blame,
    colours: &HighlightedLines,
) -> (Vec<BlockView>, bool) {
    let all: Vec<&[u8]> = lines(&blame.content).collect();
    let mut has_hidden = false;
    let mut views: Vec<BlockView> = Vec::new();
    let mut last: Option<&BlameBlock> = None;
    for block in &blame.blocks {
        let first = block.line as usize - 1;
        let shown = all.iter().enumerate().skip(first);
        let mut html = String::new();
        for (at, line) in shown.take(block.count as usize) {
            let (line, hidden) = line_html(at + 1, line, colours.line(at + 1));
            has_hidden |= hidden;
            html.push_str(&line);
        }
        match views.last_mut() {
            Some(view) if last.is_some_and(|last| last.has_same_origin(block)) => {
                view.lines.push_str(&html);
            }
            _ => views.push(BlockView {
                commit: block
                    .commit
                    .as_ref()
                    .map(|commit| block_commit(context, block, commit)),
                lines: html,
            }),
        }
        last = Some(block);
    }
    (views, has_hidden)
}

fn line_html(number: usize, line: &[u8], tokens: &[CodeToken]) -> (String, bool) {
    let (text, _) = bounded_line(&line[..line.len().min(MAX_LINE_BYTES)]);
    let marked = marked_code(text.as_bytes(), tokens, &[]);
    let end = match line.len() {
        0 => "\n",
        bytes if bytes > MAX_LINE_BYTES => "<i class=\"hidden-char\">…</i>",
        _ => "",
    };
    let html = format!(
        "<span class=\"l\"><a id=\"L{number}\" href=\"#L{number}\" data-n=\"{number}\" tabindex=\"-1\" aria-hidden=\"true\"></a>{}{end}</span>",
        marked.html
    );
    (html, marked.has_hidden)
}

fn block_commit(context: &RepoContext, block: &BlameBlock, commit: &CommitSummary) -> BlockCommit {
    let (href, subject) = page_and_subject(context, commit);
    BlockCommit {
        href,
        subject,
        author: marked(&commit.author.name).html,
        at: signed_at(&commit.author),
        before: before_link(context, block),
    }
}

fn before_link(context: &RepoContext, block: &BlameBlock) -> Option<String> {
    let (commit, path, line) = block.previous.as_ref()?;
    let href = context.link(View::Blame, commit.as_str().as_bytes(), path);
    // The window that the line is in.
    let from = (*line as usize - 1) / MAX_WINDOW_LINES * MAX_WINDOW_LINES + 1;
    Some(match from {
        1 => format!("{href}#L{line}"),
        from => format!("{href}?from={from}#L{line}"),
    })
}

fn as_json(context: &RepoContext, page: &RevPage<BlameRead>, blame: &Blame) -> PageBody {
    let all: Vec<&[u8]> = lines(&blame.content).collect();
    let block = |block: &BlameBlock| -> Value {
        let shown = all.iter().skip(block.line as usize - 1);
        let text: Vec<_> = shown
            .take(block.count as usize)
            .map(|line| bounded_line(line).0)
            .collect();
        json!({
            "line": block.line,
            "count": block.count,
            "commit": block.commit.as_ref().map(|commit| commit_json(context, commit)),
            "path": name_text(block.path.as_bytes()),
            "source_line": block.source_line,
            "before": before_link(context, block),
            "lines": text,
        })
    };
    let (_, to) = bounds(blame);
    let honours_ignored = context.query_text("ignore").as_deref() != Some("no");
    let next = (to > 0 && to < blame.total).then(|| window(context, page, to + 1, honours_ignored));
    PageBody::json(&json!({
        "repo": context.repo,
        "commit": page.rev.commit,
        "path": name_text(page.path.as_bytes()),
        "is_too_large": matches!(page.content, BlameRead::TooLarge),
        "is_whole": blame.is_whole(),
        "total_lines": blame.total,
        "listed_as_ignored": blame.listed_as_ignored,
        "honours_ignored": honours_ignored,
        "blocks": blame.blocks.iter().map(block).collect::<Vec<_>>(),
        "next": next,
    }))
}
