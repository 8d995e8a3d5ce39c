//! The hunks of a text, as git writes them.

use std::io::{self, Write};
use std::ops::Range;

use super::super::file_diff::{ComputedDiff, HunkGroup};
use super::super::line_index::LineIndex;

/// Writes all hunks.
pub(super) fn write_hunks(computed: &ComputedDiff<'_>, out: &mut impl Write) -> io::Result<()> {
    for group in computed.groups() {
        write_group(computed, &group, out)?;
    }
    Ok(())
}

fn write_group(
    computed: &ComputedDiff<'_>,
    group: &HunkGroup,
    out: &mut impl Write,
) -> io::Result<()> {
    let (old, new) = (place(&group.old), place(&group.new));
    write!(out, "@@ -{old} +{new} @@")?;
    let enclosing = computed.enclosing(group.old.start);
    if !enclosing.is_empty() {
        out.write_all(b" ")?;
        out.write_all(enclosing)?;
    }
    out.write_all(b"\n")?;
    let mut at = group.old.start;
    for hunk in &group.hunks {
        write_lines(b" ", &computed.old, at..hunk.before.start, out)?;
        write_lines(b"-", &computed.old, hunk.before.clone(), out)?;
        write_lines(b"+", &computed.new, hunk.after.clone(), out)?;
        at = hunk.before.end;
    }
    write_lines(b" ", &computed.old, at..group.old.end, out)
}

/// The first line and the number of lines; the latter is left out if it is one.
fn place(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn write_lines(
    sign: &[u8],
    text: &LineIndex<'_>,
    lines: Range<u32>,
    out: &mut impl Write,
) -> io::Result<()> {
    for line in lines.filter_map(|number| text.line(number)) {
        out.write_all(sign)?;
        out.write_all(line)?;
        if !line.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
    }
    Ok(())
}
