//! The push event: what the hook spools, what intake records.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::names::{EventId, ObjectId, RefName, RepoName};
use crate::run::ExecutorKind;

/// The largest spool file that is read, in bytes. A push of 10,000 long refs stays below it.
pub const MAX_EVENT_BYTES: u64 = 16 << 20;

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

/// What the hook tells and asks over the event socket: one JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum SocketRequest {
    /// An event lies in the spool; answer with its runs once they are recorded.
    Taken {
        /// The event.
        event: EventId,
    },
    /// Rows changed behind `serve`'s back (a command over SSH wrote them): look again.
    Wake,
    /// Which caches are there? Only `serve` reaches the engine that has them.
    Caches {
        /// Only of this repository.
        repo: Option<RepoName>,
    },
    /// Remove caches. Those that a run has stay, and are an error.
    ClearCaches {
        /// Of this repository.
        repo: RepoName,
        /// Only this one.
        name: Option<String>,
    },
    /// Remove now what `:keep` does not ask for; answered when that is done.
    Housekeep,
    /// What is wrong with maintenance and schedules, by name?
    Findings,
}

/// The answer to a [`SocketRequest`]: one JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum SocketAnswer {
    /// The event is recorded; these are its runs.
    Runs {
        /// In the order of the refs.
        runs: Vec<AnsweredRun>,
        /// Sentences for the pusher: why a ref made no run, what looks wrong.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// These caches are there, or were removed.
    Caches {
        /// In order.
        caches: Vec<AnsweredCache>,
    },
    /// Heard.
    Ok,
    /// This is gone.
    Freed(Freed),
    /// This is wrong.
    Findings {
        /// In order.
        findings: Vec<Finding>,
    },
    /// Not done, with a sentence.
    Error {
        /// Why.
        message: String,
    },
}

/// One cache of a [`SocketAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredCache {
    /// The repository whose runs share it.
    pub repo: RepoName,
    /// Its name.
    pub name: String,
    /// What keeps it: docker or host.
    pub executor: ExecutorKind,
    /// What it takes, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// When a run last had it, where that is known.
    #[serde(default)]
    pub used_at_ms: Option<Millis>,
}

/// Something that is not as it should be, for whoever may know the names of repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The part of the appliance that it belongs to: `maintenance` or `schedules`.
    pub part: String,
    /// What it is, in a sentence.
    pub text: String,
}

/// One run of a [`SocketAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredRun {
    /// Its id.
    pub id: String,
    /// The ref it is of.
    pub ref_name: RefName,
    /// Its page.
    pub url: String,
}

/// What a round of housekeeping removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// Runs with all they had.
    pub runs: u64,
    /// Runs of which only the logs went.
    pub logs: u64,
    /// Runs of which only the artifacts went.
    pub artifacts: u64,
    /// Recorded pushes without runs.
    pub events: u64,
    /// Images that were built or pulled for runs.
    #[serde(default)]
    pub images: u64,
    /// Caches.
    #[serde(default)]
    pub caches: u64,
    /// Files and folders that belonged to nothing, and old copies of the database.
    pub leftovers: u64,
    /// Bytes of all these files and caches; of images nobody knows what they share.
    pub bytes: u64,
    /// What could not be done, a sentence each; it is tried again.
    pub problems: Vec<String>,
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
