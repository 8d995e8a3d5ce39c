//! Terminal output as HTML that can do nothing: colours become classes, every other escape
//! sequence is dropped, all text is escaped. `quire_types::ansi` takes it apart.
//!
//! The input is whatever a command printed. Nothing of it reaches the page but text and the
//! class names of [`Style`], which come from a fixed set.

use std::borrow::Cow;
use std::fmt::Write as _;

use quire_types::ansi::{Segment, after_carriage_return, segments};

/// How text looks: what the SGR sequences so far have switched on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    inverse: bool,
}

impl Style {
    /// Applies the parameters of one `ESC [ … m`.
    fn apply(&mut self, parameters: &str) {
        // `38:5:1` and `38;5;1` mean the same.
        let mut numbers = parameters.split([';', ':']).map(|p| {
            if p.is_empty() {
                Some(0)
            } else {
                p.parse::<u16>().ok()
            }
        });
        while let Some(number) = numbers.next() {
            match number {
                Some(0) => *self = Self::default(),
                Some(1) => self.bold = true,
                Some(2) => self.dim = true,
                Some(3) => self.italic = true,
                Some(4) => self.underline = true,
                Some(7) => self.inverse = true,
                Some(22) => (self.bold, self.dim) = (false, false),
                Some(23) => self.italic = false,
                Some(24) => self.underline = false,
                Some(27) => self.inverse = false,
                Some(n @ 30..=37) => self.foreground = Some((n - 30) as u8),
                Some(n @ 90..=97) => self.foreground = Some((n - 82) as u8),
                Some(n @ 40..=47) => self.background = Some((n - 40) as u8),
                Some(n @ 100..=107) => self.background = Some((n - 92) as u8),
                Some(38) => self.foreground = extended(&mut numbers).or(self.foreground),
                Some(48) => self.background = extended(&mut numbers).or(self.background),
                Some(39) => self.foreground = None,
                Some(49) => self.background = None,
                _ => {}
            }
        }
    }

    fn open(self, html: &mut String) -> bool {
        if self == Self::default() {
            return false;
        }
        html.push_str("<span class=\"");
        if let Some(colour) = self.foreground {
            let _ = write!(html, "f{colour} ");
        }
        if let Some(colour) = self.background {
            let _ = write!(html, "b{colour} ");
        }
        let flags = [
            (self.bold, "o "),
            (self.dim, "d "),
            (self.italic, "t "),
            (self.underline, "u "),
            (self.inverse, "v "),
        ];
        for (_, class) in flags.into_iter().filter(|(on, _)| *on) {
            html.push_str(class);
        }
        html.truncate(html.trim_end().len());
        html.push_str("\">");
        true
    }
}

/// Reads what follows `38` or `48`: a palette number or red, green, blue; both as one of 16.
fn extended(numbers: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    match numbers.next()?? {
        5 => Some(match numbers.next()?? {
            n @ 0..=15 => n as u8,
            n @ 16..=231 => {
                let n = n - 16;
                nearest(
                    [n / 36, (n / 6) % 6, n % 6]
                        .map(|level| if level == 0 { 0 } else { 55 + level * 40 }),
                )
            }
            n => nearest([(n.min(255) - 232) * 10 + 8; 3]),
        }),
        2 => Some(nearest([
            numbers.next()??,
            numbers.next()??,
            numbers.next()??,
        ])),
        _ => None,
    }
}

/// The nearest of the sixteen colours, which the style sheet makes readable in light and dark.
fn nearest([red, green, blue]: [u16; 3]) -> u8 {
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    if high.saturating_sub(low) < 48 {
        return match high {
            0..=63 => 0,
            64..=159 => 8,
            160..=223 => 7,
            _ => 15,
        };
    }
    let half = low + (high - low) / 2;
    let bits = u8::from(red > half) | u8::from(green > half) << 1 | u8::from(blue > half) << 2;
    if high > 200 { bits + 8 } else { bits }
}

