//! Names that come from outside, as types that exist only when valid.
//!
//! Every repository, ref, object, run and job name in quire is one of these, built by
//! parsing and by nothing else. Code that holds one need not check it again: a
//! [`RepoName`] stays inside the repository folder, an [`ObjectId`] is safe as an
//! argument, a [`JobName`] is a file name.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{NoContext, Timestamp, Uuid};

use crate::clock::{Clock, Millis};
use crate::sync::lock;
use crate::text::excerpt_name;

/// Why a name was refused; the text is a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository name.
    #[error("`{0}` is not a repository name: {1}")]
    Repo(String, &'static str),
    /// Not a full ref name as git allows it.
    #[error("`{0}` is not a ref name: {1}")]
    Ref(String, &'static str),
    /// Not a full hexadecimal object id.
    #[error("`{0}` is not an object id: 40 or 64 hexadecimal digits are expected")]
    Object(String),
    /// Not a UUID.
    #[error("`{0}` is not a run or event id")]
    Id(String),
    /// Not usable as a job's id.
    #[error("`{0}` is not a job id: {1}")]
    Job(String, &'static str),
}

/// A repository: `name` or `group/name`, without `.git`.
///
/// Letters, digits, `.`, `_` and `-`; no part starts with `.` or `-`, ends with `.lock`
/// or `.git`, or is longer than 100 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(String);

impl RepoName {
    /// The name as people write it, without `.git`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a part of it is the id of a run: then its runs' folders could be those of another
    /// repository's. No repository is made by such a name; one that is there keeps it.
    #[must_use]
    pub fn collides_with_run_id(&self) -> bool {
        self.0.split('/').any(|part| part.parse::<RunId>().is_ok())
    }
}

impl FromStr for RepoName {
    type Err = NameError;

    /// Accepts what people and git clients write: `foo`, `foo.git`, `/foo.git`, `work/foo/`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::Repo(excerpt_name(text), why));
        let name = text.strip_prefix('/').unwrap_or(text);
        let name = name.strip_suffix('/').unwrap_or(name);
        let name = name.strip_suffix(".git").unwrap_or(name);
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 {
            return refuse("it has at most one group, as in `group/name`");
        }
        for part in parts {
            if part.is_empty() {
                return refuse("a part of it is empty");
            }
            if part.len() > 100 {
                return refuse("a part of it is longer than 100 characters");
            }
            if part.contains("..") {
                return refuse("`..` is not allowed");
            }
            if part.starts_with(['.', '-']) {
                return refuse("a part of it starts with `.` or `-`");
            }
            if part.ends_with(".lock") || part.ends_with(".git") {
                return refuse("no part may end with `.lock` or `.git`");
            }
            if !part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            {
                return refuse("only letters, digits, `.`, `_` and `-` are allowed");
            }
        }
        Ok(Self(name.to_owned()))
    }
}

/// The folder of the refs of commits that wait to land: `refs/for-green/BRANCH/COMMIT`.
pub const LANDING_REFS: &str = "refs/for-green/";

/// A full ref name, such as `refs/heads/main`, by the rules of git-check-ref-format(1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(String);

impl RefName {
    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses what a user writes: the name of a branch, or the full name of any ref.
    pub fn from_user(text: &str) -> Result<Self, NameError> {
        if text.starts_with("refs/") {
            text.parse()
        } else {
            format!("refs/heads/{text}").parse()
        }
    }

    /// The branch's name, where this is a branch.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.0.strip_prefix("refs/heads/")
    }

    /// The tag's name, where this is a tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.0.strip_prefix("refs/tags/")
    }

    /// The name as people say it: without `refs/heads/` or `refs/tags/`; of a commit that waits to land, without the commit.
    #[must_use]
    pub fn short(&self) -> &str {
        let landing = || {
            let (pushed, commit) = self.0.rsplit_once('/')?;
            let is_commit = commit.parse::<ObjectId>().is_ok();
            let is_landing = is_commit && pushed.starts_with(LANDING_REFS);
            pushed.strip_prefix("refs/").filter(|_| is_landing)
        };
        let known = self.branch().or_else(|| self.tag()).or_else(landing);
        known.unwrap_or(&self.0)
    }
}

