//! Paths as git writes them into patches.

/// A path with the prefix that names its side, in quotes if a byte of it needs them.
pub(super) fn quoted(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let name = [prefix, path].concat();
    let needs_quotes = |b: &u8| !matches!(b, 0x20..=0x7e) || matches!(b, b'"' | b'\\');
    if !name.iter().any(needs_quotes) {
        return name;
    }
    let mut quoted = vec![b'"'];
    for byte in name {
        let letter = match byte {
            0x07 => b'a',
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0b => b'v',
            0x0c => b'f',
            b'\r' => b'r',
            b'"' | b'\\' => byte,
            0x20..=0x7e => {
                quoted.push(byte);
                continue;
            }
            _ => {
                quoted.extend(format!("\\{byte:03o}").bytes());
                continue;
            }
        };
        quoted.extend([b'\\', letter]);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_quotes_them() {
        let text = |path: &[u8]| String::from_utf8(quoted(b"a/", path)).unwrap();
        assert_eq!(text(b"a b-#%?&'<>"), "a/a b-#%?&'<>");
        assert_eq!(text(b"a\n\"\\\xff\x01"), r#""a/a\n\"\\\377\001""#);
    }
}
