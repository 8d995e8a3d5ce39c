//! Revisions as they stand in addresses: `{rev}` or `{rev}/{path}`, where both may hold slashes.
//!
//! `HEAD`; a full id; the beginning of an id, of seven digits or more, if one commit has it; otherwise the branch, else the
//! tag, whose name is the longest in whole parts that the text begins with. `refs/…` is a full name always.

use std::collections::HashSet;

use gix::ObjectId as Id;
use gix::bstr::BStr;
use gix::prelude::FindExt as _;
use quire_types::names::ObjectId;

use super::error::ReadError;
use super::reader::{Reader, public_id};
use super::tree_path::TreePath;

/// The shortest beginning of an id that is looked up.
const MIN_PREFIX: usize = 7;
/// How many commits an ambiguous beginning names at most.
const MAX_CANDIDATES: usize = 100;
/// The longest name of a ref, in parts.
const MAX_REF_PARTS: usize = 32;
/// Refs that are quire's own.
const OWN_REFS: &[u8] = b"refs/quire/";

/// The part of an address that names a revision and a path in it, as decoded bytes. Where the one ends and the other begins
/// depends on which refs there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevPath(TreePath);

/// A revision that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedRev {
    /// The commit.
    pub commit: ObjectId,
    /// What an address calls it. Never ambiguous, whatever path follows.
    pub spelled: Vec<u8>,
    /// The full name of the ref, if it was named by one.
    pub ref_name: Option<Vec<u8>>,
    /// Whether it was named by the beginning of its id.
    pub is_abbreviated: bool,
}

impl ResolvedRev {
    /// Whether the revision is named by its id, so that it never means another commit.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.ref_name.is_none()
    }
}

impl RevPath {
    /// Parses decoded bytes, `None` if they cannot name anything.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let path = TreePath::parse(bytes)?;
        (!path.is_root()).then_some(Self(path))
    }

    /// Whether it has more than one part, so that it may name a path in a revision.
    #[must_use]
    pub fn has_several_parts(&self) -> bool {
        self.0.parts().nth(1).is_some()
    }

    /// Whether it may begin with an id or the beginning of one, also if a file extension follows it.
    #[must_use]
    pub fn may_be_id(&self) -> bool {
        let first = self.0.parts().next().unwrap_or_default();
        let digits = first.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits = digits.count();
        digits >= MIN_PREFIX && first.get(digits).is_none_or(|next| *next == b'.')
    }

    /// The object whose whole id this is.
    #[must_use]
    pub fn as_id(&self) -> Option<ObjectId> {
        str::from_utf8(self.0.as_bytes()).ok()?.parse().ok()
    }

    /// What stands before an ending, if there is one.
    #[must_use]
    pub fn strip_suffix(&self, end: &[u8]) -> Option<Self> {
        Self::parse(self.0.as_bytes().strip_suffix(end)?)
    }

    /// The first `count` parts and the path that the others are.
    fn split_at(&self, count: usize) -> Option<(&[u8], TreePath)> {
        let bytes = self.0.as_bytes();
        let end = bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at)
            .nth(count.checked_sub(1)?)
            .unwrap_or(bytes.len());
        let rest = bytes.get(end + 1..).unwrap_or_default();
        Some((&bytes[..end], TreePath::parse(rest)?))
    }
}

impl Reader {
    /// What a revision and a path mean now.
    pub fn resolve(&self, wanted: &RevPath) -> Result<(ResolvedRev, TreePath), ReadError> {
        let (first, rest) = wanted.split_at(1).ok_or(ReadError::NoRevision)?;
        if first == b"HEAD" {
            return Ok((self.head()?.ok_or(ReadError::NoRevision)?, rest));
        }
        if let Some((commit, is_abbreviated)) = self.by_id(first)? {
            let commit = public_id(commit)?;
            let rev = ResolvedRev {
                spelled: commit.as_str().as_bytes().to_owned(),
                commit,
                ref_name: None,
                is_abbreviated,
            };
            return Ok((rev, rest));
        }
        let parts = wanted.0.parts().count().min(MAX_REF_PARTS);
        for count in (1..=parts).rev() {
            let Some((name, path)) = wanted.split_at(count) else {
                continue;
            };
            if let Some(rev) = self.by_ref(name)? {
                return Ok((rev, path));
            }
        }
        Err(ReadError::NoRevision)
    }

    /// The commit that HEAD points to; `None` if its branch has no commits.
    pub fn head(&self) -> Result<Option<ResolvedRev>, ReadError> {
        let attempt = "read HEAD";
        let name = self
            .repo
            .head_name()
            .map_err(ReadError::damaged(attempt))?
            .map(|name| name.as_bstr().to_vec());
        let commit = match &name {
            Some(name) => self.commit_of_ref(name)?,
            None => match self.repo.head_id() {
                Ok(id) => self.peel_to_commit(id.detach())?,
                Err(_) => None,
            },
        };
        let Some(commit) = commit else {
            return Ok(None);
        };
        Ok(Some(ResolvedRev {
            commit: public_id(commit)?,
            spelled: b"HEAD".to_vec(),
            ref_name: Some(name.unwrap_or_else(|| b"HEAD".to_vec())),
            is_abbreviated: false,
        }))
    }

