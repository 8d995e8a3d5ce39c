//! `quire cache`: lists and clears the caches that runs share. Only the server reaches the engine that
//! holds them, so it does the work.

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_server::control::protocol::CacheEntry;
use quire_server::forge::caches;
use quire_types::names::RepoName;
use quire_types::text::format_bytes;

#[derive(Subcommand)]
pub(super) enum CacheCommand {
    /// List caches with their size and last use
    List {
        /// Only caches of this repository
        #[arg(long)]
        repo: Option<RepoName>,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Remove all caches of a repository, or one of them
    Clear {
        /// The repository
        repo: RepoName,
        /// The cache; all if none is named
        name: Option<String>,
        #[command(flatten)]
        format: OutputArgs,
    },
}

impl CacheCommand {
    pub(super) fn format(&self) -> OutputArgs {
        let (Self::List { format, .. } | Self::Clear { format, .. }) = self;
        *format
    }
}

#[derive(Serialize)]
struct CacheList {
    caches: Vec<CacheEntry>,
}

pub(super) fn cache(
    context: &Context<'_>,
    command: &CacheCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let forge = context.forge();
    let caches = match command {
        CacheCommand::List { repo, .. } => caches::list(&forge, repo.as_ref())?,
        CacheCommand::Clear { repo, name, .. } => caches::clear(&forge, repo, name.as_deref())?,
    };
    let repo = match command {
        CacheCommand::List { repo, .. } => repo.as_ref(),
        CacheCommand::Clear { repo, .. } => Some(repo),
    };
    context.explain_empty_list(&caches, repo)?;
    match command {
        _ if out.json => out.json(&CacheList { caches }),
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

fn list(caches: &[CacheEntry], out: &mut Output<'_>) -> Result<(), CommandError> {
    if caches.is_empty() {
        return out.line("no caches");
    }
    let cells = |cache: &CacheEntry| -> [Cell; 5] {
        let size = cache.bytes.map_or_else(|| "-".to_owned(), format_bytes);
        let used = out.time(cache.used_at_ms);
        [
            cache.repo.as_str().into(),
            cache.name.as_str().into(),
            match &cache.node {
                Some(node) => format!("{}, {node}", cache.executor).into(),
                None => cache.executor.to_string().into(),
            },
            size.into(),
            used.into(),
        ]
    };
    let rows: Vec<_> = caches.iter().map(cells).collect();
    out.table(
        ["REPOSITORY", "CACHE", "EXECUTOR", "SIZE", "LAST USE"],
        &rows,
    )?;
    let volumes = caches.iter().filter_map(|cache| {
        let volume = cache.volume.as_deref()?;
        Some(format!("{} of {}: {volume}", cache.name, cache.repo))
    });
    for (position, line) in volumes.enumerate() {
        if position == 0 {
            out.line("\nThe engines of nodes cannot be asked; their volumes, on each node that executed runs:")?;
        }
        out.line(&line)?;
    }
    Ok(())
}
