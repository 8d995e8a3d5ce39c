//! The refs of a remote, as `git ls-remote` lists them.

use std::collections::BTreeMap;

use super::default_branch::preferred_branch;
use super::object_format::ObjectFormat;
use quire_types::names::{ObjectId, RefName};

/// The name of the default branch's name.
const HEAD: &str = "HEAD";

/// All refs of a remote at one moment, except those whose names are not supported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteRefs {
    /// Each ref with the object that it refers to, by name.
    pub refs: Vec<(RefName, ObjectId)>,
    /// The branch that `HEAD` names.
    head: Option<RefName>,
    /// What `HEAD` refers to.
    head_id: Option<ObjectId>,
}

/// Refs that are neither branches nor tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRefs {
    /// What their names begin with, such as `refs/pull`.
    pub folder: String,
    pub count: usize,
}

impl RemoteRefs {
    /// The branches and tags.
    pub fn branches_and_tags(&self) -> impl Iterator<Item = &(RefName, ObjectId)> {
        self.refs.iter().filter(|(name, _)| is_fetched(name))
    }

    /// What is neither a branch nor a tag.
    #[must_use]
    pub fn others(&self) -> Vec<OtherRefs> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for (name, _) in self.refs.iter().filter(|(name, _)| !is_fetched(name)) {
            let name = name.as_str();
            let rest = name.strip_prefix("refs/").unwrap_or(name);
            let end = rest.find('/').map_or(name.len(), |at| "refs/".len() + at);
            *counts.entry(&name[..end]).or_default() += 1;
        }
        let other = |(folder, count): (&str, usize)| OtherRefs {
            folder: folder.to_owned(),
            count,
        };
        counts.into_iter().map(other).collect()
    }

    /// The format of the ids. A remote without refs says none.
    #[must_use]
    pub fn format(&self) -> ObjectFormat {
        let ids = self.refs.iter().map(|(_, id)| id);
        let first = ids.chain(&self.head_id).next();
        first.map_or(ObjectFormat::Sha1, ObjectFormat::of)
    }

    /// The default branch: what `HEAD` names, or a branch at the commit to which it refers; else `main`, `master` or the first.
    #[must_use]
    pub fn default_branch(&self) -> Option<&RefName> {
        let branches = || self.refs.iter().filter(|(name, _)| name.branch().is_some());
        let named = branches().find(|(name, _)| Some(name) == self.head.as_ref());
        if let Some((name, _)) = named {
            return Some(name);
        }
        let at_head = branches().filter(|(_, id)| Some(id) == self.head_id.as_ref());
        let at_head: Vec<&RefName> = at_head.map(|(name, _)| name).collect();
        let all: Vec<&RefName> = branches().map(|(name, _)| name).collect();
        preferred_branch(&at_head).or_else(|| preferred_branch(&all))
    }
}

/// Whether a ref of a remote is fetched.
#[must_use]
pub fn is_fetched(name: &RefName) -> bool {
    name.branch().is_some() || name.tag().is_some()
}

/// Parses what `git ls-remote --symref` prints.
pub(super) fn parse_refs(output: &[u8]) -> RemoteRefs {
    let mut found = RemoteRefs::default();
    for line in output.split(|byte| *byte == b'\n') {
        let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
            continue;
        };
        let value = String::from_utf8_lossy(&line[..tab]);
        match (
            std::str::from_utf8(&line[tab + 1..]),
            value.strip_prefix("ref: "),
        ) {
            (Ok(HEAD), Some(branch)) => found.head = branch.parse().ok(),
            (Ok(HEAD), None) => found.head_id = value.parse().ok(),
            (Ok(name), None) => {
                // What a tag refers to is `NAME^{}`, which is no name.
                if let (Ok(name), Ok(id)) = (name.parse(), value.parse()) {
                    found.refs.push((name, id));
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refs(lines: &[(&str, &str)]) -> RemoteRefs {
        let line = |(value, name): &(&str, &str)| match *value {
            digit if digit.len() == 1 => format!("{}\t{name}\n", digit.repeat(40)),
            value => format!("{value}\t{name}\n"),
        };
        parse_refs(lines.iter().map(line).collect::<String>().as_bytes())
    }

    #[test]
    fn refs_of_a_remote_are_read() {
        let found = refs(&[
            ("ref: refs/heads/trunk", "HEAD"),
            ("1", "HEAD"),
            ("1", "refs/heads/trunk"),
            ("2", "refs/heads/../x"),
            ("3", "refs/tags/v1"),
            ("4", "refs/tags/v1^{}"),
            ("5", "refs/pull/1/head"),
            ("5", "refs/pull/1/merge"),
            ("6", "refs/stash"),
            ("nonsense", "refs/heads/y"),
        ]);
        let names: Vec<_> = found
            .branches_and_tags()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["refs/heads/trunk", "refs/tags/v1"]);
        let others: Vec<_> = found
            .others()
            .into_iter()
            .map(|o| (o.folder, o.count))
            .collect();
        assert_eq!(
            others,
            [("refs/pull".to_owned(), 2), ("refs/stash".to_owned(), 1)]
        );
        assert_eq!(found.default_branch().unwrap().short(), "trunk");
        assert_eq!(found.format(), ObjectFormat::Sha1);
    }

    #[test]
    fn a_default_branch_is_found() {
        let default = |lines: &[(&str, &str)]| {
            let found = refs(lines);
            found.default_branch().map(|name| name.short().to_owned())
        };
        let (a, main) = (("1", "refs/heads/a"), ("2", "refs/heads/main"));
        for (lines, expected) in [
            (
                vec![("ref: refs/heads/a", "HEAD"), ("1", "HEAD"), a, main],
                Some("a"),
            ),
            // It names a branch that does not exist.
            (vec![("ref: refs/heads/x", "HEAD"), a, main], Some("main")),
            // It is detached.
            (vec![("1", "HEAD"), a, main], Some("a")),
            (vec![("3", "HEAD"), a, main], Some("main")),
            (vec![a], Some("a")),
            (vec![("1", "refs/tags/v1")], None),
            (vec![], None),
        ] {
            assert_eq!(default(&lines).as_deref(), expected, "{lines:?}");
        }
    }
}
