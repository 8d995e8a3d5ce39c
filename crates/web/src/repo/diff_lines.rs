//! The lines of a changed file as HTML: one below the other, or the old version beside the new one.

use super::source_text::{bounded_line, marked_bytes, marked_code};
use quire_git::read::{DiffLine, DiffLineKind, side_by_side};
use quire_highlight::{CodeToken, LineColours};

/// How the two versions of a file are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum DiffView {
    #[default]
    Unified,
    Split,
}

/// The side of a line that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

#[derive(Default)]
struct LineWriter<'a> {
    /// The colours of the lines.
    colours: &'a [Vec<CodeToken>],
    html: String,
    has_hidden: bool,
}

/// Lines of a difference as HTML, and whether they have hidden characters.
pub(super) fn lines_html(
    lines: &[DiffLine],
    colours: &LineColours,
    view: DiffView,
) -> (String, bool) {
    let mut writer = LineWriter {
        colours,
        ..LineWriter::default()
    };
    match view {
        DiffView::Unified => {
            for (at, line) in lines.iter().enumerate() {
                writer.line(at, line, Side::Both);
            }
        }
        DiffView::Split => writer.rows(lines),
    }
    (writer.html, writer.has_hidden)
}

/// The first lines of a file need no head.
fn is_needless(line: &DiffLine) -> bool {
    line.kind == DiffLineKind::Hunk && line.old <= Some(1) && line.text.is_empty()
}

impl LineWriter<'_> {
    fn rows(&mut self, lines: &[DiffLine]) {
        for (old, new) in side_by_side(lines) {
            let [old, new] = [old, new].map(|at| at.and_then(|at| Some((at, lines.get(at)?))));
            match (old, new) {
                (Some((at, line)), _) if line.kind == DiffLineKind::Hunk => {
                    self.line(at, line, Side::Both);
                }
                _ => {
                    self.html.push_str("<span class=\"dr\">");
                    self.cell(old, Side::Old);
                    self.cell(new, Side::New);
                    self.html.push_str("</span>");
                }
            }
        }
    }

    fn cell(&mut self, line: Option<(usize, &DiffLine)>, side: Side) {
        match line {
            Some((at, line)) => self.line(at, line, side),
            None => self.html.push_str("<span class=\"dl none\"></span>"),
        }
    }

    fn line(&mut self, at: usize, line: &DiffLine, side: Side) {
        if is_needless(line) {
            return;
        }
        let (class, sign) = match line.kind {
            DiffLineKind::Hunk => {
                let text = marked_bytes(&line.text);
                self.has_hidden |= text.has_hidden;
                self.html
                    .push_str(&format!("<span class=\"dl hunk\">{}</span>", text.html));
                return;
            }
            DiffLineKind::NoNewline => {
                let text = "<span class=\"dl end\">No newline at the end of the file.</span>";
                self.html.push_str(text);
                return;
            }
            DiffLineKind::Context if side == Side::New => ("dl same", " "),
            DiffLineKind::Context => ("dl", " "),
            DiffLineKind::Added => ("dl add", "+"),
            DiffLineKind::Removed => ("dl del", "-"),
        };
        let (text, end) = self.text(at, line);
        let number = |n: Option<u32>| n.map_or_else(String::new, |n| n.to_string());
        let old = line.old.filter(|_| side != Side::New);
        let new = line.new.filter(|_| side != Side::Old);
        self.html.push_str(&format!(
            "<span class=\"{class}\" data-o=\"{}\" data-n=\"{}\"><b>{sign}</b>{text}{end}</span>",
            number(old),
            number(new),
        ));
    }

    /// The text of a line with its marks, and what stands for the part that is too long.
    fn text(&mut self, at: usize, line: &DiffLine) -> (String, &'static str) {
        let (text, is_cut) = bounded_line(&line.text);
        // A carriage return ends lines of some files; it matters where it was added or removed.
        let text = match line.kind {
            DiffLineKind::Context => text.strip_suffix('\r').unwrap_or(&text),
            _ => &text,
        };
        // Only lines that are not cut, and are UTF-8, have marks.
        let tokens = self.colours.get(at).map_or(&[][..], Vec::as_slice);
        let marked = marked_code(text.as_bytes(), tokens, &line.marks);
        self.has_hidden |= marked.has_hidden;
        let end = if is_cut {
            "<i class=\"hidden-char\">…</i>"
        } else {
            ""
        };
        (marked.html, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: DiffLineKind, old: Option<u32>, new: Option<u32>, text: &str) -> DiffLine {
        DiffLine {
            kind,
            old,
            new,
            text: text.as_bytes().to_vec(),
            marks: Vec::new(),
        }
    }

    fn sample() -> Vec<DiffLine> {
        let mut removed = line(DiffLineKind::Removed, Some(2), None, "say(<one>)");
        removed.marks.push(4..9);
        let mut added = line(DiffLineKind::Added, None, Some(2), "say(two)");
        added.marks.push(4..7);
        vec![
            line(DiffLineKind::Hunk, Some(1), Some(1), ""),
            line(DiffLineKind::Context, Some(1), Some(1), "begin\r"),
            removed,
            line(DiffLineKind::Removed, Some(3), None, "end"),
            line(DiffLineKind::NoNewline, None, None, ""),
            added,
        ]
    }

    #[test]
    fn lines_stand_below_or_beside_each_other() {
        let shown = |view| {
            let (html, has_hidden) = lines_html(&sample(), &Vec::new(), view);
            assert!(!has_hidden);
            html.replace("</span>", "</span>\n")
        };
        insta::assert_snapshot!("diff_unified", shown(DiffView::Unified));
        insta::assert_snapshot!("diff_split", shown(DiffView::Split));
    }
}
