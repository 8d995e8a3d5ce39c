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
        CacheCommand::List { .. } if out.json => out.json(&CacheList { caches }),
        CacheCommand::List { .. } => list(&caches, out),
        CacheCommand::Clear { repo, .. } => {
            let on_nodes = on_nodes(repo, &caches);
            match out.json {
                true => out.json(&CacheList { caches })?,
                false => cleared(&caches, out)?,
            }
            on_nodes.map_or(Ok(()), Err)
        }
    }
}

fn cleared(caches: &[CacheEntry], out: &mut Output<'_>) -> Result<(), CommandError> {
    if caches.is_empty() {
        return out.line("no caches");
    }
    let mut removed = caches.iter().filter(|cache| cache.volume.is_none());
    removed.try_for_each(|cache| {
        out.line(&format!(
            "removed the cache {} of {}",
            cache.name, cache.repo
        ))
    })
}

/// The error about caches that only a person can remove; `None` if there are none.
fn on_nodes(repo: &RepoName, caches: &[CacheEntry]) -> Option<CommandError> {
    let mut names = Vec::new();
    let mut volumes = Vec::new();
    for cache in caches {
        if let Some(volume) = &cache.volume {
            names.push(format!("`{}`", cache.name));
            volumes.push(volume.as_str());
        }
    }
    if volumes.is_empty() {
        return None;
    }
    let message = format!(
        "`{repo}` has caches on nodes of the swarm, whose engines quire cannot ask: {}",
        names.join(", ")
    );
    let hint = format!(
        "remove them on each node with `docker volume rm {}`; `cache list` shows them again once a run has used them",
        volumes.join(" ")
    );
    Some(CommandError::failed(message).hint(hint))
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

#[cfg(test)]
mod tests {
    use quire_types::run::ExecutorName;

    use super::*;

    #[test]
    fn all_caches_on_nodes_are_named_in_one_error() {
        let repo: RepoName = "app".parse().unwrap();
        let entry = |name: &str, volume: Option<&str>| CacheEntry {
            repo: repo.clone(),
            name: name.to_owned(),
            executor: ExecutorName::SWARM,
            bytes: None,
            used_at_ms: None,
            volume: volume.map(str::to_owned),
            node: None,
        };
        assert_eq!(on_nodes(&repo, &[entry("own", None)]), None);
        let caches = [
            entry("own", None),
            entry("deps", Some("quire-1")),
            entry("npm", Some("quire-2")),
        ];
        let text = on_nodes(&repo, &caches).unwrap().text();
        assert!(text.contains("cannot ask: `deps`, `npm`\n"), "{text}");
        assert!(
            text.contains("`docker volume rm quire-1 quire-2`"),
            "{text}"
        );
    }
}
