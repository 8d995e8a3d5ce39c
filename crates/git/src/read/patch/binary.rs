//! Files as `GIT binary patch`: compressed, and written with 85 digits.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Bytes of a line.
const LINE_BYTES: usize = 52;
const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Writes the whole content, as it is after the change or, for the way back, before it.
pub(super) fn write_literal(content: &[u8], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "literal {}", content.len())?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content)?;
    for line in encoder.finish()?.chunks(LINE_BYTES) {
        out.write_all(&encoded_line(line))?;
    }
    out.write_all(b"\n")
}

/// A letter for the number of bytes, and five digits for each four of them.
fn encoded_line(line: &[u8]) -> Vec<u8> {
    let count = u8::try_from(line.len()).unwrap_or(0);
    let letter = match count {
        0..=26 => b'A' + count.saturating_sub(1),
        _ => b'a' + (count - 27),
    };
    let mut text = vec![letter];
    for chunk in line.chunks(4) {
        let mut bytes = [0; 4];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let mut rest = u32::from_be_bytes(bytes);
        let mut digits = [0; 5];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest % 85) as usize];
            rest /= 85;
        }
        text.extend(digits);
    }
    text.push(b'\n');
    text
}
