//! `GET /{repo}`: what is in a repository, its newest commit and runs, and how to clone it.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::kept_bodies::KeptBody;
use super::super::layout::{Layout, html};
use super::super::runs::RunList;
use super::address::View;
use super::archive::ArchiveLinks;
use super::commit_row::{commit_json, signed_at, subject_html};
use super::context::{MAX_LISTED_REFS, RepoContext};
use super::head::{RepoHead, Tab};
use super::markdown::{LinkBase, is_markdown, render};
use super::page_identity::{Identifier, PageIdentity};
use super::source_text::{marked, marked_bytes, name_html, name_text};
use super::tree::{FolderRead, MAX_PAGE_ENTRIES, TreeTable, entries_json};
use quire_config::RepoVisibility;
use quire_git::read::{
    Budget, CommitSummary, EntryMode, FolderPage, NamedRefs, ReadError, Reader, ResolvedRev,
    TreePath,
};
use quire_server::forge::mirrors::{ListedMirror, list_in};
use quire_server::forge::views::{MirrorJson, RunJson, views};
use quire_store::RunFilter;
use quire_types::clock::Millis;
use quire_types::names::RefName;
use quire_types::run::Run;

/// Runs below the files.
const MAX_NEWEST_RUNS: u32 = 5;
/// Runs as data.
const MAX_JSON_RUNS: u32 = 20;
/// The largest README that is shown.
const MAX_README_BYTES: u64 = 256 << 10;

/// A README, by the first of these names.
const README_NAMES: [&[u8]; 4] = [b"readme.md", b"readme", b"readme.txt", b"readme.markdown"];

struct Readme {
    name: Vec<u8>,
    text: Vec<u8>,
    /// Markdown as HTML.
    markdown: Option<String>,
}

/// A README as the page shows it.
struct ReadmeView {
    name: String,
    href: String,
    text: String,
    markdown: Option<String>,
}

/// What HEAD has.
struct HeadRead {
    rev: ResolvedRev,
    newest: CommitSummary,
    files: HeadFiles,
    choices: NamedRefs,
}

/// The files of HEAD.
enum HeadFiles {
    Read(Box<FilesRead>),
    /// As they were rendered before.
    Kept(Arc<KeptBody>),
}

struct FilesRead {
    identity: PageIdentity,
    folder: FolderRead,
    readme: Option<Readme>,
}

/// The part of the page that depends on the commit alone.
#[derive(Template)]
#[template(path = "repo_overview_files.html")]
struct FilesTemplate {
    table: TreeTable,
    readme: Option<ReadmeView>,
}

/// The newest commit as the page shows it.
struct NewestCommit {
    href: String,
    subject: String,
    author: String,
    at: Millis,
    short: String,
    run: Option<Run>,
}

#[derive(Template)]
#[template(path = "repo.html")]
struct OverviewTemplate {
    layout: Layout,
    head: RepoHead,
    path: String,
    clone_urls: Vec<String>,
    description: Option<String>,
    /// What is wrong with the settings of the repository.
    problems: Vec<String>,
    /// Whether the list of runs is loaded again when a run changes.
    is_live: bool,
    newest: Option<NewestCommit>,
    files: Option<String>,
    history: String,
    archives: ArchiveLinks,
    mirrors: Vec<ListedMirror>,
    list: RunList,
}

