//! Lists of runs: of all, and of one repository.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::error::WebError;
use super::html::{self as pieces, encoded, repo_path};
use super::layout::{Layout, html};
use super::response_format::ResponseFormat;
use super::run_data::without_private_fields;
use super::state::{App, SharedApp};
use super::viewer::Viewer;
use quire_server::forge::views::{RunJson, views};
use quire_store::RunFilter;
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName, RunId};
use quire_types::run::{Run, RunState};

const MAX_PAGE_RUNS: u32 = 50;

/// Runs as a page shows them.
#[derive(Template)]
#[template(path = "list.html")]
pub(super) struct RunList {
    pub(super) runs: Vec<Run>,
    now: Millis,
    /// Whether the repository is named with each.
    with_repo: bool,
}

impl RunList {
    pub(super) fn new(runs: Vec<Run>, now: Millis, with_repo: bool) -> Self {
        Self {
            runs,
            now,
            with_repo,
        }
    }
}

/// What a list may be narrowed by.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    repo: Option<String>,
    #[serde(rename = "ref")]
    ref_name: Option<String>,
    state: Option<String>,
    before: Option<String>,
}

impl ListQuery {
    /// The filter that it stands for. Empty fields, as a form sends them, are none.
    fn filter(&self) -> Result<RunFilter, WebError> {
        fn parsed<T: std::str::FromStr<Err = E>, E: std::fmt::Display>(
            text: &Option<String>,
        ) -> Result<Option<T>, WebError> {
            let text = text.as_deref().map(str::trim).filter(|t| !t.is_empty());
            text.map(str::parse)
                .transpose()
                .map_err(|error: E| WebError::BadRequest(error.to_string()))
        }
        let ref_name = match self.ref_name.as_deref().map(str::trim) {
            Some(short) if !short.is_empty() && !short.starts_with("refs/") => {
                Some(format!("refs/heads/{short}"))
            }
            other => other.map(str::to_owned),
        };
        Ok(RunFilter {
            repo: parsed(&self.repo)?,
            ref_name: parsed::<RefName, _>(&ref_name)?,
            state: parsed::<RunState, _>(&self.state)?,
            before: parsed::<RunId, _>(&self.before)?,
            limit: MAX_PAGE_RUNS,
        })
    }
}

/// A choice of the filter above a list.
struct StateLink {
    word: &'static str,
    href: String,
    current: bool,
}

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    layout: Layout,
    /// The head of the repository, if the list is of one.
    head: Option<String>,
    list: RunList,
    ref_value: String,
    state_value: &'static str,
    states: Vec<StateLink>,
    path: String,
    older: Option<String>,
    newest: Option<String>,
    /// Whether the list is loaded again when a run changes.
    is_live: bool,
}

/// The repository whose runs are listed, and what its page has in common with its other pages.
pub(super) struct RunsPlace {
    pub(super) repo: RepoName,
    pub(super) head: String,
    pub(super) layout: Layout,
}

/// `GET /runs`.
pub(super) async fn all(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    format: ResponseFormat,
    Query(query): Query<ListQuery>,
) -> Result<Response, WebError> {
    let layout = Layout::new(&app, Some(&viewer), "Runs");
    let place = ListPlace { layout, of: None };
    list(&app, format, place, query.filter()?).await
}

/// What surrounds a list of runs.
struct ListPlace {
    layout: Layout,
    /// The one repository that it is of, and the head of its pages.
    of: Option<(RepoName, String)>,
}

