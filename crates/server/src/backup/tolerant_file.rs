//! A file as an entry of an archive: its length is fixed when it is opened, even if the file grows or shrinks meanwhile.

use std::fs::File;
use std::io::{self, Read};

/// Reads exactly as many bytes as the file had when it was opened. What cannot be read, or was cut off meanwhile, is
/// read as zeros and remembered, so that the archive around it stays readable.
pub(super) struct TolerantFile {
    file: File,
    left: u64,
    error: Option<io::Error>,
}

impl TolerantFile {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self {
            file,
            left: length,
            error: None,
        }
    }

    /// Why a part of the file could not be read.
    pub(super) fn into_error(self) -> Option<io::Error> {
        self.error
    }
}

impl Read for TolerantFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..length];
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut read = 0;
        if self.error.is_none() {
            match self.file.read(buffer) {
                Ok(0) => self.error = Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => read = length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => self.error = Some(error),
            }
        }
        if read == 0 {
            buffer.fill(0);
            read = buffer.len();
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(content: &[u8], length: u64) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut reader = TolerantFile::new(file, length);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        (bytes, reader.into_error().map(|error| error.kind()))
    }

    #[test]
    fn the_length_is_that_of_the_opening() {
        assert_eq!(read(b"abc", 3), (b"abc".to_vec(), None));
        assert_eq!(read(b"abcdef", 3), (b"abc".to_vec(), None));
        assert_eq!(read(b"", 0), (Vec::new(), None));
        assert_eq!(
            read(b"a", 3),
            (b"a\0\0".to_vec(), Some(io::ErrorKind::UnexpectedEof))
        );
    }
}
