//! Ids of objects in Git LFS, and the pointers that commits have in their place.

use std::fmt;
use std::str::FromStr;

/// No pointer is longer, in bytes: git-lfs reads no more of a file to find out whether it is one.
pub const MAX_POINTER: u64 = 1024;

/// The first line of a pointer, also of one that was written before the version had an address of its own.
const VERSIONS: [&str; 2] = [
    "version https://git-lfs.github.com/spec/v1",
    "version https://hawser.github.com/spec/v1",
];

/// The SHA-256 of an object, as 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LfsOid(String);

/// Not the id of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of an object is its SHA-256: 64 hexadecimal digits in lower case")]
pub struct LfsOidError;

impl FromStr for LfsOid {
    type Err = LfsOidError;

    fn from_str(text: &str) -> Result<Self, LfsOidError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LfsOidError)
        }
    }
}

impl LfsOid {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LfsOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a commit has in place of a file in Git LFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LfsPointer {
    pub oid: LfsOid,
    /// The size of the object in bytes.
    pub size: u64,
}

impl LfsPointer {
    /// Parses the whole content of a file. Returns `None` if it is not a pointer.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
        if content.len() as u64 > MAX_POINTER {
            return None;
        }
        let mut lines = std::str::from_utf8(content).ok()?.lines();
        if !VERSIONS.contains(&lines.next()?.trim_end()) {
            return None;
        }
        let (mut oid, mut size) = (None, None);
        for line in lines {
            match line.trim_end().split_once(' ') {
                Some(("oid", value)) => oid = Some(value.strip_prefix("sha256:")?.parse().ok()?),
                Some(("size", value)) => size = Some(value.parse().ok()?),
                // Extensions say what a filter on the client did.
                _ => {}
            }
        }
        Some(Self {
            oid: oid?,
            size: size?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    #[test]
    fn pointers() {
        let pointer = Some(LfsPointer {
            oid: OID.parse().unwrap(),
            size: 12345,
        });
        for text in [
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n"),
            format!("version https://hawser.github.com/spec/v1\noid sha256:{OID}\nsize 12345"),
            format!(
                "version https://git-lfs.github.com/spec/v1\r\noid sha256:{OID}\r\nsize 12345\r\n"
            ),
            format!(
                "version https://git-lfs.github.com/spec/v1\next-0-foo sha256:{OID}\noid sha256:{OID}\nsize 12345\n"
            ),
        ] {
            assert_eq!(LfsPointer::parse(text.as_bytes()), pointer, "{text}");
        }
    }

    #[test]
    fn other_files_are_no_pointers() {
        let version = VERSIONS[0];
        for text in [
            String::new(),
            "text\n".to_owned(),
            format!("{version}\n"),
            format!("{version}\noid sha256:{OID}\n"),
            format!("{version}\nsize 1\n"),
            format!("{version}\noid sha256:{}\nsize 1\n", OID.to_uppercase()),
            format!("{version}\noid sha256:../../{OID}\nsize 1\n"),
            format!("{version}\noid md5:{OID}\nsize 1\n"),
            format!("{version}\noid sha256:{OID}\nsize -1\n"),
            format!("oid sha256:{OID}\nsize 1\n{version}\n"),
            format!("{version}\noid sha256:{OID}\nsize 1\n{}", "x".repeat(1024)),
        ] {
            assert_eq!(LfsPointer::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(LfsPointer::parse(b"version \xff"), None);
    }
}
