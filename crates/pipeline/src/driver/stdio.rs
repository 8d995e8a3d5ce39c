//! The child's end of the protocol: reads messages from standard input and writes them to standard
//! output.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::protocol::{FromDriver, MAX_LINE_BYTES, ToDriver};

/// What [`MessageReader::next`] returns.
#[derive(Debug)]
pub(super) enum Received {
    Message(Box<ToDriver>),
    /// No complete message has arrived yet. Only if reading must not block.
    WouldBlock,
    /// The parent closed its end.
    Eof,
}

/// Standard input as messages.
#[derive(Debug)]
pub(super) struct MessageReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// The buffer has no line end before this index.
    searched: usize,
}

impl<R: AsFd> MessageReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// Reads the next message, and waits for it only if `block` is set.
    pub(super) fn next(&mut self, block: bool) -> io::Result<Received> {
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
                return Ok(Received::Message(Box::new(message)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("a line is too long"));
            }
            if !block && !self.is_readable()? {
                return Ok(Received::WouldBlock);
            }
            let mut chunk = [0; 64 << 10];
            match nix::unistd::read(&self.input, &mut chunk) {
                Ok(0) => return Ok(Received::Eof),
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

/// Encodes a message as one line. `None` if it is longer than [`MAX_LINE_BYTES`].
fn line(message: &FromDriver) -> io::Result<Option<Vec<u8>>> {
    let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok((line.len() <= MAX_LINE_BYTES).then_some(line))
}

/// Writes a message to standard output. Returns `false` if it is longer than [`MAX_LINE_BYTES`].
/// Fails if the parent is gone.
pub(super) fn write_message(message: &FromDriver) -> io::Result<bool> {
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
    fn messages_are_read_however_the_input_is_split() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut reader = MessageReader::new(read);
        let text = b"{\"do\":\"secret-value\",\"call\":7,\"value\":{\"Ok\":\"x\"}}\n{\"do\":\"secret-value\",\"call\":8,\"value\":{\"Err\":\"no\"}}\nrubbish\n";
        assert!(matches!(reader.next(false).unwrap(), Received::WouldBlock));
        nix::unistd::write(&write, &text[..20]).unwrap();
        assert!(matches!(reader.next(false).unwrap(), Received::WouldBlock));
        nix::unistd::write(&write, &text[20..]).unwrap();
        drop(write);
        for call in [7, 8] {
            let Received::Message(message) = reader.next(true).unwrap() else {
                panic!("a message was sent")
            };
            assert!(matches!(*message, ToDriver::SecretValue { call: got, .. } if got == call));
        }
        assert!(reader.next(true).is_err());
    }

    #[test]
    fn an_incomplete_last_line_is_the_end() {
        let (read, write) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&write, b"{").unwrap();
        drop(write);
        assert!(matches!(
            MessageReader::new(read).next(true).unwrap(),
            Received::Eof
        ));
    }
}
