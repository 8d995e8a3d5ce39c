//! The child's end of the protocol: lines from standard input, lines to standard output.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::protocol::{FromDriver, MAX_LINE_BYTES, ToDriver};

/// What reading gave.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message.
    Message(Box<ToDriver>),
    /// Nothing yet; only where reading was not to block.
    Nothing,
    /// The other side is done with us.
    End,
}

/// Standard input as messages.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Up to here the buffer holds no line end.
    searched: usize,
}

impl<R: AsFd> Reader<R> {
    /// Reads from here.
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next message; waits for it only where `block` says so.
    ///
    /// # Errors
    /// Where reading fails, or what was read is not a message.
    pub(super) fn next(&mut self, block: bool) -> io::Result<Incoming> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let end = self.searched + at;
                let message =
                    serde_json::from_slice(&self.buffer[..end]).map_err(io::Error::other)?;
                self.buffer.drain(..=end);
                self.searched = 0;
                return Ok(Incoming::Message(Box::new(message)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("a line is too long"));
            }
            if !block && !self.is_readable()? {
                return Ok(Incoming::Nothing);
            }
            let mut chunk = [0; 64 << 10];
            match nix::unistd::read(&self.input, &mut chunk) {
                Ok(0) => return Ok(Incoming::End),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_readable(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::ZERO) {
            Ok(count) => Ok(count > 0),
            Err(nix::Error::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A message as one line, or nothing where it is longer than a line may be.
fn line(message: &FromDriver) -> io::Result<Option<Vec<u8>>> {
    let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok((line.len() <= MAX_LINE_BYTES).then_some(line))
}

/// Writes a message to standard output. `false` where it is too long for a line.
///
/// # Errors
/// Where writing fails: the other side is gone.
pub(super) fn say(message: &FromDriver) -> io::Result<bool> {
    let Some(line) = line(message)? else {
        return Ok(false);
    };
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_however_they_are_cut() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut reader = Reader::new(read);
        let text = b"{\"do\":\"secret-value\",\"call\":7,\"value\":{\"Ok\":\"x\"}}\n{\"do\":\"secret-value\",\"call\":8,\"value\":{\"Err\":\"no\"}}\nrubbish\n";
        assert!(matches!(reader.next(false).unwrap(), Incoming::Nothing));
        nix::unistd::write(&write, &text[..20]).unwrap();
        assert!(matches!(reader.next(false).unwrap(), Incoming::Nothing));
        nix::unistd::write(&write, &text[20..]).unwrap();
        drop(write);
        for call in [7, 8] {
            let Incoming::Message(message) = reader.next(true).unwrap() else {
                panic!("a message was sent")
            };
            assert!(matches!(*message, ToDriver::SecretValue { call: got, .. } if got == call));
        }
        assert!(reader.next(true).is_err());
    }

    #[test]
    fn an_end_without_a_line_end_is_the_end() {
        let (read, write) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&write, b"{").unwrap();
        drop(write);
        assert!(matches!(
            Reader::new(read).next(true).unwrap(),
            Incoming::End
        ));
    }
}
