//! What the pages of a repository cost. A page that is added has to be given a class here.

use axum::extract::Request;

use super::super::git_http::GitRequest;
use super::super::strangers::CostClass;
use super::address::{Page, RepoAddress, View, query_value};

/// What a request costs that is for no other route: by its address alone, so that the cost does not tell whether a repository exists.
pub(crate) fn cost(request: &Request) -> CostClass {
    let uri = request.uri();
    if GitRequest::is_one(request.method(), uri) {
        return CostClass::Light;
    }
    let page = RepoAddress::parse(uri.path()).and_then(RepoAddress::page);
    page.map_or(CostClass::Light, |page| {
        page_cost(&page, uri.query().unwrap_or_default())
    })
}

fn page_cost(page: &Page, query: &str) -> CostClass {
    match page {
        Page::Overview
        | Page::Runs
        | Page::Refs(_)
        | Page::Feed(_)
        | Page::Badge
        | Page::CompareForm
        | Page::Archive(..)
        | Page::OfRevision(View::Tree | View::File | View::Raw, _) => CostClass::Light,
        Page::OfRevision(View::Log, _) if searches_commits(query) => CostClass::Heavy,
        Page::OfRevision(View::Log, wanted) if wanted.has_several_parts() => CostClass::Medium,
        Page::OfRevision(View::Log, _) => CostClass::Light,
        Page::OfRevision(View::Commit, _) | Page::Change(_) | Page::Compare(..) => {
            CostClass::Medium
        }
        Page::OfRevision(View::Blame, _) | Page::Search => CostClass::Heavy,
    }
}

/// Whether a list of commits has only some of them.
pub(super) fn searches_commits(query: &str) -> bool {
    ["author", "q"]
        .into_iter()
        .any(|name| query_value(query, name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_addresses() {
        let classes = [
            "/",
            "/app",
            "/app/-/tree/main/src",
            "/app/-/file/main/a",
            "/app/-/raw/main/a",
            "/app/-/log/main",
            "/app/-/log/main?from=x&q=",
            "/app/-/branches",
            "/app/-/archive/main.zip",
            "/app/-/runs",
            "/app/-/runs/1",
            "/app/-/none",
            "/app.git/info/refs?service=git-upload-pack",
            "/app/-/log/main/src",
            "/app/-/commit/main",
            "/app/-/commit/main.patch",
            "/app/-/compare/a...b",
            "/app/-/change/kkmpptxz",
            "/app/-/log/main?author=a",
            "/app/-/log/main?q=a",
            "/app/-/blame/main/a",
            "/app/-/search?q=a",
        ]
        .map(|path| {
            let request = Request::builder().uri(path).body(axum::body::Body::empty());
            format!("{:?} {path}", cost(&request.unwrap()))
        });
        insta::assert_snapshot!(classes.join("\n"), @r"
        Light /
        Light /app
        Light /app/-/tree/main/src
        Light /app/-/file/main/a
        Light /app/-/raw/main/a
        Light /app/-/log/main
        Light /app/-/log/main?from=x&q=
        Light /app/-/branches
        Light /app/-/archive/main.zip
        Light /app/-/runs
        Light /app/-/runs/1
        Light /app/-/none
        Light /app.git/info/refs?service=git-upload-pack
        Medium /app/-/log/main/src
        Medium /app/-/commit/main
        Medium /app/-/commit/main.patch
        Medium /app/-/compare/a...b
        Medium /app/-/change/kkmpptxz
        Heavy /app/-/log/main?author=a
        Heavy /app/-/log/main?q=a
        Heavy /app/-/blame/main/a
        Heavy /app/-/search?q=a
        ");
    }
}
