//! What stands before and after the body of a page.

use askama::Template;

use super::error::WebError;
use super::layout::Layout;

/// Stands where the body does. Titles and names are escaped, so none of them holds it.
const BODY_MARK: &str = "<!--body-->";

#[derive(Template)]
#[template(path = "frame.html")]
struct FrameTemplate<'a> {
    layout: &'a Layout,
}

/// The two parts of a page that depend on who asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: String,
    pub(super) foot: String,
}

impl Frame {
    pub(super) fn of(layout: &Layout) -> Result<Self, WebError> {
        let page = FrameTemplate { layout }.render()?;
        let (head, foot) = page.split_once(BODY_MARK).unwrap_or((&page, ""));
        Ok(Self {
            head: head.to_owned(),
            foot: foot.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_surrounds_a_body_whatever_the_title_holds() {
        let frame = Frame::of(&Layout::sample("<!--body-->")).unwrap();
        assert!(
            frame.head.contains("<title>") && frame.head.trim_end().ends_with("<main id=\"main\">")
        );
        assert!(
            frame.foot.trim_start().starts_with("</main>"),
            "{}",
            frame.foot
        );
    }
}
