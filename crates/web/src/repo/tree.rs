//! `GET /{repo}/-/tree/{rev}[/{path}]`: a folder.

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::layout::{Layout, html};
use super::address::{View, encoded_bytes};
use super::context::{RepoContext, RevRead};
use super::head::{RefChoices, RepoHead, Tab};
use super::source_text::{name_html, name_text};
use quire_git::read::{EntryMode, FolderPage, ResolvedRev, RevPath, TreeItem, TreePath};
use quire_types::text::format_bytes;

/// Entries of a page.
pub(super) const MAX_PAGE_ENTRIES: usize = 1000;

/// One entry as a list shows it.
struct TreeRow {
    name: String,
    href: Option<String>,
    kind: &'static str,
    /// Size, target of a link, or commit of a submodule.
    about: String,
    size: String,
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
        page: &FolderPage,
    ) -> Self {
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
        });
        Self {
            up: parent(path).map(|up| context.link(View::Tree, &rev.spelled, &up)),
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

fn parent(path: &TreePath) -> Option<TreePath> {
    let bytes = path.as_bytes();
    let end = bytes.len() - path.name().len();
    (!path.is_root())
        .then(|| TreePath::parse(&bytes[..end]))
        .flatten()
}

/// The entries as data.
pub(super) fn entries_json(
    context: &RepoContext,
    rev: &ResolvedRev,
    path: &TreePath,
    page: &FolderPage,
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
        })
    };
    page.items.iter().map(entry).collect()
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
#[template(path = "repo_folder.html")]
struct FolderTemplate {
    layout: Layout,
    head: RepoHead,
    crumbs: Crumbs,
    table: TreeTable,
    history: String,
    permalink: String,
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let after = context.query_bytes("after");
    let wants_head = !context.wants_json();
    let found = context
        .read_rev(
            View::Tree,
            wanted,
            MAX_PAGE_ENTRIES,
            move |reader, rev, path, budget| {
                let entry = reader.entry(&rev.commit, &path)?;
                if entry.mode != EntryMode::Folder {
                    return Ok(RevRead::Elsewhere(View::File, rev, path));
                }
                let page = reader.folder(&entry.id, after.as_deref(), budget)?;
                let choices = wants_head
                    .then(|| RefChoices::read(reader, budget))
                    .transpose()?;
                Ok(RevRead::Page(rev, path, (page, choices)))
            },
        )
        .await?;
    let (rev, path, (page, choices)) = match found {
        Ok(found) => found,
        Err(redirect) => return Ok(redirect),
    };
    if context.wants_json() {
        return Ok(Json(json!({
            "repo": context.repo,
            "commit": rev.commit,
            "path": name_text(path.as_bytes()),
            "entries": entries_json(context, &rev, &path, &page),
            "next": next_link(context, &rev, &path, &page),
        }))
        .into_response());
    }
    let title = match name_text(path.as_bytes()) {
        path if path.is_empty() => context.repo.to_string(),
        path => format!("{path} · {}", context.repo),
    };
    html(&FolderTemplate {
        layout: context.layout(title),
        head: RepoHead::new(context, Tab::Code, Some(&rev), choices),
        crumbs: Crumbs::new(context, View::Tree, &rev, &path),
        table: TreeTable::new(context, &rev, &path, &page),
        history: context.link(View::Log, &rev.spelled, &path),
        permalink: context.link(View::Tree, rev.commit.as_str().as_bytes(), &path),
    })
}
