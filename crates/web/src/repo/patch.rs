//! `GET /{repo}/-/commit/{rev}.patch` and `.diff`, and those of a comparison: changes as text that git applies.
//!
//! A revision whose own name ends so has precedence. The text is written while the client reads it, in a thread of its own, and
//! ends when the client disconnects; what is too large is refused before the first byte.

use std::io;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::super::error::WebError;
use super::super::page::ContentPolicy;
use super::super::strangers::PacedWriter;
use super::super::written_body::written_body;
use super::address::{Range, View};
use super::context::{FIXED_MAX_AGE, RepoContext, whole_rev};
use super::page_identity::{entity_tag, unchanged};
use quire_git::read::{
    Budget, PatchContent, PatchError, PatchFormat, ReadError, Reader, ResolvedRev, RevPath,
    TreePath,
};

/// What a patch is made of, and whether its address means the same for ever.
struct PlannedPatch {
    content: PatchContent,
    is_fixed: bool,
}

/// The patch of a commit, if the address may be that of one.
pub(super) async fn of_commit(
    context: &RepoContext,
    wanted: &RevPath,
) -> Result<Response, WebError> {
    let (format, wanted) = without_extension(wanted).ok_or(WebError::NotFound)?;
    let parent = context.query_number("parent")?.unwrap_or(1);
    let parent = parent.checked_sub(1).ok_or(WebError::NotFound)?;
    let (rev, planned) = context
        .read(1, move |reader, budget| {
            let rev = whole_rev(reader, &wanted)?;
            let content = reader.patch_of_commit(&rev.commit, parent, format, budget)?;
            let is_fixed = rev.is_fixed();
            Ok((rev, PlannedPatch { content, is_fixed }))
        })
        .await?;
    if rev.is_abbreviated {
        let target = context.link(View::Commit, &rev.spelled, &TreePath::default());
        let query = match context.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let target = format!("{target}{}{query}", format.extension());
        return Ok(Redirect::temporary(&target).into_response());
    }
    send(context, format, planned).await
}

/// The patch of a comparison, if the address may be that of one.
pub(super) async fn of_comparison(
    context: &RepoContext,
    first: RevPath,
    second: &RevPath,
    range: Range,
) -> Result<Response, WebError> {
    let (format, second) = without_extension(second).ok_or(WebError::NotFound)?;
    let planned = context
        .read(1, move |reader, budget| {
            let (first, second) = (whole_rev(reader, &first)?, whole_rev(reader, &second)?);
            Ok(PlannedPatch {
                content: compared(reader, (&first, &second), range, format, budget)?,
                is_fixed: first.is_fixed() && second.is_fixed(),
            })
        })
        .await?;
    send(context, format, planned).await
}

fn compared(
    reader: &Reader,
    (first, second): (&ResolvedRev, &ResolvedRev),
    range: Range,
    format: PatchFormat,
    budget: &Budget,
) -> Result<PatchContent, ReadError> {
    let (first, second) = (&first.commit, &second.commit);
    match (format, range) {
        (PatchFormat::Mail, _) => reader.patch_series(first, second, budget),
        (PatchFormat::Diff, Range::FromFirst) => reader.diff_as_patch(first, second, budget),
        (PatchFormat::Diff, Range::FromBase) => {
            let comparison = reader.compare(first, second, &budget.with_lines(0))?;
            if comparison.out_of_time {
                return Err(ReadError::OutOfTime);
            }
            let base = comparison.base.ok_or(ReadError::NoPath)?;
            reader.diff_as_patch(&base, second, budget)
        }
    }
}

fn without_extension(wanted: &RevPath) -> Option<(PatchFormat, RevPath)> {
    PatchFormat::ALL.into_iter().find_map(|format| {
        let rest = wanted.strip_suffix(format.extension().as_bytes())?;
        Some((format, rest))
    })
}

async fn send(
    context: &RepoContext,
    format: PatchFormat,
    planned: PlannedPatch,
) -> Result<Response, WebError> {
    let PlannedPatch { content, is_fixed } = planned;
    let version = env!("CARGO_PKG_VERSION");
    let tag = entity_tag(&format!("patch {version} {format:?} {content:?}"));
    if let Some(response) = unchanged(&context.known, &tag) {
        return Ok(response);
    }
    let turn = context.download_turn().await?;
    let folder = context.app.web.paths.repo(&context.repo);
    let pace = context.pace();
    let body = written_body(context.access.is_stranger, move |out| {
        let _turn = turn;
        let out = PacedWriter::new(out, pace);
        let written = Reader::open(&folder)
            .map_err(PatchError::Read)
            .and_then(|reader| reader.write_patch(&content, out));
        written.map_err(io::Error::other)
    });
    let mut response = ([(header::ETAG, tag)], body).into_response();
    response.extensions_mut().insert(ContentPolicy::Sandbox);
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, media_type);
    if is_fixed {
        let value = HeaderValue::from_static(FIXED_MAX_AGE);
        headers.insert(header::CACHE_CONTROL, value);
    }
    Ok(response)
}