impl FromStr for RefName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::Ref(excerpt_name(text), why));
        if text.len() > 1024 {
            return refuse("it is longer than 1024 bytes");
        }
        if !text.starts_with("refs/") {
            return refuse("it does not start with `refs/`");
        }
        if text.ends_with('.') {
            return refuse("it ends with `.`");
        }
        if text.contains("..") || text.contains("@{") {
            return refuse("it contains `..` or `@{`");
        }
        if text
            .bytes()
            .any(|b| b < 0x20 || b == 0x7f || b" ~^:?*[\\".contains(&b))
        {
            return refuse("it contains a character that git does not allow");
        }
        for part in text.split('/') {
            if part.is_empty() || part.starts_with('.') || part.ends_with(".lock") {
                return refuse("a part of it is empty, starts with `.` or ends with `.lock`");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// The full id of a git object: SHA-1 (40 digits) or SHA-256 (64), lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(String);

impl ObjectId {
    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// Whether this is git's "no object": all zeros.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }
}

impl FromStr for ObjectId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Object(excerpt_name(text)))
        }
    }
}

/// The id of a job within its pipeline; also the name of a folder in the run's logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobName(String);

impl JobName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::Job(excerpt_name(text), why));
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > 128 {
            return refuse("it is longer than 128 bytes");
        }
        if text.contains('/') {
            return refuse("`/` is reserved for sources such as `quire/push`");
        }
        if text.starts_with(['.', '-']) {
            return refuse("it starts with `.` or `-`");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("it contains white space or a control character");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The id of a run: a UUIDv7. Runs sort by id in the order in which they were queued, whatever the clock did meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Uuid);

/// The id of an event (UUIDv7). A spooled event carries it, so that taking it twice is taking it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Uuid);