pub(super) async fn page(context: &RepoContext) -> Result<Response, WebError> {
    let base = context.base.clone();
    let identifier = context.part_identifier("files of HEAD");
    let head = match context
        .read(MAX_PAGE_ENTRIES, move |reader, budget| {
            read_head(reader, budget, &base, &identifier)
        })
        .await
    {
        Ok(head) => head,
        // A repository that cannot be opened still has runs.
        Err(WebError::Read(error @ ReadError::Open { .. })) => {
            tracing::warn!(repo = %context.repo, "web: {}", quire_types::error_chain::chain(&error));
            None
        }
        Err(error) => return Err(error),
    };
    let limit = if context.wants_json() {
        MAX_JSON_RUNS
    } else {
        MAX_NEWEST_RUNS
    };
    let runs = match context.access.sees_runs() {
        true => runs(context, None, limit).await?,
        false => Vec::new(),
    };
    // Where else a repository is pushed to is the owner's business.
    let mirrors = match context.access.is_stranger {
        true => Vec::new(),
        false => mirrors(context).await?,
    };
    let clone_urls = clone_urls(context);
    let access = &context.access;
    let description = access.description(&context.app, &context.repo).await?;
    if context.wants_json() {
        return Ok(as_json(
            context,
            (head.as_ref(), description.as_deref()),
            &clone_urls,
            (&runs, &mirrors),
        ));
    }
    let mut newest_run = None;
    if let Some(head) = &head
        && context.access.sees_runs()
        && let Some(ref_name) = ref_name(&head.rev)
    {
        newest_run = runs_of_commit(context, ref_name, &head.rev).await?;
    }
    let rev = head.as_ref().map(|head| head.rev.clone());
    let spelled = rev.as_ref().map_or(&b"HEAD"[..], |rev| &rev.spelled);
    let history = context.link(View::Log, spelled, &TreePath::default());
    let archives = ArchiveLinks::new(context, spelled);
    let (mut newest, mut files, mut choices) = (None, None, None);
    if let Some(head) = head {
        newest = Some(newest_commit(context, &head.newest, newest_run));
        files = Some(files_html(context, &head.rev, head.files).await?);
        choices = Some(head.choices);
    }
    html(&OverviewTemplate {
        layout: context.live_layout(context.repo.as_str()),
        head: RepoHead::new(context, Tab::Code, rev.as_ref(), choices),
        path: context.base.clone(),
        clone_urls,
        description,
        problems: context.access.problems().to_vec(),
        is_live: !context.access.is_stranger,
        newest,
        files,
        history,
        archives,
        mirrors,
        list: RunList::new(runs, context.app.web.clock.now(), false),
    })
}

/// The table of the files and the README.
async fn files_html(
    context: &RepoContext,
    rev: &ResolvedRev,
    files: HeadFiles,
) -> Result<String, WebError> {
    let files = match files {
        HeadFiles::Kept(body) => return Ok(String::from_utf8_lossy(&body.plain).into_owned()),
        HeadFiles::Read(files) => *files,
    };
    let FilesRead {
        identity,
        folder,
        readme,
    } = files;
    let root = TreePath::default();
    let is_whole = folder.changes.is_whole && !folder.page.out_of_time;
    let html = FilesTemplate {
        table: TreeTable::new(context, rev, &root, &folder),
        readme: readme.map(|readme| ReadmeView {
            href: context.link(View::File, &rev.spelled, &root.join(&readme.name)),
            name: name_html(&readme.name),
            text: marked_bytes(&readme.text).html,
            markdown: readme.markdown,
        }),
    }
    .render()?;
    if is_whole {
        context.keep_part(&identity, html.clone()).await?;
    }
    Ok(html)
}

/// Where to clone from, the usual address first. There is at least one.
fn clone_urls(context: &RepoContext) -> Vec<String> {
    let config = &context.config;
    let ssh = config.clone_url(&context.repo);
    let http = format!("{}{}.git", config.url.trim_end_matches('/'), context.base);
    // Over HTTP only if the host in the address is one that clients use. SSH needs a key, which a stranger does not have.
    let is_known = config.host_is_configured || config.ssh_host == "localhost";
    match (context.access.is_stranger, is_known) {
        (true, _) => vec![http],
        (false, true) => vec![ssh, http],
        (false, false) => vec![ssh],
    }
}

/// What HEAD has; `None` if there is no commit.
fn read_head(
    reader: &Reader,
    budget: &Budget,
    base: &str,
    identifier: &Identifier,
) -> Result<Option<HeadRead>, ReadError> {
    let Some(rev) = reader.head()? else {
        return Ok(None);
    };
    let files = match identifier.identify_part(&rev) {
        Ok(identity) => {
            let path = TreePath::default();
            let root = reader.entry(&rev.commit, &path)?;
            let folder = FolderRead::read(reader, &rev.commit, &path, &root.id, None, budget)?;
            let readme = readme(reader, &folder.page, &rev, base)?;
            HeadFiles::Read(Box::new(FilesRead {
                identity,
                folder,
                readme,
            }))
        }
        Err(body) => HeadFiles::Kept(body),
    };
    Ok(Some(HeadRead {
        newest: reader.commit(&rev.commit)?.summary,
        choices: reader.named_refs(MAX_LISTED_REFS, budget)?,
        files,
        rev,
    }))
}

