//! The first bytes of a binary file, as people read them.

use std::fmt::Write as _;

/// How many bytes are shown.
const SHOWN_BYTES: usize = 256;
const BYTES_A_LINE: usize = 16;

/// Lines of offset, bytes and printable characters.
pub(super) fn dump(data: &[u8]) -> String {
    let shown = &data[..data.len().min(SHOWN_BYTES)];
    let mut text = String::new();
    for (number, line) in shown.chunks(BYTES_A_LINE).enumerate() {
        let mut bytes = String::new();
        for byte in line {
            let _ = write!(bytes, "{byte:02x} ");
        }
        let printable: String = line
            .iter()
            .map(|b| {
                if (0x20..0x7f).contains(b) {
                    char::from(*b)
                } else {
                    '.'
                }
            })
            .collect();
        let offset = number * BYTES_A_LINE;
        let _ = writeln!(text, "{offset:04x}  {bytes:<48} {printable}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_offset_bytes_and_characters() {
        let text = dump(b"\x89PNG\r\n\x1a\n and more than that");
        insta::assert_snapshot!(text, @r"
        0000  89 50 4e 47 0d 0a 1a 0a 20 61 6e 64 20 6d 6f 72  .PNG.... and mor
        0010  65 20 74 68 61 6e 20 74 68 61 74                 e than that
        ");
        assert_eq!(dump(&[0; 1000]).lines().count(), 16);
    }
}