macro_rules! uuid_name {
    ($name:ident) => {
        impl $name {
            /// A new id, from the current time and randomness; after all that this process has made before.
            #[must_use]
            #[expect(
                clippy::new_without_default,
                reason = "two calls return different values"
            )]
            pub fn new() -> Self {
                Self(uuid_after(Uuid::nil(), Clock::system().now()))
            }

            /// A new id of this time, that sorts after `last` and after all that this process has made before.
            #[must_use]
            pub fn after(last: Option<Self>, now: Millis) -> Self {
                Self(uuid_after(last.map_or(Uuid::nil(), |last| last.0), now))
            }

            /// When it was made, in Unix milliseconds, by the clock of its creator; 0 if the id holds no time.
            #[must_use]
            pub fn made_at_ms(&self) -> i64 {
                let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |at| at.to_unix());
                i64::try_from(seconds * 1000 + u64::from(nanos / 1_000_000)).unwrap_or(i64::MAX)
            }

            /// The last eight digits: random ones, so they tell two ids of one second apart.
            #[must_use]
            pub fn short(&self) -> String {
                self.0.simple().to_string()[24..].to_owned()
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let id = Uuid::try_parse(text).map_err(|_| NameError::Id(excerpt_name(text)))?;
                // One spelling each: ids are compared and shortened as text.
                if id.hyphenated().to_string() == text {
                    Ok(Self(id))
                } else {
                    Err(NameError::Id(excerpt_name(text)))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_name!(RunId);
uuid_name!(EventId);

/// The last UUID that this process made.
static LAST: Mutex<Uuid> = Mutex::new(Uuid::nil());

/// A new UUIDv7 after this one and after all that this process has made.
fn uuid_after(floor: Uuid, now: Millis) -> Uuid {
    let mut last = lock(&LAST);
    *last = monotonic_uuid(floor.max(*last), now);
    *last
}

/// A new UUIDv7 of this time. Where that would not come after `floor` (the clock was set back, or it
/// is the same millisecond), its time is that one's and it counts on from there.
fn monotonic_uuid(floor: Uuid, now: Millis) -> Uuid {
    let millis = u64::try_from(now.0).unwrap_or(0);
    let nanos = u32::try_from(millis % 1000 * 1_000_000).unwrap_or(0);
    let fresh = Uuid::new_v7(Timestamp::from_unix(NoContext, millis / 1000, nanos));
    if fresh > floor {
        fresh
    } else {
        increment(floor, fresh)
    }
}

/// The UUIDv7 whose time and first random bits, taken for a number, are one more than those of `floor`; the rest is of `fresh`.
fn increment(floor: Uuid, fresh: Uuid) -> Uuid {
    let floor = floor.as_u128();
    let count = ((floor >> 80 << 12) | (floor >> 64 & 0xfff)) + 1;
    Uuid::from_u128(
        (count >> 12 << 80)
            | (7 << 76)
            | ((count & 0xfff) << 64)
            | u128::from(fresh.as_u64_pair().1),
    )
}

macro_rules! string_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

string_name!(RepoName, RefName, ObjectId, JobName);

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(RepoName, RefName, ObjectId, JobName, RunId, EventId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names() {
        for (text, name) in [
            ("foo", "foo"),
            ("foo.git", "foo"),
            ("/foo.git", "foo"),
            ("work/foo/", "work/foo"),
            ("a.b-c_d", "a.b-c_d"),
        ] {
            assert_eq!(
                text.parse::<RepoName>().map(|n| n.to_string()),
                Ok(name.to_owned())
            );
        }
        for text in [
            "",
            "/",
            ".git",
            "..",
            "a/../b",
            "../x",
            "a/b/c",
            "-x",
            ".x",
            "a b",
            "a\0b",
            "x.lock",
            "x.git/y",
            "x.git.git",
            "//x",
            "ä",
            "a/.x",
        ] {
            assert!(text.parse::<RepoName>().is_err(), "{text:?}");
        }
        assert!("x".repeat(101).parse::<RepoName>().is_err());
    }

    #[test]
    fn ref_names() {
        for text in [
            "refs/heads/main",
            "refs/tags/v1.0",
            "refs/heads/feature/#1-ü",
            "refs/heads/a'b\"c$d;e",
            "refs/notes/x",
        ] {
            assert!(text.parse::<RefName>().is_ok(), "{text:?}");
        }
        for text in [
            "main",
            "refs/heads/",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a@{1}",
            "refs/x\n",
        ] {
            assert!(text.parse::<RefName>().is_err(), "{text:?}");
        }
        let name: RefName = "refs/heads/a/b".parse().unwrap();
        assert_eq!(
            (name.branch(), name.tag(), name.short()),
            (Some("a/b"), None, "a/b")
        );
    }

    #[test]
    fn ids() {
        let id = RunId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(
            id.to_string().to_uppercase().parse::<RunId>().is_err()
                || !id.to_string().contains(|c: char| c.is_alphabetic())
        );
        assert!("0".repeat(40).parse::<ObjectId>().unwrap().is_zero());
        assert!("G".repeat(40).parse::<ObjectId>().is_err());
        assert!("--upload-pack=x".parse::<ObjectId>().is_err());
    }

    #[test]
    fn ids_go_on_in_order_whatever_the_clock_does() {
        const NOW: i64 = 1_750_000_000_000;
        const HOUR: i64 = 3_600_000;
        let mut last = monotonic_uuid(Uuid::nil(), Millis(NOW));
        assert_eq!(RunId(last).made_at_ms(), NOW);
        let mut tails = std::collections::HashSet::new();
        // Set back, far ahead, back again, before the beginning of time; and many of one millisecond.
        let jumps = [NOW - HOUR, NOW + 365 * 24 * HOUR, NOW, -1];
        for now in jumps.into_iter().chain(std::iter::repeat_n(NOW, 10_000)) {
            let id = monotonic_uuid(last, Millis(now));
            assert!(
                id > last
                    && id.get_version_num() == 7
                    && id.get_variant() == uuid::Variant::RFC4122,
                "{id} after {last}"
            );
            assert!(RunId(id).made_at_ms() >= now);
            tails.insert(RunId(id).short());
            last = id;
        }
        assert!(tails.len() > 10_000, "random to the end: {}", tails.len());
        assert_eq!(
            RunId(monotonic_uuid(last, Millis(NOW + 400 * 24 * HOUR))).made_at_ms(),
            NOW + 400 * 24 * HOUR,
            "of its own time again"
        );
        // In a process all are in one order, also after what another one made by another clock.
        let ids: Vec<RunId> = (0..100).map(|_| RunId::new()).collect();
        assert!(ids.is_sorted() && RunId::after(ids.last().copied(), Millis(0)) > ids[99]);
    }

    #[test]
    fn a_hostile_name_is_quoted_short_and_printable() {
        let error = format!("\u{1b}[2J{}", "x".repeat(1_000_000))
            .parse::<JobName>()
            .unwrap_err()
            .to_string();
        assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
    }
}
