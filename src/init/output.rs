//! What `init` and its children have to say, on the container's standard error: one tagged
//! line at a time (`sshd  | …`).
//!
//! Nothing here ever blocks: while nobody reads, lines are kept in a fixed buffer, then the
//! children are left to wait a moment, then lines are dropped and counted. A log that hangs
//! must not hang what keeps the appliance alive.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

const BUFFER: usize = 16 * 1024;
/// The longest piece of a child's line; a longer line comes in pieces.
const PIECE: usize = 2048;
/// How long the children's output waits for a reader before it is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// Standard error, written without ever waiting for it.
#[derive(Debug)]
pub(super) struct Output {
    target: OwnedFd,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    dropped: u64,
    blocked_since: Option<Instant>,
}

impl Output {
    /// Standard error of this process.
    pub(super) fn standard_error() -> io::Result<Self> {
        Self::to(io::stderr().as_fd().try_clone_to_owned()?)
    }

    /// Opens a pipe or terminal anew: to make the descriptor itself non-blocking would make it so for
    /// everyone who shares it.
    fn to(target: OwnedFd) -> io::Result<Self> {
        let file = File::from(target);
        let kind = file.metadata()?.file_type();
        let mut target = OwnedFd::from(file);
        if kind.is_fifo() || kind.is_char_device() {
            let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
            if let Ok(again) = open(name.as_str(), flags, Mode::empty()) {
                target = again;
            }
        }
        Ok(Self {
            target,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            dropped: 0,
            blocked_since: None,
        })
    }

    /// A line of `init`'s own, cut where it is too long.
    pub(super) fn say(&mut self, text: fmt::Arguments<'_>) {
        let mut line = Line {
            bytes: [0; PIECE],
            len: 0,
        };
        let _ = line.write_fmt(text);
        for part in line.bytes[..line.len].split(|&b| b == b'\n') {
            self.line("init", part);
        }
        self.flush();
    }

    /// One line (without its end) with its origin.
    fn line(&mut self, tag: &str, text: &[u8]) {
        if self.dropped > 0 && self.start == self.end {
            let mut note = Line {
                bytes: [0; PIECE],
                len: 0,
            };
            let _ = write!(
                note,
                "{} lines were dropped: nobody read this output",
                std::mem::take(&mut self.dropped)
            );
            self.put("init", &note.bytes[..note.len]);
        }
        self.put(tag, text);
    }

