//! `GET /{repo}/-/file/{rev}/{path}`: a file, as text in windows of lines, as a picture, or as what is known of it.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;
use serde_json::json;

use super::super::error::WebError;
use super::address::View;
use super::context::{RepoContext, RevContent, RevPage, file_entry};
use super::head::{RepoHead, Tab};
use super::hex;
use super::kept_page::PageBody;
use super::markdown::{LinkBase, is_markdown, render};
use super::raw::MediaType;
use super::source_text::{bounded_line, marked_code, name_html, name_text};
use super::tree::Crumbs;
use quire_git::read::{
    BlobContent, EntryMode, NamedRefs, ReadError, ResolvedRev, RevPath, TreeItem, TreePath,
};
use quire_highlight::HighlightedLines;
use quire_types::text::format_bytes;

/// Lines of a window.
const MAX_WINDOW_LINES: usize = 5000;
/// Bytes of a window: after them the window ends early.
const MAX_WINDOW_BYTES: usize = 1 << 20;

/// A window of a text.
struct TextWindow {
    html: String,
    /// The number of the first line.
    from: usize,
    /// The number of the last one.
    to: usize,
    /// All lines of the file.
    total: usize,
    has_hidden: bool,
    has_cut_line: bool,
    is_utf8: bool,
    /// Why not all of it has colours.
    plain: Option<String>,
}

/// What a page shows of a file.
enum FileBody {
    Text(TextWindow),
    Markdown(String),
    Picture,
    Binary(String),
    TooLarge,
    Empty,
}

#[derive(Template)]
#[template(path = "repo_file.html", block = "main")]
struct FileTemplate {
    head: RepoHead,
    crumbs: Crumbs,
    body: FileBody,
    size: String,
    is_executable: bool,
    target: Option<String>,
    /// Where a rendered file is shown as it is.
    source: Option<String>,
    raw: String,
    /// Where its lines come from; `None` if it has none.
    blame: Option<String>,
    history: String,
    permalink: String,
    earlier: Option<String>,
    later: Option<String>,
    name: String,
}

/// Divides a text into lines, without their ends.
pub(super) fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    data.split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

impl TextWindow {
    /// The window that begins with line `from`; `None` if there is no such line.
    fn new(data: &[u8], colours: &HighlightedLines, from: usize) -> Option<Self> {
        let total = lines(data).count();
        let mut window = Self {
            html: String::new(),
            from,
            to: from,
            total,
            has_hidden: false,
            has_cut_line: false,
            is_utf8: std::str::from_utf8(data).is_ok(),
            plain: colours.cut.map(|cut| cut.to_string()),
        };
        if from == 0 || from > total {
            return None;
        }
        let wanted = lines(data).enumerate().skip(from - 1);
        for (at, line) in wanted.take(MAX_WINDOW_LINES) {
            let number = at + 1;
            let (text, is_cut) = bounded_line(line);
            let marked = marked_code(text.as_bytes(), colours.line(number), &[]);
            window.has_hidden |= marked.has_hidden;
            window.has_cut_line |= is_cut;
            let end = if is_cut {
                "<i class=\"hidden-char\">…</i>"
            } else if line.is_empty() {
                // A block without text is not copied.
                "\n"
            } else {
                ""
            };
            window.html.push_str(&format!(
                "<span class=\"l\"><a id=\"L{number}\" href=\"#L{number}\" data-n=\"{number}\" tabindex=\"-1\" aria-hidden=\"true\"></a>{}{end}</span>",
                marked.html
            ));
            window.to = number;
            if window.html.len() >= MAX_WINDOW_BYTES {
                break;
            }
        }
        Some(window)
    }
}

/// The address of a window. The windows of a Markdown file are of its source.
fn window_link(file: &str, path: &TreePath, from: usize) -> String {
    match is_markdown(path.name()) {
        true => format!("{file}?source=1&from={from}"),
        false => format!("{file}?from={from}"),
    }
}

/// The address of a line of a file; `file` is the address of the file.
pub(super) fn line_link(file: &str, path: &TreePath, line: usize) -> String {
    let from = (line - 1) / MAX_WINDOW_LINES * MAX_WINDOW_LINES + 1;
    let window = match from {
        1 if !is_markdown(path.name()) => file.to_owned(),
        from => window_link(file, path, from),
    };
    format!("{window}#L{line}")
}

