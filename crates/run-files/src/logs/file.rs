//! Reading one log file: from an offset on, the end of it, its bare text.
//!
//! Only whole lines are given out. What is not a line (a damaged place, the torn rest of a
//! crash, an offset in the middle of one) is passed over up to the next newline. Memory is
//! bounded whatever the file holds.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::line::{LogLine, MAX_LINE_BYTES, Parsed, Parser};

/// How much is read from a file at once.
const READ_BYTES: usize = 64 << 10;

/// What a line costs of a budget beside its text: about what it takes in memory.
const LINE_OVERHEAD: usize = 128;

/// Some lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// The lines, in the file's order; neither step nor job is set.
    pub lines: Vec<LogLine>,
    /// The offset of the first line given, or where reading ended if there is none.
    pub skipped_bytes: u64,
    /// The offset to go on from.
    pub next: u64,
    /// Whether there is more to read right now.
    pub more: bool,
}

/// Lines from an offset on, up to about `max_bytes` of memory but at least one. No file is no lines.
pub fn read_from(path: &Path, offset: u64, max_bytes: usize) -> io::Result<Slice> {
    match open(path)? {
        Some((file, length)) => slice(&file, offset, length, max_bytes),
        None => Ok(Slice::default()),
    }
}

/// The last lines: those that begin within the last `max_bytes` of the file. No file is no lines.
pub fn tail(path: &Path, max_bytes: usize) -> io::Result<Slice> {
    match open(path)? {
        Some((file, length)) => slice(
            &file,
            length.saturating_sub(max_bytes as u64),
            length,
            usize::MAX,
        ),
        None => Ok(Slice::default()),
    }
}

fn slice(file: &File, offset: u64, end: u64, budget: usize) -> io::Result<Slice> {
    let mut lines = Vec::new();
    let progress = Lines {
        file,
        end,
        ended: false,
    }
    .read(offset, budget, &mut |line| lines.push(owned(&line)))?;
    Ok(Slice {
        lines,
        skipped_bytes: progress.first.unwrap_or(progress.next),
        next: progress.next,
        more: progress.more,
    })
}

pub(super) fn owned(line: &Parsed<'_>) -> LogLine {
    LogLine {
        seq: None,
        job: None,
        time: line.time,
        stream: line.stream,
        partial: line.partial,
        text: line.text.to_vec(),
    }
}

/// Opens a log; `None` if there is no such file.
pub(super) fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let length = file.metadata()?.len();
            Ok(Some((file, length)))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io::Error::new(
            e.kind(),
            format!("cannot read the log {}: {e}", path.display()),
        )),
    }
}

/// The lines of an open file.
pub(super) struct Lines<'a> {
    pub(super) file: &'a File,
    /// Where the file ends, as far as this reading goes.
    pub(super) end: u64,
    /// Whether nothing is appended any more: a last line without newline is then given too.
    pub(super) ended: bool,
}

/// How far a reading got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Where the first line given begins.
    pub(super) first: Option<u64>,
    /// Where to go on.
    pub(super) next: u64,
    /// What of the budget was used.
    pub(super) spent: usize,
    /// Whether the budget ended it.
    pub(super) more: bool,
}

