//! Removing, by what [`super::policy`] answers.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::files::{self, RunFolder};
use super::policy::{self, History, Piece};
use super::{Housekeeping, HousekeepingError, Kept};
use crate::clock::Millis;
use crate::names::{RepoName, RunId};
use crate::run::event::Freed;
use crate::store::{RemovedFiles, Store, StoreError};

/// Runs or folders in one step, and the pause after it: others get their turn at the database and the disk.
const STEP: usize = 20;
const PAUSE: Duration = Duration::from_millis(2);
/// Events in one step.
const EVENTS: u32 = 500;

/// Files below one root, `runs/` or `artifacts/`.
struct Kind {
    root: PathBuf,
    budget: u64,
    mark: RemovedFiles,
}

impl Housekeeping {
    pub(super) async fn retain(
        &self,
        kept: Kept,
        cutoff: Option<Millis>,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        let repos = self.call(Store::repos_with_runs).await?;
        let mut essential = HashSet::new();
        for repo in &repos {
            let name = repo.clone();
            let runs = self.call(move |store| store.held_runs(&name)).await?;
            let stays = policy::essential(&runs);
            let goes = policy::expired(
                &runs,
                &stays,
                History {
                    runs: kept.runs,
                    since: cutoff,
                },
            );
            essential.extend(stays);
            self.remove_runs(repo, goes, freed).await?;
        }
        let all = self.all_repos(repos).await?;
        let kinds = [
            Kind {
                root: self.0.paths.runs(),
                budget: kept.logs,
                mark: RemovedFiles {
                    logs: true,
                    artifacts: false,
                },
            },
            Kind {
                root: self.0.paths.artifacts(),
                budget: kept.artifacts,
                mark: RemovedFiles {
                    logs: false,
                    artifacts: true,
                },
            },
        ];
        for kind in kinds {
            self.fit(&kind, &all, &essential, cutoff, freed).await?;
        }
        if let Some(cutoff) = cutoff {
            self.forget_events(cutoff, freed).await?;
        }
        Ok(())
    }

