//! `quire repo`: repositories.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;

use super::manage::{Context, Format};
use super::output::{Cell, Out};
use super::report::Failure;
use super::start::no_repository;
use crate::artifacts;
use crate::clock::Millis;
use crate::git::Git;
use crate::hook;
use crate::names::RepoName;
use crate::paths::run_folders;
use crate::run::Run;
use crate::run::event::SocketRequest;
use crate::store::{RepoSummary, Store};

/// How long the runs of a repository that is removed may take to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// What can be done with repositories.
#[derive(Subcommand)]
pub(super) enum RepoCommand {
    /// List all repositories.
    List(Format),
    /// Make an empty repository. A push to a new name does so too.
    New {
        /// `name` or `group/name`.
        name: RepoName,
        #[command(flatten)]
        format: Format,
    },
    /// Remove a repository with its runs and their logs, for good.
    Rm {
        /// Which.
        name: RepoName,
        /// Really.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: Format,
    },
}

impl RepoCommand {
    pub(super) fn json(&self) -> bool {
        let (Self::List(format) | Self::New { format, .. } | Self::Rm { format, .. }) = self;
        format.json
    }
}

/// A repository as it is listed.
#[derive(Debug, Serialize)]
struct Row {
    repo: RepoName,
    default_branch: Option<String>,
    last_push_ms: Option<Millis>,
    newest_run: Option<Run>,
}

#[derive(Serialize)]
struct Rows<T> {
    repos: Vec<T>,
}

/// A repository of which no more is told than its name.
#[derive(Serialize)]
struct Named<'a> {
    repo: &'a RepoName,
}

/// Carries a command out.
pub(super) fn repo(context: &Context<'_>, command: &RepoCommand, out: &mut Out<'_>) -> Result<(), Failure> {
    match command {
        RepoCommand::List(_) => list(context, out),
        RepoCommand::New { name, .. } => new(context, name, out),
        RepoCommand::Rm { name, yes, .. } => remove(context, name, *yes, out),
    }
}

fn list(context: &Context<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    // Before the server's first start there is no database, and repositories may be there already.
    let summaries = if context.paths.database().exists() { context.store()?.repo_summaries()? } else { Vec::new() };
    let mut summaries: HashMap<RepoName, RepoSummary> = summaries.into_iter().map(|summary| (summary.repo.clone(), summary)).collect();
    let row = |repo: RepoName| {
        let summary = summaries.remove(&repo);
        let (last_push_ms, newest_run) = summary.map_or((None, None), |summary| (summary.last_push_ms, summary.newest_run));
        Row { default_branch: git.default_branch(&repo).ok().flatten(), repo, last_push_ms, newest_run }
    };
    show(git.list()?.into_iter().map(row).collect(), out)
}

fn show(repos: Vec<Row>, out: &mut Out<'_>) -> Result<(), Failure> {
    if out.json {
        return out.json(&Rows { repos });
    }
    if repos.is_empty() {
        return out.line("no repositories yet; a push creates one");
    }
    let cells = |row: &Row| {
        let state = row.newest_run.as_ref().map_or_else(|| "-".into(), |run| Cell::from(run.state));
        let branch = row.default_branch.as_deref().unwrap_or("-");
        [row.repo.as_str().into(), branch.into(), out.when(row.last_push_ms).into(), state]
    };
    let rows: Vec<_> = repos.iter().map(cells).collect();
    out.table(["REPOSITORY", "BRANCH", "LAST PUSH", "NEWEST RUN"], &rows)
}

fn new(context: &Context<'_>, name: &RepoName, out: &mut Out<'_>) -> Result<(), Failure> {
    if !Git::new(context.paths).create(name)? {
        return Err(Failure::failed(format!("the repository `{name}` exists already")));
    }
    if out.json { out.json(&Rows { repos: vec![Named { repo: name }] }) } else { out.line(&format!("created repository {name}")) }
}

/// Has the runs of a repository stopped, so that nothing writes where everything is about to go.
fn end_runs(context: &Context<'_>, store: &Store, name: &RepoName) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let active: Vec<_> = store.active_runs()?.into_iter().filter(|run| run.repo == *name).collect();
        if active.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let failure = Failure::failed(format!("a run of `{name}` is still being stopped, so nothing was removed"));
            return Err(failure.hint("`run list --state active` shows it; try again when it has ended"));
        }
        for run in active.iter().filter(|run| run.stop_requested.is_none()) {
            store.request_cancel(run.id)?;
        }
        hook::wake(context.paths);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn remove(context: &Context<'_>, name: &RepoName, yes: bool, out: &mut Out<'_>) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    // What an earlier `rm` that was cut off left is removed as well.
    let left = || run_folders(&context.paths.repo_runs(name)).is_ok_and(|runs| !runs.is_empty());
    if !git.exists(name) && !left() {
        return Err(no_repository(&git, name)?);
    }
    if !yes {
        let failure = Failure::usage(format!("`repo rm` removes `{name}`, its runs and their logs for good"));
        return Err(failure.hint("say `--yes` if that is what you want"));
    }
    let store = if context.paths.database().exists() { Some(context.store()?) } else { None };
    if let Some(store) = &store {
        end_runs(context, store, name)?;
    }
    if git.exists(name) {
        git.remove(name)?;
    }
    if let Some(store) = &store {
        store.forget_repo(name)?;
        hook::wake(context.paths);
    }
    let logs = context.paths.repo_runs(name);
    if let Err(error) = artifacts::remove_runs(&logs) {
        return Err(Failure::failed(format!("the repository is gone, its logs in {} are not: {error}", logs.display())));
    }
    // Best effort: of a repository that is gone, the server removes them by itself.
    let _ = hook::ask(context.paths, &SocketRequest::ClearCaches { repo: name.clone(), name: None }, PATIENCE);
    if let Err(error) = artifacts::remove_repo(context.paths, name) {
        return Err(Failure::failed(format!("the repository is gone, some of what its runs kept is not: {error}")));
    }
    if out.json { out.json(&Rows { repos: vec![Named { repo: name }] }) } else { out.line(&format!("removed repository {name}")) }
}