    fn put(&mut self, tag: &str, text: &[u8]) {
        let padding = &b"      "[..6usize.saturating_sub(tag.len())];
        let needed = tag.len() + padding.len() + text.len() + 3;
        if self.buffer.len() - self.end < needed {
            self.flush();
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < needed {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        for part in [tag.as_bytes(), padding, b"| ", text, b"\n"] {
            self.buffer[self.end..][..part.len()].copy_from_slice(part);
            self.end += part.len();
        }
        // A child's control characters are not for the terminal that shows the log.
        for byte in &mut self.buffer[self.end - 1 - text.len()..self.end - 1] {
            if byte.is_ascii_control() && *byte != b'\t' {
                *byte = b'?';
            }
        }
    }

    /// Writes what can be written now.
    pub(super) fn flush(&mut self) {
        while self.start < self.end {
            let chunk = &self.buffer[self.start..self.end.min(self.start + 4096)];
            let written = if self.writable() {
                nix::unistd::write(&self.target, chunk)
            } else {
                Err(Errno::EAGAIN)
            };
            match written {
                Ok(written) => {
                    self.start += written;
                    self.blocked_since = None;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return;
                }
                // The reader is gone for good; so is what it did not read.
                Err(_) => self.start = self.end,
            }
        }
        (self.start, self.end) = (0, 0);
        self.blocked_since = None;
    }

    fn writable(&self) -> bool {
        let mut fds = [PollFd::new(self.target.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// The descriptor to wait for while lines are pending.
    pub(super) fn pending(&self) -> Option<BorrowedFd<'_>> {
        (self.start < self.end).then(|| self.target.as_fd())
    }

    /// When to stop waiting for a reader, or nothing while there is room for children's lines.
    pub(super) fn full_until(&self) -> Option<Instant> {
        let room = self.buffer.len() - (self.end - self.start) >= BUFFER / 2;
        if room {
            None
        } else {
            self.blocked_since.map(|since| since + PATIENCE)
        }
    }
}

/// A line of `init`'s own, put together without allocating.
struct Line {
    bytes: [u8; PIECE],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.len().min(PIECE - self.len);
        self.bytes[self.len..][..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Makes lines of what a child writes.
#[derive(Debug)]
pub(super) struct Lines {
    tag: &'static str,
    bytes: Box<[u8; PIECE]>,
    len: usize,
}

impl Lines {
    pub(super) fn new(tag: &'static str) -> Self {
        Self {
            tag,
            bytes: Box::new([0; PIECE]),
            len: 0,
        }
    }

    /// Reads what is there, so much at most that the others get their turn.
    pub(super) fn read(&mut self, from: BorrowedFd<'_>, output: &mut Output) {
        for _ in 0..32 {
            match nix::unistd::read(from, &mut self.bytes[self.len..]) {
                Ok(0) => break,
                Ok(read) => self.take(read, output),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        output.flush();
    }

    fn take(&mut self, read: usize, output: &mut Output) {
        self.len += read;
        let mut start = 0;
        while let Some(end) = self.bytes[start..self.len].iter().position(|&b| b == b'\n') {
            let line = &self.bytes[start..start + end];
            output.line(self.tag, line.strip_suffix(b"\r").unwrap_or(line));
            start += end + 1;
        }
        self.bytes.copy_within(start..self.len, 0);
        self.len -= start;
        if self.len == PIECE {
            self.finish(output);
        }
    }

    /// Ends a line that has no end: its writer is gone, or it is too long.
    pub(super) fn finish(&mut self, output: &mut Output) {
        if self.len > 0 {
            output.line(self.tag, &self.bytes[..self.len]);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn through(input: &[u8]) -> String {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        let mut output = Output::to(write.into()).unwrap();
        let mut lines = Lines::new("serve");
        std::io::Write::write_all(&mut writer, input).unwrap();
        drop(writer);
        lines.read(reader.as_fd(), &mut output);
        lines.finish(&mut output);
        output.flush();
        drop(output);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn every_line_is_tagged_and_harmless() {
        assert_eq!(
            through(b"a\nb\r\n\nlast"),
            "serve | a\nserve | b\nserve | \nserve | last\n"
        );
        assert_eq!(through(b"\x1b[2Jx\ty\n"), "serve | ?[2Jx\ty\n");
        assert_eq!(through(b""), "");
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_loses_nothing() {
        let text = through("x".repeat(PIECE * 3 + 5).as_bytes());
        let pieces: Vec<_> = text
            .lines()
            .map(|line| line.strip_prefix("serve | ").unwrap().len())
            .collect();
        assert_eq!(pieces, [PIECE, PIECE, PIECE, 5]);
    }

    #[test]
    fn thousands_of_empty_lines_fit_through() {
        let text = through(&b"\n".repeat(4000));
        assert_eq!(
            text.lines().filter(|line| *line == "serve | ").count(),
            4000
        );
    }

    #[test]
    fn a_reader_that_hangs_costs_lines_but_no_time() {
        let (mut read, write) = io::pipe().unwrap();
        let mut output = Output::to(write.into()).unwrap();
        let line = "y".repeat(1000);
        for _ in 0..200 {
            output.say(format_args!("{line}"));
        }
        assert!(output.full_until().is_some() && output.pending().is_some());
        let mut bytes = [0; 256 * 1024];
        let mut text = String::new();
        while output.pending().is_some() {
            let n = read.read(&mut bytes).unwrap();
            text += std::str::from_utf8(&bytes[..n]).unwrap();
            output.flush();
        }
        output.say(format_args!("again"));
        drop(output);
        read.read_to_string(&mut text).unwrap();
        let arrived = text.matches(&line).count();
        assert!(
            text.ends_with(&format!(
                "init  | {} lines were dropped: nobody read this output\ninit  | again\n",
                200 - arrived
            )),
            "{arrived}"
        );
        assert!(arrived > 50);
    }

    #[test]
    fn a_reader_that_is_gone_does_not_matter() {
        let (read, write) = io::pipe().unwrap();
        drop(read);
        let mut output = Output::to(write.into()).unwrap();
        output.say(format_args!("x"));
        assert!(output.pending().is_none());
    }
}