    fn by_id(&self, text: &[u8]) -> Result<Option<(Id, bool)>, ReadError> {
        let longest = self.repo.object_hash().len_in_hex();
        let is_hex = text.iter().all(u8::is_ascii_hexdigit);
        if !is_hex || !(MIN_PREFIX..=longest).contains(&text.len()) {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(text).to_ascii_lowercase();
        if text.len() == longest {
            let id = Id::from_hex(text.as_bytes()).map_err(|_| ReadError::NoRevision)?;
            return Ok(self.peel_to_commit(id)?.map(|id| (id, false)));
        }
        let Ok(prefix) = gix::hash::Prefix::from_hex(&text) else {
            return Ok(None);
        };
        let mut found = HashSet::new();
        self.repo
            .objects
            .lookup_prefix(prefix, Some(&mut found))
            .map_err(ReadError::damaged("look up the beginning of an id"))?;
        let mut commits = Vec::new();
        for id in found.into_iter().take(MAX_CANDIDATES * 10) {
            if self.is_commit(id) {
                commits.push(id);
            }
        }
        commits.sort();
        match commits.as_slice() {
            [] => Ok(None),
            [id] => Ok(Some((*id, true))),
            several => Err(ReadError::Ambiguous {
                prefix: text,
                candidates: several
                    .iter()
                    .take(MAX_CANDIDATES)
                    .map(public_id)
                    .collect::<Result<_, _>>()?,
            }),
        }
    }

    fn is_commit(&self, id: Id) -> bool {
        self.repo
            .find_header(id)
            .is_ok_and(|header| header.kind() == gix::object::Kind::Commit)
    }

    /// The branch of this name, else the tag; or the ref, if this is a full name.
    fn by_ref(&self, name: &[u8]) -> Result<Option<ResolvedRev>, ReadError> {
        let full_names = if name.starts_with(b"refs/") {
            vec![name.to_owned()]
        } else {
            [&b"refs/heads/"[..], b"refs/tags/"]
                .map(|kind| [kind, name].concat())
                .to_vec()
        };
        for full in full_names {
            if full.starts_with(OWN_REFS) {
                continue;
            }
            if let Some(commit) = self.commit_of_ref(&full)? {
                return Ok(Some(ResolvedRev {
                    commit: public_id(commit)?,
                    spelled: self.spelling(&full),
                    ref_name: Some(full),
                    is_abbreviated: false,
                }));
            }
        }
        Ok(None)
    }

    /// What addresses call a ref: its short name, unless that could mean another revision.
    #[must_use]
    pub fn spelling(&self, full: &[u8]) -> Vec<u8> {
        spelling(full, |other| self.is_taken(other))
    }

    /// Whether there is a ref of this name, or one that begins with it and a slash.
    fn is_taken(&self, full: &[u8]) -> bool {
        if matches!(self.find_ref(full), Ok(Some(_))) {
            return true;
        }
        let below = [full, b"/"].concat();
        let Ok(refs) = self.repo.references() else {
            return false;
        };
        refs.prefixed(BStr::new(&below))
            .is_ok_and(|mut refs| refs.next().is_some())
    }

    pub(super) fn find_ref(&self, full: &[u8]) -> Result<Option<gix::Reference<'_>>, ReadError> {
        let name: Result<&gix::refs::FullNameRef, _> = BStr::new(full).try_into();
        let Ok(name) = name else {
            return Ok(None);
        };
        // A folder stands where a longer name is a ref, and gix reports that as an error.
        let found = self.repo.try_find_reference(name).ok().flatten();
        Ok(found.filter(|found| found.name().as_bstr() == full))
    }

    fn commit_of_ref(&self, full: &[u8]) -> Result<Option<Id>, ReadError> {
        let Some(mut found) = self.find_ref(full)? else {
            return Ok(None);
        };
        match found.peel_to_id() {
            Ok(id) => self.peel_to_commit(id.detach()),
            Err(_) => Ok(None),
        }
    }

    /// The commit that an object is, or that a tag points to; `None` for others, and for what does not exist.
    pub(super) fn peel_to_commit(&self, mut id: Id) -> Result<Option<Id>, ReadError> {
        // Tags of tags are rare, and may be nested without end.
        for _ in 0..8 {
            let Ok(header) = self.repo.find_header(id) else {
                return Ok(None);
            };
            match header.kind() {
                gix::object::Kind::Commit => return Ok(Some(id)),
                gix::object::Kind::Tag => {
                    let mut buffer = Vec::new();
                    let Ok(tag) = self.repo.objects.find_tag_iter(&id, &mut buffer) else {
                        return Ok(None);
                    };
                    let Ok(target) = tag.target_id() else {
                        return Ok(None);
                    };
                    id = target;
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// What addresses call a ref: its short name, unless it looks like another revision, or `is_taken` says of a full name that
/// there is a ref of that name or below it.
pub(super) fn spelling(full: &[u8], is_taken: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let of_kind = |kind: &[u8], other: &[u8]| {
        let short = full.strip_prefix(kind)?;
        let first = short.split(|b| *b == b'/').next()?;
        let looks_like_id = first.len() >= MIN_PREFIX && first.iter().all(u8::is_ascii_hexdigit);
        let means_another = first == b"HEAD"
            || first == b"refs"
            || looks_like_id
            || is_taken(&[other, short].concat());
        (!means_another).then(|| short.to_owned())
    };
    of_kind(b"refs/heads/", b"refs/tags/")
        .or_else(|| of_kind(b"refs/tags/", b"refs/heads/"))
        .unwrap_or_else(|| full.to_owned())
}
