//! `GET /{repo}/-/commit/{rev}`: a commit, and what it changed against its first parent, or against the one that `?parent=` says.

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::address::{View, change_link};
use super::commit_row::{commit_json, signed_at, subject_html};
use super::context::{RepoContext, RevContent};
use super::diff_colours::diff_colours;
use super::diff_sections::{
    DiffAddress, DiffLook, DiffSections, MAX_PAGE_LINES, files_json, options,
};
use super::head::{RepoHead, Tab};
use super::kept_page::PageBody;
use super::source_text::{marked, name_text};
use quire_git::read::{
    CommitDetails, CommitDiff, DiffOptions, NamedRefs, Person, ReadError, ResolvedRev, RevPath,
    TreePath,
};
use quire_highlight::LineColours;
use quire_types::clock::Millis;

/// A person and a time, as HTML.
struct Signature {
    name: String,
    email: String,
    at: Millis,
}

#[derive(Template)]
#[template(path = "repo_commit.html", block = "main")]
struct CommitTemplate {
    head: RepoHead,
    id: String,
    subject: String,
    body: String,
    author: Signature,
    /// If another person committed it.
    committer: Option<Signature>,
    parents: Vec<(String, String)>,
    /// Page and id of its change.
    change: Option<(String, String)>,
    is_signed: bool,
    tree: String,
    /// Of a merge, the differences from its other parents.
    others: Vec<(usize, String)>,
    diff: DiffSections,
}

struct CommitRead {
    details: CommitDetails,
    diff: CommitDiff,
    colours: Vec<LineColours>,
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let parent = context.query_number("parent")?.unwrap_or(1);
    let options = DiffOptions {
        parent: parent.checked_sub(1).ok_or(WebError::NotFound)?,
        ..options(context)?
    };
    let (asked, is_data) = (options.clone(), context.wants_json());
    let read = context
        .read_rev(
            View::Commit,
            wanted,
            MAX_PAGE_LINES,
            move |reader, rev, path, budget| {
                if !path.is_root() {
                    return Err(ReadError::NoPath);
                }
                let diff = reader.commit_diff(&rev.commit, &asked, budget)?;
                Ok(RevContent::Here(CommitRead {
                    details: reader.commit(&rev.commit)?,
                    colours: if is_data {
                        Vec::new()
                    } else {
                        diff_colours(&diff)
                    },
                    diff,
                }))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let choices = page.choices.take();
    let body = if context.wants_json() {
        as_json(context, &page.rev, &page.content, &options)
    } else {
        let subject = name_text(page.content.details.summary.subject.as_bytes());
        let title = format!("{subject} · {}", context.repo);
        let main = template(context, &page.rev, &page.content, choices, &options);
        PageBody::html(title, &main)?
    };
    let is_whole = !page.content.diff.out_of_time;
    context.send(&page.identity, is_whole, body).await
}

fn template(
    context: &RepoContext,
    rev: &ResolvedRev,
    read: &CommitRead,
    choices: Option<NamedRefs>,
    options: &DiffOptions,
) -> CommitTemplate {
    let place = address(context, rev, options);
    let summary = &read.details.summary;
    let same_person = summary.author.name == summary.committer.name
        && summary.author.email == summary.committer.email;
    let parents = summary.parents.iter().map(|id| {
        let href = context.link(View::Commit, id.as_str().as_bytes(), &TreePath::default());
        (id.short().to_owned(), href)
    });
    CommitTemplate {
        head: RepoHead::new(context, Tab::Commits, Some(rev), choices),
        id: rev.commit.to_string(),
        subject: subject_html(&summary.subject),
        body: marked(&read.details.body).html,
        author: signature(&summary.author),
        committer: (!same_person).then(|| signature(&summary.committer)),
        parents: parents.collect(),
        change: summary
            .change_id
            .as_ref()
            .map(|id| (change_link(&context.base, id), id.clone())),
        is_signed: read.details.is_signed,
        tree: context.link(
            View::Tree,
            rev.commit.as_str().as_bytes(),
            &TreePath::default(),
        ),
        others: (0..summary.parents.len())
            .filter(|parent| *parent != options.parent && summary.parents.len() > 1)
            .map(|parent| {
                let other = DiffAddress {
                    parent,
                    ..address(context, rev, options)
                };
                (parent + 1, other.here())
            })
            .collect(),
        diff: DiffSections::new(context, &place, &read.diff, options, &read.colours),
    }
}

fn address(context: &RepoContext, rev: &ResolvedRev, options: &DiffOptions) -> DiffAddress {
    let id = rev.commit.as_str().as_bytes();
    DiffAddress {
        page: context.link(View::Commit, id, &TreePath::default()),
        parent: options.parent,
        look: DiffLook::of(context),
        new: rev.commit.clone(),
        is_commit: true,
    }
}

fn signature(person: &Person) -> Signature {
    Signature {
        name: marked(&person.name).html,
        email: marked(&person.email).html,
        at: signed_at(person),
    }
}

fn as_json(
    context: &RepoContext,
    rev: &ResolvedRev,
    read: &CommitRead,
    options: &DiffOptions,
) -> PageBody {
    let place = address(context, rev, options);
    let mut data = commit_json(context, &read.details.summary);
    let more = json!({
        "repo": context.repo,
        "tree": read.details.tree,
        "body": read.details.body,
        "is_signed": read.details.is_signed,
        "total_files": read.diff.total,
        "is_cut": read.diff.is_cut,
        "skipped_files": options.skip_files,
        "files": files_json(&place, &read.diff),
        "next": place.next_link(&read.diff),
    });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    PageBody::json(&data)
}
