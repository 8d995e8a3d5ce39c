//! Pushes as GitHub tells them, so that receivers of its webhooks can be used: the event `push`
//! (<https://docs.github.com/en/webhooks/webhook-events-and-payloads#push>), and `ping` for a test.
//!
//! What quire does not have, such as numbers of repositories and accounts of users, is left out. Nothing that GitHub does not have is
//! added. docs/json.md lists the fields.

use serde::Serialize;
use serde_json::{Value, json};

use super::http_target::HttpTarget;
use crate::notify::message::{Message, MessageEvent, PushReport};
use crate::notify::outgoing_request::OutgoingRequest;
use crate::notify::readers::{SecretReader, UrlReader, read_optional};
use crate::webhook_signature::hub_signature;
use quire_git::{CommitPerson, PushedCommit};
use quire_types::names::ObjectId;
use quire_types::secret::Redactor;

/// The owner of a repository that is in no folder: GitHub's have one.
const NO_OWNER: &str = "quire";

#[derive(Clone)]
pub struct GithubPushTarget {
    pub url: UrlReader,
    /// The secret of the signature.
    pub key: Option<SecretReader>,
}

impl HttpTarget for GithubPushTarget {
    fn check(&self) -> Result<(), String> {
        self.url.read()?;
        read_optional(self.key.as_ref()).map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let (event, payload) = match &message.event {
            MessageEvent::Pushed(report) => ("push", push_payload(report, &message.url)),
            MessageEvent::Test | MessageEvent::RunEnded(_) | MessageEvent::Health(_) => {
                ("ping", ping_payload())
            }
        };
        let body = redactor.redact_json(payload).to_string().into_bytes();
        let signature = read_optional(self.key.as_ref())?.map(|key| hub_signature(&key, &body));
        let mut request = OutgoingRequest::post(self.url.read()?, body)
            .header("x-github-event", event)?
            .header("x-github-delivery", &message.id)?;
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", &signature)?;
        }
        Ok(request)
    }
}

fn ping_payload() -> Value {
    json!({
        "zen": "A test of quire's notifications",
        "hook": {"type": "Repository", "active": true, "events": ["push"]},
    })
}

#[derive(Serialize)]
struct PushPayload<'a> {
    #[serde(rename = "ref")]
    ref_name: &'a str,
    before: String,
    after: String,
    base_ref: Option<&'a str>,
    created: bool,
    deleted: bool,
    forced: bool,
    compare: String,
    commits: Vec<CommitPayload<'a>>,
    head_commit: Option<CommitPayload<'a>>,
    repository: RepositoryPayload<'a>,
    pusher: PersonPayload<'a>,
    sender: SenderPayload<'a>,
}

#[derive(Serialize)]
struct CommitPayload<'a> {
    id: &'a str,
    tree_id: &'a str,
    distinct: bool,
    message: &'a str,
    timestamp: &'a str,
    url: String,
    author: PersonPayload<'a>,
    committer: PersonPayload<'a>,
    added: &'a [String],
    removed: &'a [String],
    modified: &'a [String],
}

#[derive(Serialize)]
struct PersonPayload<'a> {
    name: &'a str,
    email: &'a str,
}

#[derive(Serialize)]
struct RepositoryPayload<'a> {
    name: &'a str,
    full_name: String,
    owner: OwnerPayload<'a>,
    html_url: &'a str,
    url: &'a str,
    clone_url: String,
    ssh_url: &'a str,
    git_url: &'a str,
    default_branch: Option<&'a str>,
    master_branch: Option<&'a str>,
    fork: bool,
    /// Seconds.
    pushed_at: i64,
}

#[derive(Serialize)]
struct OwnerPayload<'a> {
    name: &'a str,
    login: &'a str,
}

#[derive(Serialize)]
struct SenderPayload<'a> {
    login: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// `url` is the page of the repository.
fn push_payload(report: &PushReport, url: &str) -> Value {
    let pushed = &report.pushed;
    let commit = |commit| commit_payload(commit, url);
    let pusher = pushed.pusher.as_deref().unwrap_or(NO_OWNER);
    let payload = PushPayload {
        ref_name: pushed.ref_name.as_str(),
        before: id_or_zeros(pushed.old_sha.as_ref(), pushed.new_sha.as_ref()),
        after: id_or_zeros(pushed.new_sha.as_ref(), pushed.old_sha.as_ref()),
        base_ref: None,
        created: pushed.old_sha.is_none(),
        deleted: pushed.new_sha.is_none(),
        forced: report.commits.forced,
        compare: compare_url(report, url),
        commits: report.commits.commits.iter().map(commit).collect(),
        head_commit: report.commits.head.as_ref().map(commit),
        repository: repository_payload(report, url),
        pusher: PersonPayload {
            name: pusher,
            email: "",
        },
        sender: SenderPayload {
            login: pusher,
            kind: "User",
        },
    };
    // Serializing fails only for maps whose keys are no texts, and there is none.
    serde_json::to_value(&payload).unwrap_or_default()
}

