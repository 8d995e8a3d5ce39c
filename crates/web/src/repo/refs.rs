//! `GET /{repo}/-/branches` and `/{repo}/-/tags`: what there is, the newest first.

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::{Range, View, compare_form_link, compare_link, encoded_bytes};
use super::archive::ArchiveLinks;
use super::commit_row::{commit_json, signed_at, subject_html};
use super::context::RepoContext;
use super::head::{RepoHead, Tab};
use super::source_text::{marked, name_html, name_text};
use quire_git::read::{RefNames, RefTip, TreePath};
use quire_types::clock::Millis;

/// Refs of a page.
const MAX_PAGE_REFS: usize = 100;

struct RefRow {
    name: String,
    tree: Option<String>,
    log: Option<String>,
    archives: Option<ArchiveLinks>,
    commit: Option<(String, String, String)>,
    at: Option<Millis>,
    annotation: Option<String>,
    is_default: bool,
    /// What it has that the default branch has not.
    compare: Option<String>,
}

#[derive(Template)]
#[template(path = "repo_refs.html")]
struct RefsTemplate {
    layout: Layout,
    head: RepoHead,
    title: &'static str,
    rows: Vec<RefRow>,
    /// Where the form that compares two revisions is sent; on the page of branches.
    compare: Option<String>,
    default: String,
    total: usize,
    is_cut: bool,
    next: Option<String>,
}

pub(super) async fn page(context: &RepoContext, wanted: RefNames) -> Result<Response, WebError> {
    let after = context.query_bytes("after");
    let (tips, head) = context
        .read(MAX_PAGE_REFS, move |reader, budget| {
            let tips = reader.ref_tips(wanted, after.as_deref(), budget)?;
            Ok((tips, reader.head()?))
        })
        .await?;
    let (title, address, tab) = match wanted {
        RefNames::Branches => ("Branches", "branches", Tab::Branches),
        RefNames::Tags => ("Tags", "tags", Tab::Tags),
    };
    let next = tips.page.next.as_ref().map(|after| {
        let after = encoded_bytes(after);
        format!("{}/-/{address}?after={after}", context.base)
    });
    if context.wants_json() {
        let refs: Vec<Value> = tips
            .page
            .items
            .iter()
            .map(|tip| tip_json(context, tip))
            .collect();
        return Ok(Json(json!({
            "repo": context.repo,
            address: refs,
            "total": tips.total,
            "is_cut": tips.is_cut,
            "next": next,
        }))
        .into_response());
    }
    let default = head.as_ref().and_then(|head| {
        let full = head.ref_name.as_deref()?;
        full.strip_prefix(b"refs/heads/")
    });
    let is_default =
        |tip: &RefTip| wanted == RefNames::Branches && default == Some(tip.name.short.as_slice());
    html(&RefsTemplate {
        layout: context.layout(format!("{title} · {}", context.repo)),
        rows: tips
            .page
            .items
            .iter()
            .map(|tip| RefRow {
                compare: (wanted == RefNames::Branches && !is_default(tip)).then(|| {
                    compare_link(&context.base, b"HEAD", &tip.name.spelled, Range::FromBase)
                }),
                ..row(context, tip, is_default(tip))
            })
            .collect(),
        compare: (wanted == RefNames::Branches && tips.total > 0)
            .then(|| compare_form_link(&context.base)),
        default: default.map(name_text).unwrap_or_default(),
        head: RepoHead::new(context, tab, head.as_ref(), None),
        title,
        total: tips.total,
        is_cut: tips.is_cut,
        next,
    })
}

fn row(context: &RepoContext, tip: &RefTip, is_default: bool) -> RefRow {
    let root = TreePath::default();
    let to = |view| {
        tip.commit
            .as_ref()
            .map(|_| context.link(view, &tip.name.spelled, &root))
    };
    RefRow {
        name: name_html(&tip.name.short),
        tree: to(View::Tree),
        log: to(View::Log),
        archives: tip
            .commit
            .as_ref()
            .map(|_| ArchiveLinks::new(context, &tip.name.spelled)),
        commit: tip.commit.as_ref().map(|commit| {
            let id = commit.id.as_str().as_bytes();
            (
                context.link(View::Commit, id, &root),
                subject_html(&commit.subject),
                commit.id.short().to_owned(),
            )
        }),
        at: tip
            .commit
            .as_ref()
            .map(|commit| signed_at(&commit.committer)),
        annotation: tip
            .annotation
            .as_ref()
            .map(|annotation| marked(&annotation.subject).html),
        is_default,
        compare: None,
    }
}

fn tip_json(context: &RepoContext, tip: &RefTip) -> Value {
    json!({
        "name": name_text(&tip.name.short),
        "commit": tip.commit.as_ref().map(|commit| commit_json(context, commit)),
        "annotation": tip.annotation.as_ref().map(|annotation| json!({
            "subject": annotation.subject,
            "tagger": annotation.tagger.as_ref().map(|tagger| tagger.name.clone()),
        })),
        "href": context.link(View::Tree, &tip.name.spelled, &TreePath::default()),
    })
}
