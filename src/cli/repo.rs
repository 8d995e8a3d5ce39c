//! `quire repo`: repositories.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;

use super::manage::{Context, Format};
use super::output::{Cell, Out};
use super::report::Failure;
use super::start::no_repository;
use crate::clock::Millis;
use crate::git::Git;
use crate::hook;
use crate::names::RepoName;
use crate::renaming::{Names, RenameError, Renaming, remove_run_folders, run_folders};
use crate::run::Run;
use crate::run::event::SocketRequest;
use crate::store::{RepoSummary, RunFilter, Store};

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
    /// Give a repository another name. Its runs go on; the old name leads to it until somebody takes it.
    Rename {
        /// Which.
        name: RepoName,
        /// What it is called from now on: `name` or `group/name`.
        new_name: RepoName,
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
        let (Self::List(format)
        | Self::New { format, .. }
        | Self::Rename { format, .. }
        | Self::Rm { format, .. }) = self;
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

/// A repository and the name it had before.
#[derive(Serialize)]
struct Renamed<'a> {
    repo: &'a RepoName,
    former_name: &'a RepoName,
}

/// Carries a command out.
pub(super) fn repo(
    context: &Context<'_>,
    command: &RepoCommand,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    match command {
        RepoCommand::List(_) => list(context, out),
        RepoCommand::New { name, .. } => new(context, name, out),
        RepoCommand::Rename { name, new_name, .. } => rename(context, name, new_name, out),
        RepoCommand::Rm { name, yes, .. } => remove(context, name, *yes, out),
    }
}

fn list(context: &Context<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    // Before the server's first start there is no database, and repositories may be there already.
    let summaries = if context.paths.database().exists() {
        context.store()?.repo_summaries()?
    } else {
        Vec::new()
    };
    let mut summaries: HashMap<RepoName, RepoSummary> = summaries
        .into_iter()
        .map(|summary| (summary.repo.clone(), summary))
        .collect();
    let row = |repo: RepoName| {
        let summary = summaries.remove(&repo);
        let (last_push_ms, newest_run) = summary.map_or((None, None), |summary| {
            (summary.last_push_ms, summary.newest_run)
        });
        Row {
            default_branch: git.default_branch(&repo).ok().flatten(),
            repo,
            last_push_ms,
            newest_run,
        }
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
        let state = row
            .newest_run
            .as_ref()
            .map_or_else(|| "-".into(), |run| Cell::from(run.state));
        let branch = row.default_branch.as_deref().unwrap_or("-");
        [
            row.repo.as_str().into(),
            branch.into(),
            out.when(row.last_push_ms).into(),
            state,
        ]
    };
    let rows: Vec<_> = repos.iter().map(cells).collect();
    out.table(["REPOSITORY", "BRANCH", "LAST PUSH", "NEWEST RUN"], &rows)
}

fn new(context: &Context<'_>, name: &RepoName, out: &mut Out<'_>) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    let led_to = git.current(name);
    if led_to == *name {
        if !git.create(name)? {
            return Err(Failure::failed(format!(
                "the repository `{name}` exists already"
            )));
        }
    } else {
        let renaming = Renaming::new(context.paths, context.store()?);
        renaming.hold()?.take_back(name)?;
    }
    if out.json {
        return out.json(&Rows {
            repos: vec![Named { repo: name }],
        });
    }
    let taken = if led_to == *name {
        String::new()
    } else {
        format!("; the name no longer leads to {led_to}")
    };
    out.line(&format!("created repository {name}{taken}"))
}

fn rename(
    context: &Context<'_>,
    name: &RepoName,
    new_name: &RepoName,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    let renaming = Renaming::new(context.paths, context.store()?);
    match renaming.hold()?.rename(name, new_name) {
        Ok(()) => {}
        Err(RenameError::Unknown(name)) => return Err(no_repository(&git, &name)?),
        // It would not be tried again before the next look.
        Err(error @ RenameError::Unfinished(_)) => {
            hook::wake(context.paths);
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    }
    // Its runs may be claimed again.
    hook::wake(context.paths);
    if out.json {
        return out.json(&Rows {
            repos: vec![Renamed {
                repo: new_name,
                former_name: name,
            }],
        });
    }
    out.line(&format!(
        "renamed {name} to {new_name}; {name} leads there until something else takes the name"
    ))
}

/// Has the runs of a repository stopped, so that nothing writes where everything is about to go.
fn end_runs(context: &Context<'_>, store: &Store, name: &RepoName) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let active: Vec<_> = store
            .active_runs()?
            .into_iter()
            .filter(|run| run.repo == *name)
            .collect();
        if active.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let failure = Failure::failed(format!(
                "a run of `{name}` is still being stopped, so nothing was removed"
            ));
            return Err(
                failure.hint("`run list --state active` shows it; try again when it has ended")
            );
        }
        for run in active.iter().filter(|run| run.stop_requested.is_none()) {
            store.request_cancel(run.id)?;
        }
        hook::wake(context.paths);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn has_runs(store: &Store, name: &RepoName) -> Result<bool, Failure> {
    let filter = RunFilter {
        repo: Some(name.clone()),
        limit: 1,
        ..RunFilter::default()
    };
    Ok(!store.list_runs(&filter)?.is_empty())
}

fn remove(
    context: &Context<'_>,
    name: &RepoName,
    yes: bool,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    let renaming = if context.paths.database().exists() {
        Some(Renaming::new(context.paths, context.store()?))
    } else {
        None
    };
    let names = renaming.as_ref().map(Renaming::hold).transpose()?;
    // A rename that was begun comes first; one that cannot go on (a full disk, perhaps) keeps nobody from making room.
    let settle = || names.as_ref().map(Names::settle);
    let _ = settle();
    let current = git.current(name);
    if current != *name {
        return Err(RenameError::Former {
            name: name.clone(),
            repo: current,
        }
        .into());
    }
    // What an earlier `rm` that was cut off left is removed as well.
    if !git.exists(name)?
        && run_folders(context.paths, name)?.is_empty()
        && (names.is_none() || !has_runs(&context.store()?, name)?)
    {
        return Err(no_repository(&git, name)?);
    }
    if !yes {
        let failure = Failure::usage(format!(
            "`repo rm` removes `{name}`, its runs and their logs for good"
        ));
        return Err(failure.hint("say `--yes` if that is what you want"));
    }
    if names.is_some() {
        end_runs(context, &context.store()?, name)?;
    }
    if git.exists(name)? {
        git.remove(name)?;
    }
    if names.is_some() {
        context.store()?.forget_repo(name)?;
        hook::wake(context.paths);
    }
    remove_run_folders(context.paths, name)?;
    // The names that led to it are free; the server sees to it as well.
    let _ = settle();
    // Best effort: of a repository that is gone, the server removes them by itself.
    let _ = hook::ask(
        context.paths,
        &SocketRequest::ClearCaches {
            repo: name.clone(),
            name: None,
        },
        PATIENCE,
    );
    if out.json {
        out.json(&Rows {
            repos: vec![Named { repo: name }],
        })
    } else {
        out.line(&format!("removed repository {name}"))
    }
}
