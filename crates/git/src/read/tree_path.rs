//! A path inside a tree.

/// The longest path of an address.
const MAX_BYTES: usize = 4096;
/// The deepest path of an address.
const MAX_DEPTH: usize = 256;

/// A path inside a tree: no empty part, no NUL. The root is the empty path. Parts are any other bytes, since git allows
/// them; a path is compared with names of tree entries and never opened as a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// Parses bytes, `None` if they are no path. One slash at the end is ignored.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let is_path = bytes.len() <= MAX_BYTES
            && !bytes.contains(&0)
            && bytes.split(|b| *b == b'/').all(|part| !part.is_empty())
            && bytes.iter().filter(|b| **b == b'/').count() < MAX_DEPTH;
        is_path.then(|| Self(bytes.to_owned()))
    }

    /// The bytes, without a slash at either end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names on the way down.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// The last part; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.parts().last().unwrap_or_default()
    }

    /// The folder that it is in; the root is in itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Self(self.0[..end].to_owned())
    }

    /// The path of an entry of this folder.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_no_empty_parts_and_no_nul() {
        let parsed = |text: &[u8]| TreePath::parse(text);
        assert!(parsed(b"").unwrap().is_root());
        assert!(parsed(b"/").unwrap().is_root());
        assert_eq!(parsed(b"a/b/").unwrap().as_bytes(), b"a/b");
        let odd = parsed(b"-x/ #%\n\xff/..").unwrap();
        assert_eq!(odd.name(), b"..");
        assert_eq!(odd.parts().count(), 3);
        for bad in [&b"/a"[..], b"a//b", b"a//", b"a\0b"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        assert_eq!(parsed(&b"a/".repeat(300)), None);
        assert_eq!(parsed(&[b'a'; 5000]), None);
        assert_eq!(parsed(b"a/b/c").unwrap().parent().as_bytes(), b"a/b");
        assert!(parsed(b"a").unwrap().parent().is_root() && TreePath::default().parent().is_root());
        assert_eq!(TreePath::default().join(b"a").join(b"b").as_bytes(), b"a/b");
    }
}
