//! A commit in lists: as data, and the pieces of its row.

use serde_json::{Value, json};

use super::address::View;
use super::context::RepoContext;
use super::source_text::marked;
use quire_git::read::{CommitSummary, Person, TreePath};
use quire_types::clock::Millis;

/// A commit as a list shows it.
pub(super) struct CommitRow {
    pub(super) href: String,
    pub(super) subject: String,
    pub(super) author: String,
    pub(super) at: Millis,
    pub(super) short: String,
    pub(super) change: Option<String>,
    pub(super) is_merge: bool,
}

impl CommitRow {
    pub(super) fn new(context: &RepoContext, commit: &CommitSummary) -> Self {
        Self {
            href: context.link(
                View::Commit,
                commit.id.as_str().as_bytes(),
                &TreePath::default(),
            ),
            subject: subject_html(&commit.subject),
            author: marked(&commit.author.name).html,
            at: signed_at(&commit.author),
            short: commit.id.short().to_owned(),
            change: commit
                .change_id
                .as_ref()
                .map(|id| id.chars().take(12).collect()),
            is_merge: commit.parents.len() > 1,
        }
    }
}

/// The time of a person's signature.
pub(super) fn signed_at(person: &Person) -> Millis {
    Millis(person.seconds.saturating_mul(1000))
}

/// A subject as HTML; a commit may have none.
pub(super) fn subject_html(subject: &str) -> String {
    if subject.is_empty() {
        "(no subject)".to_owned()
    } else {
        marked(subject).html
    }
}

/// A commit as data.
pub(super) fn commit_json(context: &RepoContext, commit: &CommitSummary) -> Value {
    let person = |person: &Person| {
        json!({
            "name": person.name,
            "email": person.email,
            "at_ms": signed_at(person),
        })
    };
    json!({
        "id": commit.id,
        "parents": commit.parents,
        "subject": commit.subject,
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "change_id": commit.change_id,
        "href": context.link(View::Commit, commit.id.as_str().as_bytes(), &TreePath::default()),
    })
}
