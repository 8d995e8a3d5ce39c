//! The head of a repository's pages: its name, the revision with a list of others, and where else to go.

use askama::Template;

use super::address::{View, link};
use super::context::RepoContext;
use super::source_text::name_html;
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
}

/// The head of a repository's pages.
#[derive(Template)]
#[template(path = "repo_head.html")]
pub(super) struct RepoHead {
    repo: String,
    path: String,
    /// What the revision is called, as HTML; `None` if there is none.
    rev: Option<String>,
    branches: Vec<RefLink>,
    tags: Vec<RefLink>,
    are_all: bool,
    tab: Tab,
    code: String,
    commits: String,
}

impl RepoHead {
    /// The head of a page of a revision. A choice of the list opens the same kind of page.
    pub(super) fn new(
        context: &RepoContext,
        tab: Tab,
        rev: Option<&ResolvedRev>,
        choices: Option<NamedRefs>,
    ) -> Self {
        let view = match tab {
            Tab::Commits => View::Log,
            Tab::Code | Tab::Branches | Tab::Tags => View::Tree,
        };
        let to = |view, rev: &[u8]| link(&context.base, view, rev, &TreePath::default());
        let of_kind = |kind: &str, refs: Vec<BranchOrTag>| -> Vec<RefLink> {
            let links = refs.into_iter().map(|found| {
                let full = [kind.as_bytes(), &found.short].concat();
                RefLink {
                    html: name_html(&found.short),
                    href: to(view, &found.spelled),
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
        }
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
