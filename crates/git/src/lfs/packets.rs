//! The packets of git's protocols (pkt-line): lines and data with a length, and the two packets that end a part.

use std::io::{self, BufRead, Read, Write};

use gix_packetline::PacketLineRef;
use gix_packetline::blocking_io::encode;
use gix_packetline::decode::{PacketLineOrWantedSize, hex_prefix};

/// How much data one packet holds at most.
pub const MAX_DATA: usize = 65516;

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Data(&'a [u8]),
    /// Separates the head of a request or an answer from its body.
    Delimiter,
    /// Ends a request or an answer.
    Flush,
}

/// Why no packet can be read.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    #[error("the other side sent something that is not a packet")]
    Malformed,
    /// In the middle of a packet, or of what they are part of.
    #[error("the connection ended in the middle of a message")]
    Ended,
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for PacketError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Ended,
            _ => Self::Io(error),
        }
    }
}

/// Reads packets, one at a time, into one buffer.
#[derive(Debug)]
pub struct PacketReader<R> {
    input: R,
    buffer: Vec<u8>,
}

impl<R: BufRead> PacketReader<R> {
    /// Reads from this input.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
        }
    }

    /// Whether the input has ended. Waits for input.
    ///
    /// # Errors
    /// The connection failed.
    pub fn has_ended(&mut self) -> Result<bool, PacketError> {
        Ok(self.input.fill_buf()?.is_empty())
    }

    /// The next packet.
    ///
    /// # Errors
    /// The input has ended, or is not a packet: where the next one begins is unknown then.
    pub fn read(&mut self) -> Result<Packet<'_>, PacketError> {
        let mut prefix = [0; 4];
        self.input.read_exact(&mut prefix)?;
        let size = match hex_prefix(&prefix) {
            // A packet without data, which the decoder rejects.
            _ if prefix == *b"0004" => 0,
            Ok(PacketLineOrWantedSize::Wanted(size)) => usize::from(size),
            Ok(PacketLineOrWantedSize::Line(PacketLineRef::Flush)) => return Ok(Packet::Flush),
            Ok(PacketLineOrWantedSize::Line(PacketLineRef::Delimiter)) => {
                return Ok(Packet::Delimiter);
            }
            Ok(PacketLineOrWantedSize::Line(_)) | Err(_) => return Err(PacketError::Malformed),
        };
        if size > MAX_DATA {
            return Err(PacketError::Malformed);
        }
        self.buffer.resize(size, 0);
        self.input.read_exact(&mut self.buffer)?;
        Ok(Packet::Data(&self.buffer))
    }
}

/// Writes packets.
#[derive(Debug)]
pub struct PacketWriter<W> {
    output: W,
}

impl<W: Write> PacketWriter<W> {
    /// Writes to this output.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// A line, which has to fit into a packet.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        encode::text_to_write(line.as_bytes(), &mut self.output).map(drop)
    }

    /// All data of a reader. Returns how many bytes there were.
    ///
    /// # Errors
    /// The reader cannot be read, or the output cannot be written.
    pub fn data(&mut self, mut from: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; MAX_DATA];
        let mut copied = 0;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(count) => {
                    encode::data_to_write(&buffer[..count], &mut self.output)?;
                    copied += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The end of the head of an answer that has a body.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn delimiter(&mut self) -> io::Result<()> {
        encode::delim_to_write(&mut self.output).map(drop)
    }

    /// The end of an answer: it is sent.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        encode::flush_to_write(&mut self.output)?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::new(&mut bytes);
        writer.line("status 200").unwrap();
        writer.delimiter().unwrap();
        let data = vec![b'x'; MAX_DATA + 1];
        assert_eq!(writer.data(&data[..]).unwrap(), MAX_DATA as u64 + 1);
        writer.flush().unwrap();
        let mut reader = PacketReader::new(&bytes[..]);
        assert_eq!(reader.read().unwrap(), Packet::Data(b"status 200\n"));
        assert_eq!(reader.read().unwrap(), Packet::Delimiter);
        assert_eq!(reader.read().unwrap(), Packet::Data(&data[1..]));
        assert_eq!(reader.read().unwrap(), Packet::Data(b"x"));
        assert_eq!(reader.read().unwrap(), Packet::Flush);
        assert!(reader.has_ended().unwrap());
    }

    #[test]
    fn what_is_no_packet() {
        for (bytes, error) in [
            (
                &b"zzzz"[..],
                "the other side sent something that is not a packet",
            ),
            (
                b"0003",
                "the other side sent something that is not a packet",
            ),
            (
                b"0002",
                "the other side sent something that is not a packet",
            ),
            (
                b"fff1",
                "the other side sent something that is not a packet",
            ),
            (b"00", "the connection ended in the middle of a message"),
            (b"0008ab", "the connection ended in the middle of a message"),
        ] {
            let found = PacketReader::new(bytes).read().unwrap_err();
            assert_eq!(found.to_string(), error, "{bytes:?}");
        }
        let mut reader = PacketReader::new(&b"0004"[..]);
        assert_eq!(reader.read().unwrap(), Packet::Data(b""));
    }
}