impl Lines<'_> {
    /// Passes the lines from `offset` on to `each`, until the budget is spent or no whole line is left.
    pub(super) fn read(
        &self,
        offset: u64,
        budget: usize,
        each: &mut dyn FnMut(Parsed<'_>),
    ) -> io::Result<Progress> {
        let mut progress = Progress {
            first: None,
            next: offset.min(self.end),
            spent: 0,
            more: false,
        };
        let mut parser = Parser::default();
        let mut buffer = vec![0; READ_BYTES.min(budget).saturating_add(MAX_LINE_BYTES + 1)];
        let mut aligned = progress.next == 0 || self.is_after_newline(progress.next)?;
        while progress.next < self.end {
            let length = self.fill(progress.next, &mut buffer)?;
            let mut rest = &buffer[..length];
            while let Some(newline) = memchr::memchr(b'\n', rest) {
                let line = &rest[..newline];
                match if aligned { parser.parse(line) } else { None } {
                    Some(parsed) => {
                        progress.first.get_or_insert(progress.next);
                        progress.spent = progress
                            .spent
                            .saturating_add(parsed.text.len() + LINE_OVERHEAD);
                        each(parsed);
                    }
                    None => progress.spent = progress.spent.saturating_add(line.len()),
                }
                aligned = true;
                progress.next += newline as u64 + 1;
                rest = &rest[newline + 1..];
                if progress.spent >= budget {
                    progress.more = progress.next < self.end;
                    return Ok(progress);
                }
            }
            let (at_end, left) = (progress.next + rest.len() as u64 >= self.end, rest.len());
            if at_end && self.ended {
                if let Some(parsed) = if aligned { parser.parse(rest) } else { None } {
                    progress.first.get_or_insert(progress.next);
                    each(parsed);
                }
                progress.next = self.end;
            } else if left >= MAX_LINE_BYTES || !aligned {
                // No line of ours: the rest of it is passed over, here or at the next reading.
                aligned = false;
                progress.next += left as u64;
                progress.spent = progress.spent.saturating_add(left);
                if progress.spent >= budget {
                    progress.more = progress.next < self.end;
                    return Ok(progress);
                }
            } else if at_end || length == left {
                break;
            }
        }
        Ok(progress)
    }

    fn is_after_newline(&self, offset: u64) -> io::Result<bool> {
        let mut byte = [0];
        Ok(self.file.read_at(&mut byte, offset - 1)? == 1 && byte == [b'\n'])
    }

    /// Reads until the buffer is full or the end is reached; a file that became shorter ends where it ends.
    fn fill(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted =
            usize::try_from(self.end - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
        let mut length = 0;
        while length < wanted {
            match self
                .file
                .read_at(&mut buffer[length..wanted], offset + length as u64)
            {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(length)
    }
}

/// The bare text of a log, as the commands wrote it, in chunks: what the file held when it was opened.
#[derive(Debug)]
pub struct TextChunks {
    file: Option<File>,
    next: u64,
    end: u64,
    ended: bool,
}

impl TextChunks {
    /// Opens a log; no file is no text. `ended` says that nothing is appended to it any more.
    pub fn open(path: &Path, ended: bool) -> io::Result<Self> {
        Ok(match open(path)? {
            Some((file, end)) => Self {
                file: Some(file),
                next: 0,
                end,
                ended,
            },
            None => Self {
                file: None,
                next: 0,
                end: 0,
                ended,
            },
        })
    }
}

impl Iterator for TextChunks {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let file = self.file.as_ref()?;
            let mut text = Vec::new();
            let result = Lines {
                file,
                end: self.end,
                ended: self.ended,
            }
            .read(self.next, READ_BYTES, &mut |line| {
                text.extend_from_slice(line.text);
                if !line.partial {
                    text.push(b'\n');
                }
            });
            match result {
                Ok(progress) => {
                    self.next = progress.next;
                    if !progress.more {
                        self.file = None;
                    }
                    if !text.is_empty() {
                        return Some(Ok(text));
                    }
                }
                Err(e) => {
                    self.file = None;
                    return Some(Err(e));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const HEAD: &str = "2026-01-02T03:04:05.678000000Z stdout F ";

    fn file(text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.log");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines
            .iter()
            .map(|line| std::str::from_utf8(&line.text).unwrap())
            .collect()
    }

    #[test]
    fn no_file_is_no_lines() {
        let path = Path::new("/nonexistent/1.log");
        assert_eq!(read_from(path, 5, 100).unwrap(), Slice::default());
        assert_eq!(tail(path, 100).unwrap(), Slice::default());
        assert_eq!(TextChunks::open(path, true).unwrap().count(), 0);
    }

    #[test]
    fn any_offset_gives_the_lines_that_begin_at_it_or_later() {
        let text = format!("{HEAD}one\n{HEAD}\n{HEAD}three\n");
        let (_folder, path) = file(text.as_bytes());
        let starts = [0, HEAD.len() + 4, 2 * HEAD.len() + 5];
        for offset in 0..text.len() + 5 {
            let expected: Vec<&str> = starts
                .iter()
                .zip(["one", "", "three"])
                .filter(|(start, _)| **start >= offset)
                .map(|(_, t)| t)
                .collect();
            let slice = read_from(&path, offset as u64, usize::MAX).unwrap();
            assert_eq!(
                (texts(&slice.lines), slice.next),
                (expected, text.len() as u64),
                "{offset}"
            );
        }
        assert_eq!(
            texts(&read_from(&path, u64::MAX, 1).unwrap().lines),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn damage_is_passed_over() {
        let mut text = format!("{HEAD}one\n").into_bytes();
        text.extend_from_slice(b"2026-01-02T03:0\n\n");
        text.extend_from_slice(&[0; 200_000]);
        text.extend_from_slice(format!("\n{HEAD}two\n").as_bytes());
        text.extend_from_slice(&vec![b'x'; 3 * MAX_LINE_BYTES]);
        let (_folder, path) = file(&text);
        for budget in [1, 1000, usize::MAX] {
            let mut all = Vec::new();
            let mut next = 0;
            loop {
                let slice = read_from(&path, next, budget).unwrap();
                all.extend(slice.lines);
                next = slice.next;
                if !slice.more {
                    break;
                }
            }
            assert_eq!((texts(&all), next), (vec!["one", "two"], text.len() as u64));
        }
        // What comes behind the damage, once its line has ended, is read.
        text.extend_from_slice(format!("x\n{HEAD}three\n").as_bytes());
        let next = read_from(&path, 0, usize::MAX).unwrap().next;
        std::fs::write(&path, &text).unwrap();
        assert_eq!(
            texts(&read_from(&path, next, usize::MAX).unwrap().lines),
            ["three"]
        );
    }

    #[test]
    fn the_tail_begins_with_a_whole_line() {
        let mut text = String::new();
        for n in 0..1000 {
            writeln!(text, "{HEAD}{n:04}").unwrap();
        }
        let line = HEAD.len() + 5;
        let (_folder, path) = file(format!("{text}{HEAD}torn").as_bytes());
        let tail = tail(&path, HEAD.len() + 4 + 10 * line + 7).unwrap();
        assert_eq!(
            texts(&tail.lines),
            [
                "0990", "0991", "0992", "0993", "0994", "0995", "0996", "0997", "0998", "0999"
            ]
        );
        assert_eq!(
            (tail.skipped_bytes, tail.next),
            (990 * line as u64, 1000 * line as u64)
        );
        assert_eq!(super::tail(&path, usize::MAX).unwrap().lines.len(), 1000);
    }

    #[test]
    fn bare_text() {
        let piece = HEAD.replace(" F ", " P ");
        let (_folder, path) =
            file(format!("{piece}ab\n{HEAD}c\u{1b}[1m\n{HEAD}\n{HEAD}torn").as_bytes());
        let text = |ended| {
            TextChunks::open(&path, ended)
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>()
                .concat()
        };
        assert_eq!(text(false), b"abc\x1b[1m\n\n");
        assert_eq!(text(true), b"abc\x1b[1m\n\ntorn\n");
    }

    #[test]
    fn bare_text_of_much() {
        let text: String =
            (0..20_000).fold(String::new(), |text, n| text + HEAD + &n.to_string() + "\n");
        let (_folder, path) = file(text.as_bytes());
        let bare = TextChunks::open(&path, true)
            .unwrap()
            .map(Result::unwrap)
            .collect::<Vec<_>>();
        assert!(bare.len() > 1 && bare.iter().all(|chunk| chunk.len() <= READ_BYTES));
        assert_eq!(bare.concat(), text.replace(HEAD, "").as_bytes());
    }
}
