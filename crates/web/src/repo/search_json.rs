//! What a search found, as data.

use std::ops::Range;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::address::View;
use super::commit_row::commit_json;
use super::context::RepoContext;
use super::file::line_link;
use super::search_query::SearchQuery;
use super::search_read::SearchFindings;
use super::search_results::{file_link, next_link, path_link};
use super::source_text::name_text;
use quire_git::read::{CodeHits, FileHits, MatchedLine, ResolvedRev};

/// The answer to a program.
pub(super) fn as_json(
    context: &RepoContext,
    query: &SearchQuery,
    rev: Option<&ResolvedRev>,
    found: &SearchFindings,
) -> Response {
    let mut answer = json!({
        "repo": context.repo,
        "commit": rev.map(|rev| &rev.commit),
        "type": query.kind.as_str(),
        "query": query.text,
        "is_regex": query.is_regex,
        "path": name_text(&query.paths),
        "is_whole": is_whole(found),
        "out_of_time": is_out_of_time(found),
        "next": next_link(context, query, found),
    });
    if let (Some(rev), Value::Object(answer)) = (rev, &mut answer) {
        answer.extend(results(context, query, rev, found));
    }
    Json(answer).into_response()
}

fn is_whole(found: &SearchFindings) -> bool {
    match found {
        SearchFindings::Nothing => true,
        SearchFindings::Code(hits) => hits.is_whole(),
        SearchFindings::Paths(hits) => hits.page.is_last(),
        SearchFindings::Commits(_, hits) => hits.is_last(),
    }
}

fn is_out_of_time(found: &SearchFindings) -> bool {
    match found {
        SearchFindings::Nothing => false,
        SearchFindings::Code(hits) => hits.page.out_of_time,
        SearchFindings::Paths(hits) => hits.page.out_of_time,
        SearchFindings::Commits(_, hits) => hits.out_of_time,
    }
}

fn results(
    context: &RepoContext,
    query: &SearchQuery,
    rev: &ResolvedRev,
    found: &SearchFindings,
) -> serde_json::Map<String, Value> {
    let mut results = serde_json::Map::new();
    match found {
        SearchFindings::Nothing => {}
        SearchFindings::Code(hits) => add_code(context, query, rev, hits, &mut results),
        SearchFindings::Paths(hits) => {
            let paths = hits.page.items.iter().map(|hit| {
                json!({
                    "path": name_text(hit.path.as_bytes()),
                    "parts": parts(hit.text.as_bytes(), &hit.matches, name_text),
                    "href": path_link(context, rev, hit),
                })
            });
            results.insert("paths".to_owned(), paths.collect());
            results.insert("total".to_owned(), hits.total.into());
        }
        SearchFindings::Commits(_, hits) => {
            let commits = hits.items.iter().map(|hit| {
                let mut commit = commit_json(context, &hit.commit);
                commit["line"] = hit.line.as_ref().map(line_json).unwrap_or_default();
                commit
            });
            results.insert("commits".to_owned(), commits.collect());
        }
    }
    results
}

fn add_code(
    context: &RepoContext,
    query: &SearchQuery,
    rev: &ResolvedRev,
    hits: &CodeHits,
    results: &mut serde_json::Map<String, Value>,
) {
    let file = |file: &FileHits| {
        let href = context.link(View::File, rev.commit.as_str().as_bytes(), &file.path);
        let lines = file.lines.iter().map(|line| {
            let mut value = line_json(line);
            value["line"] = line.number.into();
            value["href"] = line_link(&href, &file.path, line.number).into();
            value
        });
        json!({
            "path": name_text(file.path.as_bytes()),
            "href": href,
            "lines": lines.collect::<Value>(),
            "next": file_link(context, query, file),
        })
    };
    let files = hits.page.items.iter().map(file).collect();
    for (name, value) in [
        ("files", files),
        ("searched_files", hits.searched.into()),
        ("too_large_files", hits.too_large.into()),
        ("binary_files", hits.binary.into()),
        ("damaged_files", hits.unreadable.into()),
        ("too_long_lines", hits.long_lines.into()),
    ] {
        results.insert(name.to_owned(), value);
    }
}

fn line_json(line: &MatchedLine) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    json!({
        "text": text(&line.text),
        "parts": parts(&line.text, &line.matches, text),
        "is_cut_before": line.is_cut_before,
        "is_cut_after": line.is_cut_after,
    })
}

/// A text in parts: every second one is a match.
fn parts(bytes: &[u8], matches: &[Range<usize>], text: impl Fn(&[u8]) -> String) -> Vec<String> {
    let mut parts = Vec::with_capacity(2 * matches.len() + 1);
    let mut at = 0;
    for found in matches {
        parts.push(text(&bytes[at..found.start]));
        parts.push(text(&bytes[found.clone()]));
        at = found.end;
    }
    parts.push(text(&bytes[at..]));
    parts
}