/// A list of runs: of one repository with its head, or of all.
async fn list(
    app: &App,
    format: ResponseFormat,
    place: ListPlace,
    mut filter: RunFilter,
) -> Result<Response, WebError> {
    let ListPlace { layout, of } = place;
    let (of, head) = of.unzip();
    let is_for_stranger = layout.may_sign_in;
    if of.is_some() {
        filter.repo.clone_from(&of);
    }
    let asked = filter.clone();
    // One more than shown tells whether there is a next page.
    let mut runs = app
        .web
        .store
        .call(move |s| {
            s.runs().list(&RunFilter {
                limit: MAX_PAGE_RUNS + 1,
                ..asked
            })
        })
        .await?;
    let more = runs.len() > MAX_PAGE_RUNS as usize;
    runs.truncate(MAX_PAGE_RUNS as usize);
    if is_for_stranger {
        runs = runs.into_iter().map(without_private_fields).collect();
    }
    let path = of.as_ref().map_or_else(
        || "/runs".to_owned(),
        |repo| format!("{}/-/runs", repo_path(repo)),
    );
    let older = runs
        .last()
        .filter(|_| more)
        .map(|run| address(&path, &filter, of.is_none(), filter.state, Some(run.id)));
    if format == ResponseFormat::Json {
        return Ok(
            Json(json!({ "runs": views::<_, RunJson<'_>>(&runs), "next": older })).into_response(),
        );
    }
    let states = std::iter::once(None)
        .chain(RunState::ALL.iter().copied().map(Some))
        .map(|state| StateLink {
            word: state.map_or("all", RunState::as_str),
            href: address(&path, &filter, of.is_none(), state, None),
            current: filter.state == state,
        });
    let page = RunsPage {
        layout,
        head,
        list: RunList::new(runs, app.web.clock.now(), of.is_none()),
        ref_value: filter
            .ref_name
            .as_ref()
            .map_or_else(String::new, |r| r.branch().unwrap_or(r.as_str()).to_owned()),
        state_value: filter.state.map_or("", RunState::as_str),
        states: states.collect(),
        newest: filter
            .before
            .map(|_| address(&path, &filter, of.is_none(), filter.state, None)),
        path,
        older,
        is_live: !is_for_stranger,
    };
    html(&page)
}

/// The address of a list: `path` and what it is narrowed by.
fn address(
    path: &str,
    filter: &RunFilter,
    with_repo: bool,
    state: Option<RunState>,
    before: Option<RunId>,
) -> String {
    let parts = [
        (
            "repo",
            filter
                .repo
                .as_ref()
                .filter(|_| with_repo)
                .map(ToString::to_string),
        ),
        ("ref", filter.ref_name.as_ref().map(ToString::to_string)),
        ("state", state.map(|s| s.as_str().to_owned())),
        ("before", before.map(|id| id.to_string())),
    ];
    let query: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

/// `GET /<repo>/-/runs`: the runs of a repository.
pub(super) async fn of_repository(
    app: &App,
    format: ResponseFormat,
    place: RunsPlace,
    query: &str,
) -> Result<Response, WebError> {
    let filter = parse_query(query)?.filter()?;
    let RunsPlace { repo, head, layout } = place;
    let place = ListPlace {
        layout,
        of: Some((repo, head)),
    };
    list(app, format, place, filter).await
}

fn parse_query(query: &str) -> Result<ListQuery, WebError> {
    let unreadable = |_| WebError::BadRequest("the query cannot be read".to_owned());
    let uri = Uri::try_from(format!("/?{query}"))
        .map_err(|_| WebError::BadRequest("the query cannot be read".to_owned()))?;
    let Query(query) = Query::try_from_uri(&uri).map_err(unreadable)?;
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<RunFilter, WebError> {
        parse_query(text)?.filter()
    }

    #[test]
    fn a_query_is_parsed_or_refused() {
        let filter = asked("ref=main&state=failed&repo=&before=").unwrap();
        assert_eq!(filter.ref_name.unwrap().as_str(), "refs/heads/main");
        assert_eq!(
            (filter.state, filter.repo, filter.before),
            (Some(RunState::Failed), None, None)
        );
        assert!(
            asked("").unwrap().ref_name.is_none() && asked("ref=+").unwrap().ref_name.is_none()
        );
        for bad in ["state=done", "ref=a..b", "repo=../x", "before=1"] {
            assert!(matches!(asked(bad), Err(WebError::BadRequest(_))), "{bad}");
        }
    }

    #[test]
    fn an_address_carries_the_filter() {
        let filter = asked("ref=a%26b&repo=work/x").unwrap();
        assert_eq!(
            address("/runs", &filter, true, Some(RunState::Active), None),
            "/runs?repo=work/x&ref=refs/heads/a%26b&state=active"
        );
        assert_eq!(
            address("/x/-/runs", &RunFilter::default(), false, None, None),
            "/x/-/runs"
        );
    }
}
