//! `GET /{repo}/-/compare/{a}...{b}`: the commits that only `b` has, and what changed since the common ancestor; `{a}..{b}` since `a`.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::address::{Range, View, change_link, compare_form_link, compare_link};
use super::commit_row::{CommitRow, commit_json};
use super::context::{RepoContext, whole_rev};
use super::diff_colours::diff_colours;
use super::diff_lines::lines_html;
use super::diff_sections::{
    DiffAddress, DiffLook, DiffSections, MAX_PAGE_LINES, files_json, lines_json, options,
};
use super::head::{RepoHead, Tab, label};
use super::kept_page::PageBody;
use super::source_text::name_text;
use quire_git::read::{
    Budget, CommitDetails, CommitDiff, Comparison, DiffOptions, FileDiff, ReadError, Reader,
    ResolvedRev, RevPath, TreePath,
};
use quire_highlight::LineColours;

/// Commits of a page.
const MAX_PAGE_COMMITS: usize = 100;

struct CompareRead {
    first: ResolvedRev,
    second: ResolvedRev,
    comparison: Comparison,
    /// `None` if there is no common ancestor to compare with.
    diff: Option<CommitDiff>,
    /// The change that both are versions of, and how their messages differ.
    change: Option<(String, Option<FileDiff>)>,
    colours: Vec<LineColours>,
}

#[derive(Template)]
#[template(path = "repo_compare.html", block = "main")]
struct CompareTemplate {
    head: RepoHead,
    first: String,
    second: String,
    range: Range,
    /// The same revisions the other way round, and with the other kind of dots.
    swapped: String,
    other_range: String,
    /// The common ancestor: its page and the beginning of its id.
    base: Option<(String, String)>,
    rows: Vec<CommitRow>,
    total: usize,
    out_of_time: bool,
    /// Page and id of the change that both are versions of.
    change: Option<(String, String)>,
    /// How their messages differ.
    message: Option<String>,
    diff: Option<DiffSections>,
}

/// The form of two revisions redirects to their comparison.
pub(super) fn form(context: &RepoContext) -> Result<Response, WebError> {
    let value = |name| context.query_bytes(name).ok_or(WebError::NotFound);
    let range = match context.query_text("range").as_deref() {
        Some("..") => Range::FromFirst,
        _ => Range::FromBase,
    };
    let target = compare_link(&context.base, &value("a")?, &value("b")?, range);
    Ok(Redirect::to(&target).into_response())
}

pub(super) async fn page(
    context: &RepoContext,
    first: RevPath,
    second: RevPath,
    range: Range,
) -> Result<Response, WebError> {
    let options = options(context)?;
    let (asked, is_data) = (options.clone(), context.wants_json());
    let identifier = context.identifier(&compare_form_link(&context.base));
    let read = context
        .read(MAX_PAGE_LINES, move |reader, budget| {
            let (first, second) = (whole_rev(reader, &first)?, whole_rev(reader, &second)?);
            let identity = match identifier.identify(&(&first, &second, range)) {
                Ok(identity) => identity,
                Err(known) => return Ok(Err(known)),
            };
            let mut read = read(reader, (first, second), range, &asked, budget)?;
            if let Some(diff) = read.diff.as_ref().filter(|_| !is_data) {
                read.colours = diff_colours(diff);
            }
            Ok(Ok((identity, read)))
        })
        .await?;
    let (identity, read) = match read {
        Ok(read) => read,
        Err(known) => return context.send_known(known),
    };
    let place = DiffAddress {
        page: compare_link(
            &context.base,
            &read.first.spelled,
            &read.second.spelled,
            range,
        ),
        parent: 0,
        look: DiffLook::of(context),
        new: read.second.commit.clone(),
        is_commit: false,
    };
    let body = match context.wants_json() {
        true => as_json(context, &place, &read),
        false => as_html(context, &place, &read, range, &options)?,
    };
    let is_cut_short = |diff: &CommitDiff| diff.out_of_time;
    let is_whole = !read.comparison.out_of_time && !read.diff.as_ref().is_some_and(is_cut_short);
    context.send(&identity, is_whole, body).await
}

