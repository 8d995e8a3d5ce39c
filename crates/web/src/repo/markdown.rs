//! Markdown as HTML that runs nothing and loads nothing from elsewhere.
//!
//! CommonMark with tables, task lists, footnotes, strikethrough and alerts. HTML in it is left out. Links to files of the repository open
//! them at the same revision; a picture from elsewhere is a link to it. Only http, https and mailto links are kept.

use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, html};

use super::address::{View, encoded_bytes, link};
use super::source_text::marked;
use quire_git::read::{TreePath, is_binary};

/// The largest text that is rendered; a larger one is shown as it is.
const MAX_BYTES: usize = 256 << 10;
/// What ids of headings begin with, so that they are none of the page's own.
const ID_PREFIX: &str = "user-";

/// Where relative links begin.
pub(super) struct LinkBase<'a> {
    /// The path of the repository.
    pub(super) base: &'a str,
    /// What addresses call the revision.
    pub(super) rev: &'a [u8],
    /// The folder of the file.
    pub(super) folder: TreePath,
}

impl LinkBase<'_> {
    /// The address of a file that a relative link names; `None` if it leaves the repository.
    fn resolve(&self, view: View, target: &str) -> Option<String> {
        let (path, fragment) = match target.split_once('#') {
            Some((path, fragment)) => (path, Some(fragment)),
            None => (target, None),
        };
        let path = path.split('?').next().unwrap_or_default();
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
        let mut parts: Vec<&[u8]> = if decoded.starts_with(b"/") {
            Vec::new()
        } else {
            self.folder.parts().collect()
        };
        for part in decoded.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop()?;
                }
                part => parts.push(part),
            }
        }
        let path = TreePath::parse(&parts.join(&b'/'))?;
        let href = link(self.base, view, self.rev, &path);
        Some(match fragment {
            Some(fragment) => format!("{href}#{}", encoded_bytes(fragment.as_bytes())),
            None => href,
        })
    }

    /// Where a link of the text leads; `None` if it must lead nowhere.
    fn target(&self, url: &str) -> Option<String> {
        if let Some(anchor) = url.strip_prefix('#') {
            return Some(format!("#{ID_PREFIX}{anchor}"));
        }
        if is_elsewhere(url) {
            let scheme = url.split(':').next().unwrap_or_default();
            let is_allowed = ["http", "https", "mailto"]
                .iter()
                .any(|allowed| scheme.eq_ignore_ascii_case(allowed));
            return is_allowed.then(|| url.to_owned());
        }
        self.resolve(View::File, url)
    }
}

/// Whether an address begins with a scheme or names another host.
fn is_elsewhere(target: &str) -> bool {
    let start = target.split(['/', '?', '#']).next().unwrap_or_default();
    target.starts_with("//") || target.starts_with('\\') || start.contains(':')
}

/// Whether a file of this name is Markdown.
pub(super) fn is_markdown(name: &[u8]) -> bool {
    let end = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    name.contains(&b'.')
        && [&b"md"[..], b"markdown"]
            .iter()
            .any(|known| end.eq_ignore_ascii_case(known))
}

/// Renders a text; `None` if it is too large or binary.
pub(super) fn render(data: &[u8], links: &LinkBase<'_>) -> Option<String> {
    if data.len() > MAX_BYTES || is_binary(data) {
        return None;
    }
    let text = &*String::from_utf8_lossy(data);
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_GFM;
    let mut filter = Filter {
        links,
        events: Vec::new(),
        open: Vec::new(),
        heading: None,
    };
    for event in Parser::new_ext(text, options) {
        filter.event(event);
    }
    let mut rendered = String::with_capacity(text.len() * 2);
    html::push_html(&mut rendered, filter.events.into_iter());
    Some(with_tab_stops(&rendered))
}

/// What may be wider than the page can be scrolled by keys. The tags are of the renderer, since there is no HTML of the author.
fn with_tab_stops(rendered: &str) -> String {
    rendered
        .replace("<pre>", "<pre tabindex=\"0\">")
        .replace("<table>", "<table tabindex=\"0\">")
}

/// What became of a link or picture that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenLink {
    Link,
    Picture,
    /// Its text stays, without a link.
    Nothing,
}

struct Filter<'a, 'text> {
    links: &'a LinkBase<'a>,
    events: Vec<Event<'text>>,
    open: Vec<OpenLink>,
    /// Where the event of the open heading is, and its text.
    heading: Option<(usize, String)>,
}

