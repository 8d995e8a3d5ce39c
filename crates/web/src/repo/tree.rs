//! `GET /{repo}/-/tree/{rev}[/{path}]`: a folder.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::address::{View, encoded_bytes};
use super::commit_row::{commit_json, signed_at, subject_html};
use super::context::{RepoContext, RevContent, RevPage};
use super::head::{RepoHead, Tab};
use super::kept_page::PageBody;
use super::source_text::{name_html, name_text};
use quire_git::read::{
    Budget, CommitSummary, EntryMode, FolderPage, LastChanges, NamedRefs, ReadError, Reader,
    ResolvedRev, RevPath, TreeItem, TreePath,
};
use quire_types::clock::Millis;
use quire_types::names::ObjectId;
use quire_types::text::format_bytes;

/// Entries of a page.
pub(super) const MAX_PAGE_ENTRIES: usize = 1000;
/// How long the last changes of entries are looked for.
const LAST_CHANGE_TIME: Duration = Duration::from_millis(150);

/// One entry as a list shows it.
struct TreeRow {
    name: String,
    href: Option<String>,
    kind: &'static str,
    /// Size, target of a link, or commit of a submodule.
    about: String,
    size: String,
    /// `None` if there was no time to find it.
    change: Option<LastChange>,
    history: String,
}

/// The commit that changed an entry last.
struct LastChange {
    href: String,
    subject: String,
    at: Millis,
}

/// The entries of a folder, as a part of a page.
#[derive(Template)]
#[template(path = "repo_tree.html")]
pub(super) struct TreeTable {
    up: Option<String>,
    rows: Vec<TreeRow>,
    /// The rest.
    next: Option<String>,
}

impl TreeTable {
    pub(super) fn new(
        context: &RepoContext,
        rev: &ResolvedRev,
        path: &TreePath,
        folder: &FolderRead,
    ) -> Self {
        let page = &folder.page;
        let rows = page.items.iter().map(|item| TreeRow {
            name: name_html(&item.name),
            href: entry_link(context, rev, path, item),
            kind: kind(item.mode),
            about: about(item),
            size: match item.mode {
                EntryMode::File | EntryMode::Executable => {
                    item.size.map_or_else(String::new, format_bytes)
                }
                _ => String::new(),
            },
            change: change(context, folder.changes.of.get(&item.name)),
            history: context.link(View::Log, &rev.spelled, &path.join(&item.name)),
        });
        Self {
            up: (!path.is_root()).then(|| context.link(View::Tree, &rev.spelled, &path.parent())),
            rows: rows.collect(),
            next: next_link(context, rev, path, page),
        }
    }
}

fn kind(mode: EntryMode) -> &'static str {
    match mode {
        EntryMode::Folder => "folder",
        EntryMode::File => "file",
        EntryMode::Executable => "executable",
        EntryMode::Symlink => "symlink",
        EntryMode::Submodule => "submodule",
    }
}

fn about(item: &TreeItem) -> String {
    match (item.mode, &item.target) {
        (EntryMode::Symlink, Some(target)) => name_html(target),
        (EntryMode::Submodule, _) => item.id.short().to_owned(),
        _ => String::new(),
    }
}

fn entry_link(
    context: &RepoContext,
    rev: &ResolvedRev,
    path: &TreePath,
    item: &TreeItem,
) -> Option<String> {
    let view = match item.mode {
        EntryMode::Folder => View::Tree,
        EntryMode::Submodule => return None,
        _ => View::File,
    };
    Some(context.link(view, &rev.spelled, &path.join(&item.name)))
}

fn next_link(
    context: &RepoContext,
    rev: &ResolvedRev,
    path: &TreePath,
    page: &FolderPage,
) -> Option<String> {
    let after = encoded_bytes(page.next.as_ref()?);
    let folder = context.link(View::Tree, &rev.spelled, path);
    Some(format!("{folder}?after={after}"))
}

fn change(context: &RepoContext, commit: Option<&CommitSummary>) -> Option<LastChange> {
    let commit = commit?;
    let id = commit.id.as_str().as_bytes();
    Some(LastChange {
        href: context.link(View::Commit, id, &TreePath::default()),
        subject: subject_html(&commit.subject),
        at: signed_at(&commit.committer),
    })
}

