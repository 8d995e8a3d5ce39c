//! The head of a repository's pages: its name, the revision with a list of others, and where else to go.

use askama::Template;

use super::address::{View, link, search_link};
use super::context::RepoContext;
use super::search_query::{SearchKind, SearchQuery};
use super::source_text::name_html;
use quire_config::RepoVisibility;
use quire_git::read::{BranchOrTag, NamedRefs, ResolvedRev, TreePath};

/// A link of the list of revisions.
struct RefLink {
    html: String,
    href: String,
    is_current: bool,
}

/// Which of the links in the head the page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Code,
    Commits,
    Branches,
    Tags,
    Runs,
    Search,
}

/// The head of a repository's pages.
#[derive(Template)]
#[template(path = "repo_head.html")]
pub(super) struct RepoHead {
    repo: String,
    path: String,
    /// The word for who may read it.
    visibility: &'static str,
    sees_runs: bool,
    /// What the revision is called, as HTML; `None` if there is none.
    rev: Option<String>,
    branches: Vec<RefLink>,
    tags: Vec<RefLink>,
    are_all: bool,
    tab: Tab,
    code: String,
    commits: String,
    search: String,
    /// The page that finds paths.
    find: String,
    /// Where the form of the head is sent, and the revision that it sends; `None` where the page has a form of its own.
    form: Option<(String, Option<String>)>,
}

impl RepoHead {
    /// Whether it has a link to the runs.
    pub(super) fn sees_runs(&self) -> bool {
        self.sees_runs
    }

    /// The head of a page of a revision. A choice of the list opens the same kind of page.
    pub(super) fn new(
        context: &RepoContext,
        tab: Tab,
        rev: Option<&ResolvedRev>,
        choices: Option<NamedRefs>,
    ) -> Self {
        let to = |view, rev: &[u8]| link(&context.base, view, rev, &TreePath::default());
        let searched = match tab {
            Tab::Search => SearchQuery::parse(&context.query).unwrap_or_default(),
            _ => SearchQuery::default(),
        };
        let search = |rev: &[u8]| {
            let at_rev = SearchQuery {
                rev: rev.to_owned(),
                after: None,
                ..searched.clone()
            };
            at_rev.link(&context.base)
        };
        let choice = |rev: &[u8]| match tab {
            Tab::Search => search(rev),
            Tab::Commits => to(View::Log, rev),
            Tab::Code | Tab::Branches | Tab::Tags | Tab::Runs => to(View::Tree, rev),
        };
        let of_kind = |kind: &str, refs: Vec<BranchOrTag>| -> Vec<RefLink> {
            let links = refs.into_iter().map(|found| {
                let full = [kind.as_bytes(), &found.short].concat();
                RefLink {
                    html: name_html(&found.short),
                    href: choice(&found.spelled),
                    is_current: rev.and_then(|rev| rev.ref_name.as_ref()) == Some(&full),
                }
            });
            links.collect()
        };
        let choices = choices.unwrap_or(NamedRefs {
            branches: Vec::new(),
            tags: Vec::new(),
            are_all: true,
        });
        let spelled = rev.map_or(&b"HEAD"[..], |rev| &rev.spelled);
        Self {
            repo: context.repo.to_string(),
            path: context.base.clone(),
            visibility: visibility_word(context.access.visibility()),
            sees_runs: context.access.sees_runs(),
            rev: rev.map(label),
            branches: of_kind("refs/heads/", choices.branches),
            tags: of_kind("refs/tags/", choices.tags),
            are_all: choices.are_all,
            tab,
            code: match rev {
                Some(rev) if rev.spelled != b"HEAD" => to(View::Tree, spelled),
                _ => context.base.clone(),
            },
            commits: to(View::Log, spelled),
            search: search(spelled),
            find: SearchQuery {
                kind: SearchKind::Paths,
                rev: spelled.to_owned(),
                ..SearchQuery::default()
            }
            .link(&context.base),
            form: (tab != Tab::Search).then(|| {
                let sent = std::str::from_utf8(spelled).ok();
                let sent = sent.filter(|rev| *rev != "HEAD").map(str::to_owned);
                (search_link(&context.base), sent)
            }),
        }
    }
}

/// What a page calls the visibility of a repository.
fn visibility_word(visibility: RepoVisibility) -> &'static str {
    match visibility {
        RepoVisibility::Private => "private",
        RepoVisibility::Public | RepoVisibility::PublicRuns => "public",
    }
}

/// What a page calls a revision: the short name of a ref, or the beginning of an id.
pub(super) fn label(rev: &ResolvedRev) -> String {
    match &rev.ref_name {
        Some(full) => {
            let short = full.strip_prefix(b"refs/heads/").map(name_html);
            let tag = || full.strip_prefix(b"refs/tags/").map(name_html);
            short.or_else(tag).unwrap_or_else(|| name_html(full))
        }
        None => rev.commit.short().to_owned(),
    }
}
