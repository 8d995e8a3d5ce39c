//! A commit in lists: as data, and the pieces of its row.

use askama::Template;
use serde_json::{Value, json};

use super::super::html as pieces;
use super::address::{View, change_link};
use super::context::RepoContext;
use super::source_text::{line_html, marked, marked_matches};
use quire_git::read::{CommitHit, CommitSummary, Person, TextPattern, TreePath};
use quire_types::clock::Millis;

/// Why a history ends before its end.
pub(super) const CUT_HISTORY: &str = "Older commits follow, but so many lines of history are side by side here that no page can go on.";

/// A commit as a list shows it.
#[derive(Template)]
#[template(path = "commit_row.html")]
pub(super) struct CommitRow {
    href: String,
    subject: String,
    /// A line of the message that a search found.
    line: Option<String>,
    author: String,
    at: Millis,
    short: String,
    /// Page and beginning of the id of its change.
    change: Option<(String, String)>,
    is_merge: bool,
}

/// The page of a commit, and its subject as HTML.
pub(super) fn page_and_subject(context: &RepoContext, commit: &CommitSummary) -> (String, String) {
    let id = commit.id.as_str().as_bytes();
    let href = context.link(View::Commit, id, &TreePath::default());
    (href, subject_html(&commit.subject))
}

impl CommitRow {
    pub(super) fn new(context: &RepoContext, commit: &CommitSummary) -> Self {
        let (href, subject) = page_and_subject(context, commit);
        Self {
            href,
            subject,
            line: None,
            author: marked(&commit.author.name).html,
            at: signed_at(&commit.author),
            short: commit.id.short().to_owned(),
            change: commit.change_id.as_ref().map(|id| {
                (
                    change_link(&context.base, id),
                    id.chars().take(12).collect(),
                )
            }),
            is_merge: commit.parents.len() > 1,
        }
    }

    /// A commit that a search found.
    pub(super) fn found(context: &RepoContext, hit: &CommitHit, pattern: &TextPattern) -> Self {
        let marked = |text: &str| marked_matches(text.as_bytes(), &pattern.marks_in(text)).html;
        let CommitHit { commit, line } = hit;
        let mut row = Self::new(context, commit);
        if !commit.subject.is_empty() {
            row.subject = marked(&commit.subject);
        }
        row.author = marked(&commit.author.name);
        // The address is not shown otherwise.
        if !pattern.marks_in(&commit.author.email).is_empty() {
            row.author = format!("{} &lt;{}&gt;", row.author, marked(&commit.author.email));
        }
        row.line = line.as_ref().map(line_html);
        row
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
