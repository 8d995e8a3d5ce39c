//! `GET /{repo}/-/badge.svg`: the state of the newest run of a branch, or of one of its jobs, as a picture.
//!
//! The default branch, unless `branch=` names another; `job=` names the job. `/{repo}/badge.svg` shows it as well, where no repository
//! has that name.

use askama::Template;
use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::WebError;
use super::super::page::ContentPolicy;
use super::context::RepoContext;
use super::source_text::name_text;
use quire_store::{RunFilter, Store};
use quire_types::names::RefName;
use quire_types::run::Run;
use quire_types::text::excerpt;

/// Width of a character, roughly; the text is fitted to it.
const CHARACTER: usize = 7;
const PADDING: usize = 12;
/// Characters of a label.
const MAX_LABEL: usize = 40;

#[derive(Template)]
#[template(
    ext = "svg",
    source = r##"<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="20" role="img" aria-label="{{ label }}: {{ word }}">
<title>{{ label }}: {{ word }}</title>
<rect width="{{ width }}" height="20" rx="3" fill="#444"/>
<path d="M{{ left }} 0h{{ right - 3 }}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{{ right - 3 }}z" fill="{{ color }}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{{ left / 2 }}" y="14" textLength="{{ left - 12 }}">{{ label }}</text>
<text x="{{ left + right / 2 }}" y="14" textLength="{{ right - 12 }}">{{ word }}</text>
</g>
</svg>
"##
)]
struct BadgeTemplate {
    label: String,
    word: &'static str,
    color: &'static str,
    left: usize,
    right: usize,
    width: usize,
}

impl BadgeTemplate {
    fn new(label: &str, word: &'static str) -> Self {
        let label = excerpt(label, MAX_LABEL);
        let left = label.chars().count() * CHARACTER + PADDING;
        let right = word.chars().count() * CHARACTER + PADDING;
        Self {
            label,
            word,
            color: color(word),
            left,
            right,
            width: left + right,
        }
    }
}

/// Dark enough for white letters.
fn color(word: &str) -> &'static str {
    match word {
        "complete" => "#1b6a3c",
        "failed" => "#b3261e",
        "active" => "#24509a",
        _ => "#635c51",
    }
}

pub(super) async fn page(context: &RepoContext) -> Result<Response, WebError> {
    let branch = branch(context).await?;
    let job = context.query_text("job");
    let newest = match branch.clone() {
        Some(branch) => newest_run(context, branch).await?,
        None => None,
    };
    let word = match (&newest, &job) {
        (None, _) => "no runs",
        (Some(run), None) => run.state.as_str(),
        (Some(run), Some(job)) => job_word(context, run, job).await?,
    };
    if context.wants_json() {
        return Ok(Json(json!({
            "repo": context.repo,
            "ref": branch,
            "job": job,
            "state": word,
            "run": newest.map(|run| run.id),
        }))
        .into_response());
    }
    let label = job.map_or_else(|| "ci".to_owned(), |job| name_text(job.as_bytes()));
    let text = BadgeTemplate::new(&label, word).render()?;
    let headers = [(header::CONTENT_TYPE, "image/svg+xml")];
    let mut response = (headers, text).into_response();
    response.extensions_mut().insert(ContentPolicy::Sandbox);
    Ok(response)
}

/// The branch that is asked for; `None` if there is no default branch.
async fn branch(context: &RepoContext) -> Result<Option<RefName>, WebError> {
    if let Some(name) = context.query_text("branch") {
        let full = format!("refs/heads/{name}");
        return Ok(Some(full.parse().map_err(|_| WebError::NotFound)?));
    }
    let head = context.read(1, |reader, _| reader.head()).await?;
    let full = head.and_then(|head| head.ref_name);
    Ok(full.and_then(|full| String::from_utf8(full).ok()?.parse().ok()))
}

async fn newest_run(context: &RepoContext, branch: RefName) -> Result<Option<Run>, WebError> {
    let filter = RunFilter {
        repo: Some(context.repo.clone()),
        ref_name: Some(branch),
        limit: 1,
        ..RunFilter::default()
    };
    let list = move |store: &Store| store.runs().list(&filter);
    Ok(context.app.web.store.call(list).await?.pop())
}

async fn job_word(context: &RepoContext, run: &Run, job: &str) -> Result<&'static str, WebError> {
    let id = run.id;
    let list = move |store: &Store| store.jobs().list_without_outputs(id);
    let jobs = context.app.web.store.call(list).await?;
    let found = jobs.iter().find(|known| known.job_id.as_str() == job);
    Ok(found.map_or("no such job", |job| job.state.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_a_small_picture() {
        let badge = BadgeTemplate::new("a<b>&\"", "complete").render().unwrap();
        insta::assert_snapshot!(badge);
    }
}