/// A line of output as HTML.
pub(crate) struct Rendered {
    /// Escaped, with spans for the colours.
    pub(crate) html: String,
    /// The line overwrote its own beginning (carriage return).
    pub(crate) restarts: bool,
}

/// Renders one line; `style` goes on to the next one, as on a terminal.
pub(crate) fn render(bytes: &[u8], style: &mut Style) -> Rendered {
    let text = String::from_utf8_lossy(bytes);
    let (hidden, shown) = after_carriage_return(&text);
    // Colours of the overwritten part still count.
    for segment in segments(hidden) {
        if let Segment::Sgr(parameters) = segment {
            style.apply(parameters);
        }
    }
    let mut html = String::with_capacity(shown.len() + 16);
    for segment in segments(shown) {
        match segment {
            Segment::Sgr(parameters) => style.apply(parameters),
            Segment::Text(text) => {
                let opened = style.open(&mut html);
                html.push_str(&escaped(text));
                if opened {
                    html.push_str("</span>");
                }
            }
        }
    }
    Rendered {
        html,
        restarts: !hidden.is_empty(),
    }
}

/// Text made safe for HTML text and quoted attributes.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '>', '&', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        render(text.as_bytes(), &mut Style::default()).html
    }

    #[test]
    fn colours_become_classes() {
        assert_eq!(
            html("a\u{1b}[31mred\u{1b}[0mb"),
            "a<span class=\"f1\">red</span>b"
        );
        assert_eq!(
            html("\u{1b}[1;92;44mx"),
            "<span class=\"f10 b4 o\">x</span>"
        );
        assert_eq!(html("\u{1b}[38;5;196mx"), "<span class=\"f9\">x</span>");
        assert_eq!(html("\u{1b}[38;2;0;0;140mx"), "<span class=\"f4\">x</span>");
        assert_eq!(
            html("\u{1b}[38:5:3mx\u{1b}[mq"),
            "<span class=\"f3\">x</span>q"
        );
    }

    #[test]
    fn colours_go_on_to_the_next_line() {
        let mut style = Style::default();
        render(b"\x1b[32mok", &mut style);
        assert_eq!(
            render(b"still", &mut style).html,
            "<span class=\"f2\">still</span>"
        );
        assert_eq!(
            render(b"x\x1b[31m\rshown", &mut style).html,
            "<span class=\"f1\">shown</span>"
        );
    }

    #[test]
    fn nothing_of_the_input_becomes_markup() {
        assert_eq!(
            html("<script>alert('1')</script>&\""),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"
        );
        // `<` and `>` may stand within a sequence, which the first letter ends.
        assert_eq!(html("\u{1b}[31\"><b>m"), "&gt;m");
    }

    #[test]
    fn other_escapes_vanish() {
        assert_eq!(
            html("\u{1b}[2J\u{1b}[1;1Hx\u{1b}]0;title\u{7}y\u{1b}]8;;http://h\u{1b}\\z\u{1b}(B."),
            "xyz."
        );
        assert_eq!(html("a\u{8}\u{0}b\tc"), "ab\tc");
        for cut in [
            "\u{1b}",
            "\u{1b}[",
            "\u{1b}[38;5",
            "\u{1b}]0;x",
            "\u{1b}(",
            "\u{1b}[38;5m\u{1b}[38m\u{1b}[999999m",
        ] {
            assert_eq!(html(cut), "", "{cut:?}");
        }
    }

    #[test]
    fn a_carriage_return_overwrites() {
        let line = render(b"10%\r50%\r100%\r", &mut Style::default());
        assert_eq!((line.html.as_str(), line.restarts), ("100%", true));
        assert!(!render(b"windows\r", &mut Style::default()).restarts);
    }

    #[test]
    fn any_bytes_render() {
        let mut state = 1u32;
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"\x1b[]38;52mPX^_\\\r\x07(\xc3\xa4\xff<&"[(state >> 16) as usize % 22]
                })
                .collect();
            let html = render(&bytes, &mut Style::default()).html;
            assert!(!html.contains('\u{1b}') && !html.contains("<&"), "{html:?}");
        }
    }
}
