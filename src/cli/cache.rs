//! `quire cache`: what runs keep from one to the next. The engine that has it is reached by
//! `serve` alone, so `serve` is asked.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::manage::{Context, Format};
use super::output::{Cell, Out};
use super::report::Failure;
use crate::git::Git;
use crate::hook;
use crate::names::RepoName;
use crate::run::event::{AnsweredCache, SocketAnswer, SocketRequest};
use crate::space::in_words;

/// How long `serve` may take: an engine removes a large volume slowly.
const PATIENCE: Duration = Duration::from_secs(130);

/// What can be done with caches.
#[derive(Subcommand)]
pub(super) enum CacheCommand {
    /// List the caches of all repositories.
    List {
        /// Only of this repository.
        #[arg(long)]
        repo: Option<RepoName>,
        #[command(flatten)]
        format: Format,
    },
    /// Remove the caches of a repository, or one of them.
    Clear {
        /// The repository.
        repo: RepoName,
        /// The cache.
        name: Option<String>,
        #[command(flatten)]
        format: Format,
    },
}

impl CacheCommand {
    pub(super) fn json(&self) -> bool {
        let (Self::List { format, .. } | Self::Clear { format, .. }) = self;
        format.json
    }
}

#[derive(Serialize)]
struct Caches {
    caches: Vec<AnsweredCache>,
}

/// Carries a command out.
pub(super) fn cache(
    context: &Context<'_>,
    command: &CacheCommand,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let git = Git::new(context.paths);
    let request = match command {
        CacheCommand::List { repo, .. } => SocketRequest::Caches {
            repo: repo.as_ref().map(|repo| git.current(repo)),
        },
        CacheCommand::Clear { repo, name, .. } => SocketRequest::ClearCaches {
            repo: git.current(repo),
            name: name.clone(),
        },
    };
    let caches = match hook::ask(context.paths, &request, PATIENCE) {
        Ok(SocketAnswer::Caches { caches }) => caches,
        Ok(_) => {
            return Err(Failure::failed(
                "the server answered something else than was asked".to_owned(),
            ));
        }
        Err(why) => return Err(Failure::failed(why)),
    };
    match command {
        CacheCommand::Clear {
            repo,
            name: Some(name),
            ..
        } if caches.is_empty() => Err(Failure::not_found(format!(
            "`{repo}` has no cache `{name}`"
        ))
        .hint(format!("`cache list --repo {repo}` shows those it has"))),
        _ if out.json => out.json(&Caches { caches }),
        CacheCommand::List { .. } => list(&caches, out),
        CacheCommand::Clear { .. } if caches.is_empty() => out.line("no caches"),
        CacheCommand::Clear { .. } => caches.iter().try_for_each(|cache| {
            out.line(&format!(
                "removed the cache {} of {}",
                cache.name, cache.repo
            ))
        }),
    }
}

fn list(caches: &[AnsweredCache], out: &mut Out<'_>) -> Result<(), Failure> {
    if caches.is_empty() {
        return out.line("no caches");
    }
    let cells = |cache: &AnsweredCache| -> [Cell; 5] {
        let size = cache.bytes.map_or_else(|| "-".to_owned(), in_words);
        let used = out.when(cache.used_at_ms);
        [
            cache.repo.as_str().into(),
            cache.name.as_str().into(),
            cache.executor.to_string().into(),
            size.into(),
            used.into(),
        ]
    };
    let rows: Vec<_> = caches.iter().map(cells).collect();
    out.table(
        ["REPOSITORY", "CACHE", "EXECUTOR", "SIZE", "LAST USE"],
        &rows,
    )
}