    /// Runs with all they had: noted, then the files, then the rows.
    async fn remove_runs(
        &self,
        repo: &RepoName,
        runs: Vec<RunId>,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        for step in runs.chunks(STEP) {
            let step = step.to_vec();
            let noted = self
                .call(move |store| {
                    store.note_removed(
                        &step,
                        RemovedFiles {
                            logs: true,
                            artifacts: true,
                        },
                    )
                })
                .await?;
            crate::fault::point("housekeeping-noted");
            let folders = noted.iter().flat_map(|run| {
                [
                    self.0.paths.run(repo, *run),
                    self.0.paths.run_artifacts(repo, *run),
                ]
            });
            let gone = self.remove_folders(folders.collect(), freed).await?;
            crate::fault::point("housekeeping-files-gone");
            if gone {
                let rows = noted.clone();
                freed.runs += self.call(move |store| store.remove_runs(&rows)).await? as u64;
            }
            noted
                .into_iter()
                .for_each(|run| self.0.live.state_changed(run));
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Removes folders; false where one of them would not go.
    async fn remove_folders(
        &self,
        folders: Vec<PathBuf>,
        freed: &mut Freed,
    ) -> Result<bool, HousekeepingError> {
        let removed = tokio::task::spawn_blocking(move || -> Vec<_> {
            folders
                .into_iter()
                .map(|folder| (files::remove(&folder), folder))
                .collect()
        });
        let mut all = true;
        for (result, folder) in removed.await? {
            match result {
                Ok(bytes) => freed.bytes += bytes,
                Err(error) => {
                    all = false;
                    freed
                        .problems
                        .push(format!("{} cannot be removed: {error}", folder.display()));
                }
            }
        }
        Ok(all)
    }

    /// Files of one kind: those that were noted as removed or belong to no run go, then the oldest until the rest fits.
    async fn fit(
        &self,
        kind: &Kind,
        repos: &HashSet<RepoName>,
        essential: &HashSet<RunId>,
        cutoff: Option<Millis>,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        let made_at = self.call(Store::made_at).await?;
        let (root, names) = (kind.root.clone(), repos.clone());
        let listed = tokio::task::spawn_blocking(move || files::run_folders(&root, &names)).await?;
        let listed = listed.map_err(|source| HousekeepingError::List {
            path: kind.root.clone(),
            source,
        })?;
        let mut pieces = Vec::with_capacity(listed.len());
        let mut paths = std::collections::HashMap::with_capacity(listed.len());
        for step in listed.chunks(STEP) {
            let ids: Vec<RunId> = step.iter().map(|folder| folder.run).collect();
            let marks = self.call(move |store| store.removed_files(&ids)).await?;
            let mut goes = Vec::new();
            for RunFolder { run, path } in step {
                match marks.get(run) {
                    Some(marks)
                        if (kind.mark.logs && marks.logs)
                            || (kind.mark.artifacts && marks.artifacts) =>
                    {
                        goes.push(path.clone())
                    }
                    Some(_) => {
                        pieces.push(Piece {
                            run: *run,
                            bytes: 0,
                        });
                        paths.insert(*run, path.clone());
                    }
                    // A run has its row before it has a folder. A database that is younger than the run never knew
                    // it: somebody may still put the former one back.
                    None => {
                        let at = Millis(run.made_at_ms());
                        if at >= made_at || cutoff.is_some_and(|cutoff| at < cutoff) {
                            freed.leftovers += 1;
                            goes.push(path.clone());
                        }
                    }
                }
            }
            self.remove_folders(goes, freed).await?;
        }
        if kind.budget == 0 {
            return Ok(());
        }
        let (mut measured, places) = (pieces, paths.clone());
        let pieces = tokio::task::spawn_blocking(move || {
            measured.iter_mut().for_each(|piece| {
                piece.bytes = places.get(&piece.run).map_or(0, |path| files::size(path))
            });
            measured
        });
        let goes = policy::over_budget(pieces.await?, essential, kind.budget);
        for step in goes.chunks(STEP) {
            let (ids, mark): (Vec<RunId>, _) =
                (step.iter().map(|piece| piece.run).collect(), kind.mark);
            let noted = self
                .call(move |store| store.note_removed(&ids, mark))
                .await?;
            crate::fault::point("housekeeping-noted");
            self.remove_folders(
                noted
                    .iter()
                    .filter_map(|run| paths.get(run).cloned())
                    .collect(),
                freed,
            )
            .await?;
            *if kind.mark.logs {
                &mut freed.logs
            } else {
                &mut freed.artifacts
            } += noted.len() as u64;
            noted
                .into_iter()
                .for_each(|run| self.0.live.state_changed(run));
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn forget_events(
        &self,
        before: Millis,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        loop {
            let gone = self
                .call(move |store| store.remove_events(before, EVENTS))
                .await?;
            freed.events += gone as u64;
            if gone < EVENTS as usize {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What crashes left, and old copies of the database.
    pub(super) async fn clear_leftovers(&self, freed: &mut Freed) -> Result<(), HousekeepingError> {
        let (paths, now) = (self.0.paths.clone(), self.0.store.clock().now());
        let cleared = tokio::task::spawn_blocking(move || {
            let removed = |path: PathBuf| (files::remove_any(&path), path);
            files::leftovers(&paths, now)
                .map(|found| found.into_iter().map(removed).collect::<Vec<_>>())
        });
        let cleared = cleared.await?.map_err(|source| HousekeepingError::List {
            path: self.0.paths.data().to_owned(),
            source,
        })?;
        for (result, path) in cleared {
            match result {
                Ok(bytes) => {
                    freed.leftovers += 1;
                    freed.bytes += bytes;
                }
                Err(error) => freed
                    .problems
                    .push(format!("{} cannot be removed: {error}", path.display())),
            }
        }
        Ok(())
    }

    /// Repositories that have runs, and those that git has.
    async fn all_repos(
        &self,
        with_runs: Vec<RepoName>,
    ) -> Result<HashSet<RepoName>, HousekeepingError> {
        let git = crate::git::Git::new(&self.0.paths);
        let listed = tokio::task::spawn_blocking(move || git.list()).await?;
        Ok(with_runs
            .into_iter()
            .chain(listed.unwrap_or_default())
            .collect())
    }

    async fn call<T, F>(&self, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.store.call(call).await
    }
}