/// The entries as data.
pub(super) fn entries_json(
    context: &RepoContext,
    rev: &ResolvedRev,
    path: &TreePath,
    folder: &FolderRead,
) -> Vec<Value> {
    let entry = |item: &TreeItem| {
        json!({
            "name": name_text(&item.name),
            "kind": kind(item.mode),
            "mode": item.mode.as_octal(),
            "id": item.id,
            "size": item.size,
            "target": item.target.as_deref().map(name_text),
            "href": entry_link(context, rev, path, item),
            "last_change": folder.changes.of.get(&item.name).map(|commit| commit_json(context, commit)),
        })
    };
    folder.page.items.iter().map(entry).collect()
}

/// A link of the way from the root to a path.
pub(super) struct Crumb {
    name: String,
    href: String,
}

/// The way from the root of a repository to a path; the last part is where the reader is.
#[derive(Template)]
#[template(path = "repo_crumbs.html")]
pub(super) struct Crumbs {
    root: String,
    root_name: String,
    folders: Vec<Crumb>,
    last: Option<String>,
}

impl Crumbs {
    /// Folders open with `view`.
    pub(super) fn new(
        context: &RepoContext,
        view: View,
        rev: &ResolvedRev,
        path: &TreePath,
    ) -> Self {
        let mut way = TreePath::default();
        let mut folders = Vec::new();
        for part in path.parts() {
            way = way.join(part);
            folders.push(Crumb {
                name: name_html(part),
                href: context.link(view, &rev.spelled, &way),
            });
        }
        let last = folders.pop().map(|crumb| crumb.name);
        let name = context.repo.as_str();
        Self {
            root: context.link(view, &rev.spelled, &TreePath::default()),
            root_name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            folders,
            last,
        }
    }
}

#[derive(Template)]
#[template(path = "repo_folder.html", block = "main")]
struct FolderTemplate {
    head: RepoHead,
    crumbs: Crumbs,
    table: TreeTable,
    history: String,
    permalink: String,
}

/// A folder as it was read.
pub(super) struct FolderRead {
    pub(super) page: FolderPage,
    pub(super) changes: LastChanges,
}

impl FolderRead {
    /// Part of a folder, with the last change of each entry as far as there is time.
    pub(super) fn read(
        reader: &Reader,
        commit: &ObjectId,
        path: &TreePath,
        tree: &ObjectId,
        after: Option<&[u8]>,
        budget: &Budget,
    ) -> Result<Self, ReadError> {
        let page = reader.folder(tree, after, budget)?;
        let names: Vec<Vec<u8>> = page.items.iter().map(|item| item.name.clone()).collect();
        let budget = budget.within(LAST_CHANGE_TIME);
        let changes = reader.last_changes(commit, path, &names, &budget)?;
        Ok(Self { page, changes })
    }
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let after = context.query_bytes("after");
    let read = context
        .read_rev(
            View::Tree,
            wanted,
            MAX_PAGE_ENTRIES,
            move |reader, rev, path, budget| {
                let entry = reader.entry(&rev.commit, path)?;
                if entry.mode != EntryMode::Folder {
                    return Ok(RevContent::At(View::File));
                }
                let (commit, after) = (&rev.commit, after.as_deref());
                let folder = FolderRead::read(reader, commit, path, &entry.id, after, budget)?;
                Ok(RevContent::Here(folder))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let choices = page.choices.take();
    let body = body(context, &page, choices)?;
    let is_whole = page.content.changes.is_whole && !page.content.page.out_of_time;
    context.send(&page.identity, is_whole, body).await
}

fn body(
    context: &RepoContext,
    page: &RevPage<FolderRead>,
    choices: Option<NamedRefs>,
) -> Result<PageBody, WebError> {
    let (rev, path, folder) = (&page.rev, &page.path, &page.content);
    if context.wants_json() {
        return Ok(PageBody::json(&json!({
            "repo": context.repo,
            "commit": rev.commit,
            "path": name_text(path.as_bytes()),
            "entries": entries_json(context, rev, path, folder),
            "next": next_link(context, rev, path, &folder.page),
        })));
    }
    let title = match name_text(path.as_bytes()) {
        path if path.is_empty() => context.repo.to_string(),
        path => format!("{path} · {}", context.repo),
    };
    let main = FolderTemplate {
        head: RepoHead::new(context, Tab::Code, Some(rev), choices),
        crumbs: Crumbs::new(context, View::Tree, rev, path),
        table: TreeTable::new(context, rev, path, folder),
        history: context.link(View::Log, &rev.spelled, path),
        permalink: context.link(View::Tree, rev.commit.as_str().as_bytes(), path),
    };
    PageBody::html(title, &main)
}