impl<'text> Filter<'_, 'text> {
    fn event(&mut self, event: Event<'text>) {
        match event {
            // HTML of the author is left out.
            Event::Html(_)
            | Event::InlineHtml(_)
            | Event::Start(Tag::HtmlBlock)
            | Event::End(TagEnd::HtmlBlock) => {}
            Event::Start(tag) => self.start(tag),
            Event::End(TagEnd::Link | TagEnd::Image) => self.end_link(),
            Event::End(TagEnd::Heading(level)) => {
                self.name_heading();
                self.events.push(Event::End(TagEnd::Heading(level)));
            }
            Event::Text(text) => {
                if let Some((_, heading)) = &mut self.heading {
                    heading.push_str(&text);
                }
                let shown = marked(&text);
                self.events.push(if shown.has_hidden {
                    Event::InlineHtml(shown.html.into())
                } else {
                    Event::Text(text)
                });
            }
            Event::Code(text) => {
                if let Some((_, heading)) = &mut self.heading {
                    heading.push_str(&text);
                }
                let html = format!("<code>{}</code>", marked(&text).html);
                self.events.push(Event::InlineHtml(html.into()));
            }
            Event::TaskListMarker(is_done) => {
                let (checked, label) = if is_done {
                    (" checked", "done")
                } else {
                    ("", "not done")
                };
                let html =
                    format!(r#"<input type="checkbox" disabled{checked} aria-label="{label}">"#)
                        + "\n";
                self.events.push(Event::InlineHtml(html.into()));
            }
            other => self.events.push(other),
        }
    }

    fn start(&mut self, tag: Tag<'text>) {
        match tag {
            Tag::Link {
                dest_url, title, ..
            } => self.start_link(self.links.target(&dest_url), title),
            Tag::Image {
                dest_url, title, ..
            } if is_elsewhere(&dest_url) => {
                self.start_link(self.links.target(&dest_url), title);
            }
            Tag::Image {
                dest_url, title, ..
            } => match self.links.resolve(View::Raw, &dest_url) {
                Some(source) => {
                    self.open.push(OpenLink::Picture);
                    self.events.push(Event::Start(Tag::Image {
                        link_type: LinkType::Inline,
                        dest_url: source.into(),
                        title,
                        id: CowStr::Borrowed(""),
                    }));
                }
                None => self.open.push(OpenLink::Nothing),
            },
            // The policy of the page has no styles in attributes, which alignment would be.
            Tag::Table(columns) => {
                let columns = vec![pulldown_cmark::Alignment::None; columns.len()];
                self.events.push(Event::Start(Tag::Table(columns)));
            }
            Tag::Heading { level, .. } => {
                self.heading = Some((self.events.len(), String::new()));
                self.events.push(Event::Start(Tag::Heading {
                    level,
                    id: None,
                    classes: Vec::new(),
                    attrs: Vec::new(),
                }));
            }
            other => self.events.push(Event::Start(other)),
        }
    }

    fn start_link(&mut self, target: Option<String>, title: CowStr<'text>) {
        // A picture in a link is text of the link.
        let Some(target) = target.filter(|_| !self.open.contains(&OpenLink::Link)) else {
            self.open.push(OpenLink::Nothing);
            return;
        };
        self.open.push(OpenLink::Link);
        self.events.push(Event::Start(Tag::Link {
            link_type: LinkType::Inline,
            dest_url: target.into(),
            title,
            id: CowStr::Borrowed(""),
        }));
    }

    fn end_link(&mut self) {
        match self.open.pop() {
            Some(OpenLink::Link) => self.events.push(Event::End(TagEnd::Link)),
            Some(OpenLink::Picture) => self.events.push(Event::End(TagEnd::Image)),
            Some(OpenLink::Nothing) | None => {}
        }
    }

    /// Gives the heading that ends the id that links to it have elsewhere.
    fn name_heading(&mut self) {
        let Some((at, text)) = self.heading.take() else {
            return;
        };
        if let Some(Event::Start(Tag::Heading { id, .. })) = self.events.get_mut(at) {
            *id = Some(format!("{ID_PREFIX}{}", slug(&text)).into());
        }
    }
}

/// Letters and digits in lower case, with hyphens for spaces.
fn slug(text: &str) -> String {
    text.trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let links = LinkBase {
            base: "/app",
            rev: b"main",
            folder: TreePath::parse(b"docs").unwrap_or_default(),
        };
        render(text.as_bytes(), &links).unwrap()
    }

    #[test]
    fn links_and_pictures_of_the_repository_open_there() {
        let text = "# A *big* title\n\n[a](guide.md#top) [b](../src/a%20b.rs) [c](/README.md) [d](#a-big-title)\n\
            [out](../../../x) ![p](pixel.png)\n\n| a | b |\n| :- | -: |\n| 1 | 2 |\n\n- [x] done\n\n> [!NOTE]\n> mind\n";
        insta::assert_snapshot!(rendered(text));
    }

    #[test]
    fn nothing_of_a_text_runs_or_is_fetched() {
        let text = "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[x](javascript:alert(1)) [y](JaVaScRiPt:alert)\n\
            [z](data:text/html,x) [v](vbscript:x) [s](//evil.example/x) [t](\\\\evil.example) <javascript:alert(1)>\n\
            ![remote](https://evil.example/p.png) [![badge](https://evil.example/b.svg)](https://ok.example) ![d](data:image/png;base64,xx)\n\
            a\u{202e}b `c\u{200b}d` [q](\"onmouseover=alert(1)) <b onclick=x>bold</b>\n\n```\"><script>\n<script>\n```\n\n\
            <iframe src=https://evil.example></iframe>\n";
        let html = rendered(text);
        let lower = html.to_lowercase();
        for bad in [
            "<script",
            "=\"javascript",
            "=\"vbscript",
            "=\"data",
            "onerror=\"",
            "<iframe",
            "onclick",
            "src=\"http",
            "src=\"//",
            "href=\"//",
            "\u{202e}",
        ] {
            assert!(!lower.contains(bad), "{bad}: {html}");
        }
        assert!(html.contains("href=\"https://evil.example/p.png\">remote</a>"));
        assert!(html.contains("<a href=\"https://ok.example\">badge</a>"));
        assert!(html.contains("U+202E") && html.contains("U+200B"));
    }

    #[test]
    fn markdown_is_known_by_its_name() {
        assert!(is_markdown(b"README.md") && is_markdown(b"x.MARKDOWN"));
        assert!(!is_markdown(b"md") && !is_markdown(b"x.mdx"));
    }
}
