//! The log on the container's standard error: the lines of `init` and of its children, each with
//! a tag (`sshd  | …`).
//!
//! Nothing here ever blocks. While the log is not read, lines are kept in a fixed buffer; when it
//! is full, the output of the children is left in their pipes for a moment; after that, lines are
//! dropped and counted. A log that hangs must not hang the process that keeps the appliance alive.

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

const BUFFER_BYTES: usize = 16 * 1024;
/// A longer line of a child is split.
const MAX_LINE_BYTES: usize = 2048;
/// How long the output of the children stays in their pipes while the log is not read. After that it
/// is read and dropped.
const READER_TIMEOUT: Duration = Duration::from_secs(1);

/// Standard error, written without ever waiting.
#[derive(Debug)]
pub(super) struct StderrLog {
    target: OwnedFd,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    dropped: u64,
    blocked_since: Option<Instant>,
}

impl StderrLog {
    pub(super) fn open() -> io::Result<Self> {
        Self::on(io::stderr().as_fd().try_clone_to_owned()?)
    }

    /// Opens a pipe or terminal again: to make the descriptor itself non-blocking would also make it
    /// non-blocking for every process that shares it.
    fn on(target: OwnedFd) -> io::Result<Self> {
        let file = File::from(target);
        let kind = file.metadata()?.file_type();
        let mut target = OwnedFd::from(file);
        if kind.is_fifo() || kind.is_char_device() {
            let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
            if let Ok(reopened) = open(name.as_str(), flags, Mode::empty()) {
                target = reopened;
            }
        }
        Ok(Self {
            target,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            dropped: 0,
            blocked_since: None,
        })
    }

    /// Writes a line of `init`. One that is too long is truncated.
    pub(super) fn write(&mut self, text: fmt::Arguments<'_>) {
        let mut line = OutputLineBuffer {
            bytes: [0; MAX_LINE_BYTES],
            len: 0,
        };
        let _ = line.write_fmt(text);
        for part in line.bytes[..line.len].split(|&b| b == b'\n') {
            self.write_line("init", part);
        }
        self.flush();
    }

    /// Writes one line of the process `tag`; `text` has no line end.
    fn write_line(&mut self, tag: &str, text: &[u8]) {
        if self.dropped > 0 && self.start == self.end {
            let mut note = OutputLineBuffer {
                bytes: [0; MAX_LINE_BYTES],
                len: 0,
            };
            let _ = write!(
                note,
                "{} lines were dropped because this output was not read",
                std::mem::take(&mut self.dropped)
            );
            self.buffer_line("init", &note.bytes[..note.len]);
        }
        self.buffer_line(tag, text);
    }

    fn buffer_line(&mut self, tag: &str, text: &[u8]) {
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
        // Control characters of a child must not reach the terminal that shows the log.
        for byte in &mut self.buffer[self.end - 1 - text.len()..self.end - 1] {
            if byte.is_ascii_control() && *byte != b'\t' {
                *byte = b'?';
            }
        }
    }

    /// Writes as much as can be written without waiting.
    pub(super) fn flush(&mut self) {
        while self.start < self.end {
            let chunk = &self.buffer[self.start..self.end.min(self.start + 4096)];
            let written = if self.is_writable() {
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
                // This output has no reader any more.
                Err(_) => self.start = self.end,
            }
        }
        (self.start, self.end) = (0, 0);
        self.blocked_since = None;
    }