fn as_html(
    context: &RepoContext,
    place: &DiffAddress,
    read: &CompareRead,
    range: Range,
    options: &DiffOptions,
) -> Result<PageBody, WebError> {
    let other = match range {
        Range::FromBase => Range::FromFirst,
        Range::FromFirst => Range::FromBase,
    };
    let (first, second) = (&read.first.spelled, &read.second.spelled);
    let title = format!(
        "{}{}{} · {}",
        name_text(first),
        range.as_str(),
        name_text(second),
        context.repo
    );
    let main = CompareTemplate {
        head: RepoHead::new(context, Tab::Branches, None, None),
        first: label(&read.first),
        second: label(&read.second),
        range,
        swapped: compare_link(&context.base, second, first, range),
        other_range: compare_link(&context.base, first, second, other),
        base: read.comparison.base.as_ref().map(|base| {
            let id = base.as_str().as_bytes();
            let href = context.link(View::Commit, id, &TreePath::default());
            (href, base.short().to_owned())
        }),
        rows: read
            .comparison
            .commits
            .iter()
            .map(|commit| CommitRow::new(context, commit))
            .collect(),
        total: read.comparison.total,
        out_of_time: read.comparison.out_of_time,
        change: read
            .change
            .as_ref()
            .map(|(id, _)| (change_link(&context.base, id), id.clone())),
        message: read.change.as_ref().and_then(|(_, message)| {
            let lines = &message.as_ref()?.lines;
            Some(lines_html(lines, &LineColours::new(), place.look.view).0)
        }),
        diff: read
            .diff
            .as_ref()
            .map(|diff| DiffSections::new(context, place, diff, options, &read.colours)),
    };
    PageBody::html(title, &main)
}

fn read(
    reader: &Reader,
    (first, second): (ResolvedRev, ResolvedRev),
    range: Range,
    options: &DiffOptions,
    budget: &Budget,
) -> Result<CompareRead, ReadError> {
    let commits = budget.with_lines(MAX_PAGE_COMMITS);
    let comparison = reader.compare(&first.commit, &second.commit, &commits)?;
    let old = match range {
        Range::FromBase => comparison.base.as_ref(),
        Range::FromFirst => Some(&first.commit),
    };
    let diff = old
        .map(|old| reader.diff_between(old, &second.commit, options, budget))
        .transpose()?;
    let [old, new] = [&first, &second].map(|rev| reader.commit(&rev.commit));
    let change = new?.summary.change_id.filter(|id| {
        let is_same = |old: CommitDetails| old.summary.change_id.as_ref() == Some(id);
        first.commit != second.commit && old.is_ok_and(is_same)
    });
    let message = || reader.message_diff(&first.commit, &second.commit);
    let change = change
        .map(|id| Ok::<_, ReadError>((id, message()?)))
        .transpose()?;
    Ok(CompareRead {
        first,
        second,
        comparison,
        diff,
        change,
        colours: Vec::new(),
    })
}

fn as_json(context: &RepoContext, place: &DiffAddress, read: &CompareRead) -> PageBody {
    let commits = read.comparison.commits.iter();
    let commits: Vec<Value> = commits.map(|commit| commit_json(context, commit)).collect();
    let diff = read.diff.as_ref();
    PageBody::json(&json!({
        "repo": context.repo,
        "first": read.first.commit,
        "second": read.second.commit,
        "base": read.comparison.base,
        "commits": commits,
        "total_commits": read.comparison.total,
        "out_of_time": read.comparison.out_of_time,
        "change_id": read.change.as_ref().map(|(id, _)| id),
        "message": read.change.as_ref().and_then(|(_, message)| Some(lines_json(&message.as_ref()?.lines))),
        "total_files": diff.map(|diff| diff.total),
        "is_cut": diff.map(|diff| diff.is_cut),
        "files": diff.map(|diff| files_json(place, diff)),
        "next": diff.and_then(|diff| place.next_link(diff)),
    }))
}