struct FileRead {
    entry: TreeItem,
    /// `None` if it is too large.
    content: Option<BlobContent>,
    /// Markdown as HTML.
    markdown: Option<String>,
    /// The colours of its lines.
    colours: Option<Arc<HighlightedLines>>,
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let from = context.query_number("from")?.unwrap_or(1);
    let wants_source = context.query_bytes("source").is_some();
    let renders = !context.wants_json() && !wants_source && from == 1;
    let base = context.base.clone();
    let highlights = (!context.wants_json()).then(|| context.app.highlights.clone());
    let read = context
        .read_rev(
            View::File,
            wanted,
            MAX_WINDOW_LINES,
            move |reader, rev, path, budget| {
                let Some(entry) = file_entry(reader, &rev.commit, path)? else {
                    return Ok(RevContent::At(View::Tree));
                };
                let content = match reader.blob(&entry.id, budget.bytes) {
                    Ok(content) => Some(content),
                    Err(ReadError::TooLarge { .. }) => None,
                    Err(error) => return Err(error),
                };
                let is_markdown =
                    is_markdown(path.name()) && entry.mode != EntryMode::Symlink && renders;
                let text = content.as_ref().filter(|_| is_markdown);
                let markdown = text.and_then(|text| {
                    let links = LinkBase {
                        base: &base,
                        rev: &rev.spelled,
                        folder: path.parent(),
                    };
                    render(&text.data, &links)
                });
                let is_code = |content: &&BlobContent| {
                    markdown.is_none() && entry.mode != EntryMode::Symlink && !content.is_binary()
                };
                let code = highlights.zip(content.as_ref().filter(is_code));
                let colours = code.and_then(|(highlights, code)| {
                    highlights.of(&entry.id, path.name(), &code.data, lines(&code.data))
                });
                Ok(RevContent::Here(FileRead {
                    entry,
                    content,
                    markdown,
                    colours,
                }))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let choices = page.choices.take();
    let body = if context.wants_json() {
        as_json(context, &page.rev, &page.path, &page.content, from)?
    } else {
        let markdown = page.content.markdown.take();
        as_html(context, &page, choices, markdown, from)?
    };
    context.send(&page.identity, true, body).await
}

fn as_html(
    context: &RepoContext,
    page: &RevPage<FileRead>,
    choices: Option<NamedRefs>,
    markdown: Option<String>,
    from: usize,
) -> Result<PageBody, WebError> {
    let (rev, path, read) = (&page.rev, &page.path, &page.content);
    let (is_rendered, body) = match markdown {
        Some(markdown) => (true, FileBody::Markdown(markdown)),
        None => (false, body(read, path, from)?),
    };
    let window = match &body {
        FileBody::Text(window) => Some(window),
        _ => None,
    };
    let here = context.link(View::File, &rev.spelled, path);
    let window_link = |from| window_link(&here, path, from);
    let commit = rev.commit.as_str().as_bytes();
    let title = format!("{} · {}", name_text(path.as_bytes()), context.repo);
    let main = FileTemplate {
        head: RepoHead::new(context, Tab::Code, Some(rev), choices),
        crumbs: Crumbs::new(context, View::Tree, rev, path),
        size: read.entry.size.map_or_else(String::new, format_bytes),
        is_executable: read.entry.mode == EntryMode::Executable,
        target: read.entry.target.as_deref().map(name_html),
        source: is_rendered.then(|| format!("{here}?source=1")),
        raw: context.link(View::Raw, &rev.spelled, path),
        blame: read
            .content
            .as_ref()
            .filter(|content| !content.is_binary() && !content.data.is_empty())
            .map(|_| context.link(View::Blame, &rev.spelled, path)),
        history: context.link(View::Log, &rev.spelled, path),
        permalink: context.link(View::File, commit, path),
        earlier: window
            .filter(|window| window.from > 1)
            .map(|window| window_link(window.from.saturating_sub(MAX_WINDOW_LINES).max(1))),
        later: window
            .filter(|window| window.to < window.total)
            .map(|window| window_link(window.to + 1)),
        name: name_text(path.name()),
        body,
    };
    PageBody::html(title, &main)
}

fn body(read: &FileRead, path: &TreePath, from: usize) -> Result<FileBody, WebError> {
    let Some(content) = &read.content else {
        return Ok(match MediaType::of(path.name()) {
            Some(kind) if kind.is_picture() => FileBody::Picture,
            _ => FileBody::TooLarge,
        });
    };
    let is_picture = MediaType::of(path.name()).is_some_and(MediaType::is_picture);
    // A link's blob is its target, whatever the name says.
    if is_picture && read.entry.mode != EntryMode::Symlink {
        return Ok(FileBody::Picture);
    }
    if content.data.is_empty() && from == 1 {
        return Ok(FileBody::Empty);
    }
    if content.is_binary() {
        return Ok(FileBody::Binary(hex::dump(&content.data)));
    }
    let plain = HighlightedLines::default();
    TextWindow::new(
        &content.data,
        read.colours.as_deref().unwrap_or(&plain),
        from,
    )
    .map(FileBody::Text)
    .ok_or(WebError::NotFound)
}

fn as_json(
    context: &RepoContext,
    rev: &ResolvedRev,
    path: &TreePath,
    read: &FileRead,
    from: usize,
) -> Result<PageBody, WebError> {
    let text = read
        .content
        .as_ref()
        .filter(|content| !content.is_binary() && !content.data.is_empty());
    let all: Vec<&[u8]> = text.map_or_else(Vec::new, |content| lines(&content.data).collect());
    if from == 0 || (from > 1 && from > all.len()) {
        return Err(WebError::NotFound);
    }
    let mut shown = Vec::new();
    let mut bytes = 0;
    for line in all.iter().skip(from - 1).take(MAX_WINDOW_LINES) {
        let (text, _) = bounded_line(line);
        bytes += text.len();
        shown.push(text);
        if bytes >= MAX_WINDOW_BYTES {
            break;
        }
    }
    let to = from - 1 + shown.len();
    let here = context.link(View::File, &rev.spelled, path);
    let next = (to < all.len()).then(|| format!("{here}?from={}", to + 1));
    Ok(PageBody::json(&json!({
        "repo": context.repo,
        "commit": rev.commit,
        "path": name_text(path.as_bytes()),
        "mode": read.entry.mode.as_octal(),
        "id": read.entry.id,
        "size": read.entry.size,
        "target": read.entry.target.as_deref().map(name_text),
        "is_binary": read.content.as_ref().map(BlobContent::is_binary),
        "total_lines": text.map(|_| all.len()),
        "from": from,
        "lines": shown,
        "raw": context.link(View::Raw, &rev.spelled, path),
        "next": next,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_no_ends() {
        let of = |text: &'static str| lines(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(of("a\r\nb\n\n"), [&b"a"[..], b"b", b""]);
        assert_eq!(of("a"), [&b"a"[..]]);
        assert_eq!(of("\n"), [&b""[..]]);
    }

    #[test]
    fn a_line_has_an_address_in_its_window() {
        let link =
            |path: &str, line| line_link("/f", &TreePath::parse(path.as_bytes()).unwrap(), line);
        assert_eq!(link("a.rs", 5000), "/f#L5000");
        assert_eq!(link("a.rs", 5001), "/f?from=5001#L5001");
        assert_eq!(link("a.md", 2), "/f?source=1&from=1#L2");
    }

    #[test]
    fn a_file_of_many_lines_opens_in_windows() {
        let text: String = (1..=12_000).map(|n| format!("line {n}\n")).collect();
        let plain = HighlightedLines::default();
        let window = |from| TextWindow::new(text.as_bytes(), &plain, from);
        let first = window(1).unwrap();
        assert_eq!((first.from, first.to, first.total), (1, 5000, 12_000));
        let last = window(10_001).unwrap();
        assert_eq!((last.from, last.to), (10_001, 12_000));
        assert!(last.html.contains("id=\"L12000\""));
        assert!(window(12_001).is_none() && window(0).is_none());
        let wide = format!("{}\n", "x".repeat(100_000)).repeat(500);
        let bounded = TextWindow::new(wide.as_bytes(), &plain, 1).unwrap();
        assert!(bounded.has_cut_line && bounded.to < 500);
        assert!(bounded.html.len() < 2 * MAX_WINDOW_BYTES);
    }
}