fn commit_payload<'a>(commit: &'a PushedCommit, url: &str) -> CommitPayload<'a> {
    fn person(person: &CommitPerson) -> PersonPayload<'_> {
        PersonPayload {
            name: &person.name,
            email: &person.email,
        }
    }
    CommitPayload {
        id: commit.id.as_str(),
        tree_id: &commit.tree,
        distinct: true,
        message: &commit.message,
        timestamp: &commit.time,
        url: format!("{url}/-/commit/{}", commit.id),
        author: person(&commit.author),
        committer: person(&commit.committer),
        added: &commit.files.added,
        removed: &commit.files.removed,
        modified: &commit.files.modified,
    }
}

fn repository_payload<'a>(report: &'a PushReport, url: &'a str) -> RepositoryPayload<'a> {
    let (owner, name) = report
        .pushed
        .repo
        .as_str()
        .rsplit_once('/')
        .unwrap_or((NO_OWNER, report.pushed.repo.as_str()));
    RepositoryPayload {
        name,
        full_name: format!("{owner}/{name}"),
        owner: OwnerPayload {
            name: owner,
            login: owner,
        },
        html_url: url,
        url,
        clone_url: format!("{url}.git"),
        ssh_url: &report.ssh_url,
        git_url: &report.ssh_url,
        default_branch: report.default_branch.as_deref(),
        master_branch: report.default_branch.as_deref(),
        fork: false,
        pushed_at: report.pushed.pushed_at_ms.0.div_euclid(1000),
    }
}

/// A page that shows what has changed.
fn compare_url(report: &PushReport, url: &str) -> String {
    match (&report.pushed.old_sha, &report.pushed.new_sha) {
        (Some(old), Some(new)) => format!("{url}/-/compare/{old}...{new}"),
        (None, Some(id)) | (Some(id), None) => format!("{url}/-/commit/{id}"),
        (None, None) => url.to_owned(),
    }
}

/// An id, or as many zeros as another one has digits.
fn id_or_zeros(id: Option<&ObjectId>, other: Option<&ObjectId>) -> String {
    let zeros = || "0".repeat(other.map_or(40, |other| other.as_str().len()));
    id.map_or_else(zeros, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample;
    use crate::notify::outgoing_request::sample::{reader, shown_request};
    use quire_types::secret::Secret;

    fn shown(message: &Message) -> String {
        let target = GithubPushTarget {
            url: UrlReader::Plain("https://ci.example.org/github-webhook/".parse().unwrap()),
            key: Some(reader("It's a Secret to Everybody")),
        };
        target.check().unwrap();
        shown_request(&target.request(message, &Redactor::default()).unwrap())
    }

    fn changed(change: impl Fn(&mut PushReport)) -> Message {
        let mut message = sample::pushed();
        let MessageEvent::Pushed(report) = &mut message.event else {
            panic!("{message:?}");
        };
        change(report);
        message
    }

    /// Receivers depend on it: fields are added, never renamed or removed.
    #[test]
    fn the_request_of_a_push_is_that_of_github() {
        const PAGE: &str = include_str!("../../../../../docs/json.md");
        let text = shown(&sample::pushed());
        let body = &text[text.find('{').unwrap()..];
        assert!(PAGE.contains(body), "docs/json.md has not:\n{body}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_created_and_a_deleted_ref_and_a_test() {
        let created = changed(|report| {
            report.pushed.old_sha = None;
            report.pushed.repo = "shop".parse().unwrap();
            report.pushed.ref_name = "refs/tags/v1".parse().unwrap();
            report.pushed.pusher = None;
            report.commits.commits.clear();
        });
        let deleted = changed(|report| {
            report.pushed.new_sha = None;
            report.commits = Default::default();
        });
        let all = [created, deleted, sample::test()].map(|message| shown(&message));
        insta::assert_snapshot!(all.join("\n\n"));
    }

    #[test]
    fn no_secret_is_in_a_payload() {
        let secret = Secret::new("hunter22hunter22".to_owned());
        let message = changed(|report| {
            report.commits.commits[0].message = "Use hunter22hunter22".to_owned();
        });
        let target = GithubPushTarget {
            url: UrlReader::Plain("https://ci.example.org/".parse().unwrap()),
            key: None,
        };
        let redactor = Redactor::new([("token", &secret)]);
        let text = shown_request(&target.request(&message, &redactor).unwrap());
        assert!(
            text.contains("Use {{ token }}") && !text.contains("hunter22"),
            "{text}"
        );
        assert!(!text.contains("signature"), "{text}");
    }
}
