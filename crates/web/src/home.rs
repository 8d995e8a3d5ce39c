//! `GET /`: the repositories with the state of their default branches; for an empty appliance, how to start.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::access::RepoAccess;
use super::error::WebError;
use super::html as pieces;
use super::layout::{Layout, html};
use super::request_config::RequestConfig;
use super::response_format::ResponseFormat;
use super::robots::Indexing;
use super::run_data::without_private_fields;
use super::state::{App, SharedApp};
use super::viewer::Viewer;
use quire_git::Git;
use quire_server::forge::repos::DESCRIPTIONS_TIME;
use quire_server::forge::views::{RunJson, views};
use quire_store::{BranchRuns, RepoSummary, RunFilter, Store, StoreError};
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName};
use quire_types::paths::Paths;
use quire_types::run::{Run, RunState};

/// How many of the newest runs the data has.
const MAX_NEWEST_RUNS: u32 = 15;
/// How many runs of its default branch a repository shows.
const MAX_RECENT_RUNS: u32 = 10;

struct RepoLine {
    name: RepoName,
    path: String,
    last_push_ms: Option<Millis>,
    /// Of any ref.
    newest_run: Option<Run>,
    /// Those of the default branch.
    branch: BranchRuns,
}

impl RepoLine {
    /// Failing repositories come first, then those in which something runs; of these the most recently pushed.
    fn sort_key(&self) -> impl Ord + use<> {
        let rank = match self.branch.newest.as_ref().map(|run| run.state) {
            Some(RunState::Failed) => 0,
            Some(RunState::Active | RunState::Pending) => 1,
            _ => 2,
        };
        (rank, Reverse(self.last_push_ms), self.name.clone())
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    layout: Layout,
    now: Millis,
    repos: Vec<RepoLine>,
    /// There are repositories, and none of them has a run.
    has_no_run: bool,
    /// For a client that is not signed in: the page is not live.
    is_stranger: bool,
    /// There is no key yet, so no user can push.
    no_key: bool,
    remote: String,
    list_command: String,
    key_file: String,
}

/// `GET /`.
pub(super) async fn page(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    RequestConfig(config): RequestConfig,
    format: ResponseFormat,
) -> Result<Response, WebError> {
    let paths = app.web.paths.clone();
    let listed = tokio::task::spawn_blocking(move || {
        let git = Git::new(&paths);
        let mut repos = repositories(&paths.repos());
        // Not by their former names.
        repos.retain(|repo| git.resolve(repo) == *repo);
        let heads: Vec<_> = repos.iter().map(|repo| git.head_branch(repo)).collect();
        // A repository whose HEAD cannot be read is shown with its newest run.
        let heads = heads.into_iter().map(|head| head.ok().flatten());
        let on_disk: Vec<_> = repos.iter().cloned().zip(heads).collect();
        (on_disk, has_no_key(&paths))
    });
    let (on_disk, no_key) = listed.await?;
    let is_stranger = viewer.is_stranger;
    let filter = RunFilter {
        limit: MAX_NEWEST_RUNS,
        ..RunFilter::default()
    };
    let read = move |store: &Store| Ok((read_lines(store, on_disk)?, store.runs().list(&filter)?));
    let (mut repos, mut runs) = app.web.store.call(read).await?;
    if is_stranger {
        repos = shown_to_strangers(&app, &viewer, repos).await?;
        runs = Vec::new();
    }
    if format == ResponseFormat::Json {
        let deadline = Instant::now() + DESCRIPTIONS_TIME;
        let mut lines = Vec::with_capacity(repos.len());
        for line in &repos {
            let description = match Instant::now() < deadline {
                true => description(&app, &viewer, &line.name).await,
                false => None,
            };
            lines.push(line_json(line, description.as_deref()));
        }
        return Ok(
            Json(json!({ "repos": lines, "runs": views::<_, RunJson<'_>>(&runs) })).into_response(),
        );
    }
    let now = app.web.clock.now();
    let mut response = html(&HomePage {
        layout: Layout::new(&app, Some(&viewer), "quire"),
        now,
        has_no_run: !is_stranger && runs.is_empty(),
        repos,
        is_stranger,
        no_key: no_key && !is_stranger,
        remote: config.ssh_url("my-project.git"),
        list_command: config.ssh_command("run list"),
        key_file: app.web.paths.authorized_keys().display().to_string(),
    })?;
    if is_stranger {
        response.extensions_mut().insert(Indexing::Links);
    }
    Ok(response)
}

/// What a repository is. One that cannot be read has no description here, and does not keep the others from being listed.
async fn description(app: &App, viewer: &Viewer, repo: &RepoName) -> Option<String> {
    let access = RepoAccess::of(app, viewer, repo).await.ok()?;
    access.description(app, repo).await.ok().flatten()
}

/// The repositories that are shown to everyone; [`WebError::SignIn`] if there are none.
async fn shown_to_strangers(
    app: &App,
    viewer: &Viewer,
    repos: Vec<RepoLine>,
) -> Result<Vec<RepoLine>, WebError> {
    let mut shown = Vec::new();
    for repo in repos {
        match RepoAccess::of(app, viewer, &repo.name).await {
            Ok(access) => {
                let branch = match access.sees_runs() {
                    true => repo.branch,
                    false => BranchRuns::default(),
                };
                let newest_run = repo.newest_run.filter(|_| access.sees_runs());
                shown.push(RepoLine {
                    newest_run: newest_run.map(without_private_fields),
                    branch: BranchRuns {
                        newest: branch.newest.map(without_private_fields),
                        ..branch
                    },
                    ..repo
                });
            }
            Err(WebError::SignIn) => {}
            Err(error) => return Err(error),
        }
    }
    match shown.is_empty() {
        true => Err(WebError::SignIn),
        false => Ok(shown),
    }
}

fn line_json(line: &RepoLine, description: Option<&str>) -> Value {
    let recent = line.branch.recent.iter();
    let recent =
        recent.map(|run| json!({ "id": run.id, "number": run.number, "state": run.state }));
    json!({
        "repo": line.name,
        "description": description,
        "last_push_ms": line.last_push_ms,
        "newest_run": line.newest_run.as_ref().map(RunJson::from),
        "default_branch_run": line.branch.newest.as_ref().map(RunJson::from),
        "default_branch_runs": recent.collect::<Vec<_>>(),
    })
}

/// Everything that lies in the repository folder, with its HEAD, and with what the database knows of it.
fn read_lines(
    store: &Store,
    on_disk: Vec<(RepoName, Option<RefName>)>,
) -> Result<Vec<RepoLine>, StoreError> {
    let summaries = store.repos().summaries()?.into_iter();
    let mut known: BTreeMap<RepoName, RepoSummary> = summaries
        .map(|summary| (summary.repo.clone(), summary))
        .collect();
    let mut lines = Vec::with_capacity(on_disk.len());
    for (name, head) in on_disk {
        let (last_push_ms, newest_run) = known.remove(&name).map_or((None, None), |summary| {
            (summary.last_push_ms, summary.newest_run)
        });
        let of_newest = newest_run.as_ref().map(|run| run.ref_name.clone());
        let branch = match head.or(of_newest) {
            Some(branch) => store
                .repos()
                .runs_of_branch(&name, &branch, MAX_RECENT_RUNS)?,
            None => BranchRuns::default(),
        };
        lines.push(RepoLine {
            path: pieces::repo_path(&name),
            name,
            last_push_ms,
            newest_run,
            branch,
        });
    }
    lines.sort_by_cached_key(RepoLine::sort_key);
    Ok(lines)
}

/// The names of all repositories on disk. What is unreadable or oddly named is none.
fn repositories(folder: &Path) -> Vec<RepoName> {
    let mut found = Vec::new();
    for (name, path) in folders(folder) {
        match name.strip_suffix(".git") {
            Some(repo) => found.extend(repo.parse::<RepoName>()),
            None => {
                let inner = folders(&path).filter_map(|(inner, _)| {
                    format!("{name}/{}", inner.strip_suffix(".git")?)
                        .parse()
                        .ok()
                });
                found.extend(inner);
            }
        }
    }
    found
}

fn folders(path: &Path) -> impl Iterator<Item = (String, std::path::PathBuf)> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|e| e.path().is_dir())
        .filter_map(|e| Some((e.file_name().into_string().ok()?, e.path())))
}

/// Whether the keys that sshd reads are none at all. Without such a file there is no sshd of ours, and nothing to say.
fn has_no_key(paths: &Paths) -> bool {
    std::fs::read_to_string(paths.merged_authorized_keys()).is_ok_and(|text| {
        text.lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_found_one_group_deep() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.git",
            "work/a.git",
            "work/deep/x.git",
            ".hidden.git",
            "work/not-one",
        ] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("file.git"), "").unwrap();
        let mut names: Vec<String> = repositories(folder.path())
            .iter()
            .map(ToString::to_string)
            .collect();
        names.sort();
        assert_eq!(names, ["b", "work/a"]);
        assert!(repositories(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn no_key_is_an_empty_file() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        assert!(!has_no_key(&paths));
        std::fs::write(paths.merged_authorized_keys(), "\n# none yet\n").unwrap();
        assert!(has_no_key(&paths));
        std::fs::write(paths.merged_authorized_keys(), "ssh-ed25519 AAAA me\n").unwrap();
        assert!(!has_no_key(&paths));
    }

    #[test]
    fn page_of_an_empty_appliance() {
        let page = HomePage {
            layout: Layout::sample("quire"),
            now: Millis(0),
            repos: Vec::new(),
            has_no_run: false,
            is_stranger: false,
            no_key: true,
            remote: "ssh://git@nas/my-project.git".to_owned(),
            list_command: "ssh git@nas run list".to_owned(),
            key_file: "/var/quire/authorized_keys".to_owned(),
        };
        insta::assert_snapshot!(page.render().unwrap());
    }
}
