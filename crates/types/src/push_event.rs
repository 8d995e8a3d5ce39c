//! The push event: what the hook spools, what intake records.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::names::{EventId, ObjectId, RefName, RepoName};

/// The largest spool file that is read, in bytes. A push of 10,000 long refs stays below it.
pub const MAX_EVENT_BYTES: u64 = 16 << 20;

/// How many of the refs that a push overwrites can be brought back.
pub const MAX_OVERWRITTEN: usize = 1000;

/// The refs that a push deletes.
pub fn deletions(refs: &[RefUpdate]) -> impl Iterator<Item = &RefUpdate> {
    refs.iter()
        .filter(|update| update.new_sha.is_zero() && !update.old_sha.is_zero())
}

/// The push option that makes no runs.
pub const SKIP_OPTION: &str = "ci.skip";

/// The push options that quire knows, with what they do.
pub const PUSH_OPTIONS: [(&str, &str); 5] = [
    (SKIP_OPTION, "start no run"),
    ("ci.wait", "follow the runs of the push to their ends"),
    (
        "ci.keep",
        "keep the container of a run that fails for a while",
    ),
    (
        "ci.job=NAME",
        "run only this job and the jobs that it waits for",
    ),
    (
        "ci.land=HOW",
        "of a push to refs/for-green: ff, rebase or merge, if the branch has moved",
    ),
];

/// What kind of event it is; the hook writes only pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// Git accepted a push.
    Push,
    /// quire found a ref that no event mentions (never in a spool file).
    Reconcile,
}

/// One ref that a push moved, as git told the hook: the all-zero id means "none".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The full ref name.
    #[serde(rename = "ref")]
    pub ref_name: RefName,
    /// Where it stood before.
    pub old_sha: ObjectId,
    /// Where it stands now.
    pub new_sha: ObjectId,
}

/// A push event: the content of one spool file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushEvent {
    /// Unique; recorded twice it counts once.
    pub id: EventId,
    /// Always `push`.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The repository.
    pub repo: RepoName,
    /// Name of the key that pushed, where known.
    pub pusher: Option<String>,
    /// When git accepted it (RFC 3339 in the file).
    #[serde(with = "rfc3339")]
    pub pushed_at: Millis,
    /// Push options, in order.
    #[serde(default)]
    pub options: Vec<String>,
    /// The refs, in git's order.
    pub refs: Vec<RefUpdate>,
}

mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Millis;

    pub(super) fn serialize<S: Serializer>(at: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Millis, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Millis(time.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_file_reads_as_specified() {
        let text = r#"{"id":"0197a1b2-0000-7000-8000-000000000001","type":"push","repo":"work/app","pusher":"laptop",
            "pushed_at":"2026-01-02T03:04:05.678Z","options":["ci.skip"],
            "refs":[{"ref":"refs/heads/main","old_sha":"0000000000000000000000000000000000000000","new_sha":"1111111111111111111111111111111111111111"}]}"#;
        let event: PushEvent = serde_json::from_str(text).unwrap();
        assert_eq!(event.pushed_at.to_string(), "2026-01-02T03:04:05.678Z");
        assert!(event.refs[0].old_sha.is_zero());
        let again: PushEvent =
            serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(again, event);
        assert!(serde_json::from_str::<PushEvent>(&text.replace("work/app", "../app")).is_err());
    }
}