    fn is_writable(&self) -> bool {
        let mut fds = [PollFd::new(self.target.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// The descriptor to poll while there are buffered lines.
    pub(super) fn pending_fd(&self) -> Option<BorrowedFd<'_>> {
        (self.start < self.end).then(|| self.target.as_fd())
    }

    /// Until when the output of the children must be left in their pipes; `None` if there is room.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        let room = self.buffer.len() - (self.end - self.start) >= BUFFER_BYTES / 2;
        if room {
            None
        } else {
            self.blocked_since.map(|since| since + READER_TIMEOUT)
        }
    }
}

/// A line that is formatted without allocating.
struct OutputLineBuffer {
    bytes: [u8; MAX_LINE_BYTES],
    len: usize,
}

impl fmt::Write for OutputLineBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.len().min(MAX_LINE_BYTES - self.len);
        self.bytes[self.len..][..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Splits the output of a child into lines.
#[derive(Debug)]
pub(super) struct ChildOutput {
    tag: &'static str,
    bytes: Box<[u8; MAX_LINE_BYTES]>,
    len: usize,
}

impl ChildOutput {
    pub(super) fn new(tag: &'static str) -> Self {
        Self {
            tag,
            bytes: Box::new([0; MAX_LINE_BYTES]),
            len: 0,
        }
    }

    /// Reads what is available, up to a limit, so that one child cannot starve everything else.
    /// Lines that are not wanted are left out.
    pub(super) fn read(
        &mut self,
        from: BorrowedFd<'_>,
        log: &mut StderrLog,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) {
        for _ in 0..32 {
            match nix::unistd::read(from, &mut self.bytes[self.len..]) {
                Ok(0) => break,
                Ok(read) => self.write_lines(read, log, &is_wanted),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        log.flush();
    }

    fn write_lines(&mut self, read: usize, log: &mut StderrLog, is_wanted: &dyn Fn(&[u8]) -> bool) {
        self.len += read;
        let mut start = 0;
        while let Some(end) = self.bytes[start..self.len].iter().position(|&b| b == b'\n') {
            let line = &self.bytes[start..start + end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if is_wanted(line) {
                log.write_line(self.tag, line);
            }
            start += end + 1;
        }
        self.bytes.copy_within(start..self.len, 0);
        self.len -= start;
        if self.len == MAX_LINE_BYTES {
            self.flush_partial(log);
        }
    }

    /// Writes a line without an end: its writer has ended, or it is too long.
    pub(super) fn flush_partial(&mut self, log: &mut StderrLog) {
        if self.len > 0 {
            log.write_line(self.tag, &self.bytes[..self.len]);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn log_of(input: &[u8]) -> String {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        let mut log = StderrLog::on(write.into()).unwrap();
        let mut lines = ChildOutput::new("serve");
        std::io::Write::write_all(&mut writer, input).unwrap();
        drop(writer);
        lines.read(reader.as_fd(), &mut log, |_| true);
        lines.flush_partial(&mut log);
        log.flush();
        drop(log);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn every_line_is_tagged_and_sanitized() {
        assert_eq!(
            log_of(b"a\nb\r\n\nlast"),
            "serve | a\nserve | b\nserve | \nserve | last\n"
        );
        assert_eq!(log_of(b"\x1b[2Jx\ty\n"), "serve | ?[2Jx\ty\n");
        assert_eq!(log_of(b""), "");
    }

    #[test]
    fn a_long_line_is_split_and_loses_nothing() {
        let text = log_of("x".repeat(MAX_LINE_BYTES * 3 + 5).as_bytes());
        let pieces: Vec<_> = text
            .lines()
            .map(|line| line.strip_prefix("serve | ").unwrap().len())
            .collect();
        assert_eq!(pieces, [MAX_LINE_BYTES, MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
    }

    #[test]
    fn thousands_of_empty_lines_are_written() {
        let text = log_of(&b"\n".repeat(4000));
        assert_eq!(
            text.lines().filter(|line| *line == "serve | ").count(),
            4000
        );
    }

    #[test]
    fn a_log_that_is_not_read_loses_lines_but_never_blocks() {
        let (mut read, write) = io::pipe().unwrap();
        let mut log = StderrLog::on(write.into()).unwrap();
        let line = "y".repeat(1000);
        for _ in 0..200 {
            log.write(format_args!("{line}"));
        }
        assert!(log.paused_until().is_some() && log.pending_fd().is_some());
        let mut bytes = [0; 256 * 1024];
        let mut text = String::new();
        while log.pending_fd().is_some() {
            let n = read.read(&mut bytes).unwrap();
            text += std::str::from_utf8(&bytes[..n]).unwrap();
            log.flush();
        }
        log.write(format_args!("again"));
        drop(log);
        read.read_to_string(&mut text).unwrap();
        let arrived = text.matches(&line).count();
        assert!(
            text.ends_with(&format!(
                "init  | {} lines were dropped because this output was not read\ninit  | again\n",
                200 - arrived
            )),
            "{arrived}"
        );
        assert!(arrived > 50);
    }

    #[test]
    fn a_log_whose_reader_has_ended_is_ignored() {
        let (read, write) = io::pipe().unwrap();
        drop(read);
        let mut log = StderrLog::on(write.into()).unwrap();
        log.write(format_args!("x"));
        assert!(log.pending_fd().is_none());
    }
}
