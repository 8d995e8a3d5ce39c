//! Parsers of raw commits, tags and trees, as `git cat-file` prints them.

use super::pipeline_folder::{EntryKind, FolderEntry};
use quire_types::names::ObjectId;
use quire_types::token::hex;

/// What quire reads of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RawCommit {
    /// The id of its tree.
    pub(super) tree: String,
    pub(super) parents: Vec<ObjectId>,
    /// The text after the first empty line, without the newline at its end.
    pub(super) message: String,
    /// Whether it has a change id, of jj or of Gerrit.
    pub(super) has_change_id: bool,
}

/// Parses a raw commit; `None` if it names no tree.
pub(super) fn commit(raw: &[u8]) -> Option<RawCommit> {
    let mut commit = RawCommit::default();
    let mut encoding = None;
    for line in header_lines(raw) {
        if let Some(id) = line.strip_prefix(b"tree ") {
            commit.tree = String::from_utf8_lossy(id).into_owned();
        } else if let Some(id) = line.strip_prefix(b"parent ") {
            commit
                .parents
                .extend(std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()));
        } else if line.starts_with(b"change-id ") {
            commit.has_change_id = true;
        } else if let Some(label) = line.strip_prefix(b"encoding ") {
            encoding = encoding_rs::Encoding::for_label(label);
        }
    }
    let start = memchr::memmem::find(raw, b"\n\n").map_or(raw.len(), |at| at + 2);
    commit.message = decode(&raw[start..], encoding).trim_end().to_owned();
    commit.has_change_id |= commit.message.contains("\nChange-Id: I");
    (!commit.tree.is_empty()).then_some(commit)
}

/// Decodes a message. Git treats a commit without the header `encoding` as UTF-8. Many old ones are in Latin-1 all the
/// same, and bytes that are no UTF-8 are read as such.
fn decode(message: &[u8], encoding: Option<&'static encoding_rs::Encoding>) -> String {
    let encoding = match encoding {
        Some(encoding) => encoding,
        None if is_utf8_but_for_its_end(message) => encoding_rs::UTF_8,
        None => encoding_rs::WINDOWS_1252,
    };
    encoding.decode_without_bom_handling(message).0.into_owned()
}

/// Whether the bytes are UTF-8, apart from a character at the end that was truncated.
fn is_utf8_but_for_its_end(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// The id of the object that a raw tag points to, and its type.
pub(super) fn tag_target(raw: &[u8]) -> Option<(String, String)> {
    let value = |name: &[u8]| {
        header_lines(raw)
            .find_map(|line| line.strip_prefix(name))
            .map(|value| String::from_utf8_lossy(value).into_owned())
    };
    Some((value(b"object ")?, value(b"type ")?))
}

fn header_lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty())
}

/// The id of an entry is that of its object.
pub(super) type TreeEntry = FolderEntry<String>;

/// The entries of a raw tree: `MODE NAME\0` and the raw id. A truncated last one is dropped, and so are names that
/// are not UTF-8.
pub(super) fn tree_entries(tree: &[u8], id_bytes: usize) -> impl Iterator<Item = TreeEntry> {
    let mut rest = tree;
    std::iter::from_fn(move || next_entry(&mut rest, id_bytes)).flatten()
}

/// Returns the next entry, `Some(None)` if its name is not UTF-8, and `None` at the end.
fn next_entry(rest: &mut &[u8], id_bytes: usize) -> Option<Option<TreeEntry>> {
    let tree = *rest;
    let nul = memchr::memchr(0, tree)?;
    let space = memchr::memchr(b' ', &tree[..nul])?;
    let raw = tree.get(nul + 1..nul + 1 + id_bytes)?;
    *rest = &tree[nul + 1 + id_bytes..];
    let kind = match &tree[..space] {
        b"40000" | b"040000" => EntryKind::Folder,
        b"120000" => EntryKind::Link,
        b"160000" => EntryKind::Submodule,
        _ => EntryKind::File,
    };
    let entry = |name: &str| TreeEntry {
        name: name.to_owned(),
        id: hex(raw),
        kind,
    };
    Some(std::str::from_utf8(&tree[space + 1..nul]).ok().map(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_decoded_by_their_encoding() {
        let raw = |header: &str, message: &[u8]| {
            let mut raw = format!("tree {}\n{header}author a <a> 1 +0000\n\n", "1".repeat(40));
            raw.push('\n');
            let mut raw = raw.into_bytes();
            raw.pop();
            raw.extend_from_slice(message);
            commit(&raw).unwrap().message
        };
        assert_eq!(raw("encoding ISO-8859-1\n", b"gr\xfc\xdfe"), "grüße");
        assert_eq!(raw("encoding KOI8-R\n", b"\xd0\xd2\xc9"), "при");
        assert_eq!(raw("encoding EUC-JP\n", b"\xc6\xfc\xcb\xdc"), "日本");
        assert_eq!(raw("", "grüße".as_bytes()), "grüße");
        assert_eq!(raw("", b"gr\xfc\xdfe\n"), "grüße");
        assert_eq!(raw("encoding no-such-thing\n", "ü".as_bytes()), "ü");
    }

    #[test]
    fn a_tag_names_its_object_and_trees_end_where_they_are_cut() {
        let tag = b"object 0123\ntype commit\ntag v1\n\ntype blob\n";
        assert_eq!(tag_target(tag), Some(("0123".into(), "commit".into())));
        assert_eq!(tag_target(b"tag v1\n"), None);
        let mut tree = b"100644 a\0".to_vec();
        tree.extend([1; 20]);
        tree.extend(b"160000 \xff\0");
        tree.extend([2; 20]);
        tree.extend(b"40000 b\0");
        tree.extend([3; 20]);
        tree.extend(b"100644 cut\0xyz");
        let found: Vec<_> = tree_entries(&tree, 20).collect();
        let names: Vec<_> = found
            .iter()
            .map(|entry| (entry.name.as_str(), entry.kind))
            .collect();
        assert_eq!(names, [("a", EntryKind::File), ("b", EntryKind::Folder)]);
        assert_eq!(found[0].id, "01".repeat(20));
    }
}