fn readme(
    reader: &Reader,
    folder: &FolderPage,
    rev: &ResolvedRev,
    base: &str,
) -> Result<Option<Readme>, ReadError> {
    let is_called = |name: &[u8], wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    let found = README_NAMES.iter().find_map(|wanted| {
        folder.items.iter().find(|item| {
            matches!(item.mode, EntryMode::File | EntryMode::Executable)
                && is_called(&item.name, wanted)
        })
    });
    let Some(item) = found else {
        return Ok(None);
    };
    match reader.blob(&item.id, MAX_README_BYTES) {
        Ok(content) if content.is_binary() => Ok(None),
        Ok(content) => {
            let links = LinkBase {
                base,
                rev: &rev.spelled,
                folder: TreePath::default(),
            };
            let is_markdown = is_markdown(&item.name);
            Ok(Some(Readme {
                name: item.name.clone(),
                markdown: is_markdown.then(|| render(&content.data, &links)).flatten(),
                text: content.data,
            }))
        }
        Err(ReadError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn newest_commit(context: &RepoContext, commit: &CommitSummary, run: Option<Run>) -> NewestCommit {
    let id = commit.id.as_str().as_bytes();
    NewestCommit {
        href: context.link(View::Commit, id, &TreePath::default()),
        subject: subject_html(&commit.subject),
        author: marked(&commit.author.name).html,
        at: signed_at(&commit.author),
        short: commit.id.short().to_owned(),
        run,
    }
}

fn ref_name(rev: &ResolvedRev) -> Option<RefName> {
    let full = rev.ref_name.as_deref()?;
    std::str::from_utf8(full).ok()?.parse().ok()
}

async fn runs(
    context: &RepoContext,
    ref_name: Option<RefName>,
    limit: u32,
) -> Result<Vec<Run>, WebError> {
    let filter = RunFilter {
        repo: Some(context.repo.clone()),
        ref_name,
        limit,
        ..RunFilter::default()
    };
    let list = move |store: &quire_store::Store| store.runs().list(&filter);
    let runs = context.app.web.store.call(list).await?;
    Ok(context.access.shown_runs(runs))
}

async fn mirrors(context: &RepoContext) -> Result<Vec<ListedMirror>, WebError> {
    let repo = context.repo.clone();
    let list = move |store: &quire_store::Store| list_in(store, Some(&repo));
    Ok(context.app.web.store.call(list).await?)
}

/// The newest run of a ref, if it is of this commit.
async fn runs_of_commit(
    context: &RepoContext,
    ref_name: RefName,
    rev: &ResolvedRev,
) -> Result<Option<Run>, WebError> {
    let newest = runs(context, Some(ref_name), 1).await?.pop();
    Ok(newest.filter(|run| run.sha == rev.commit))
}

fn as_json(
    context: &RepoContext,
    (head, description): (Option<&HeadRead>, Option<&str>),
    clone_urls: &[String],
    (runs, mirrors): (&[Run], &[ListedMirror]),
) -> Response {
    let root = TreePath::default();
    let head = head.and_then(|head| {
        // As data, nothing is kept.
        let HeadFiles::Read(files) = &head.files else {
            return None;
        };
        let (folder, readme) = (&files.folder, &files.readme);
        Some(json!({
            "ref": head.rev.ref_name.as_deref().map(name_text),
            "commit": commit_json(context, &head.newest),
            "entries": entries_json(context, &head.rev, &root, folder),
            "readme": readme.as_ref().map(|readme| json!({
                "name": name_text(&readme.name),
                "text": String::from_utf8_lossy(&readme.text),
            })),
        }))
    });
    Json(json!({
        "repo": context.repo,
        "description": description,
        "public": context.access.visibility() != RepoVisibility::Private,
        "public_runs": context.access.visibility() == RepoVisibility::PublicRuns,
        "problems": context.access.problems(),
        "clone_url": clone_urls.first(),
        "head": head,
        "runs": views::<_, RunJson<'_>>(runs),
        "mirrors": views::<_, MirrorJson<'_>>(mirrors),
    }))
    .into_response()
}
