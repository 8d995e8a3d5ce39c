//! Removes runs, logs, artifacts and events that [`super::policy`] no longer wants, and the files that crashes left.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use quire_git::Git;
use quire_store::{RemovedFiles, StoreError};
use quire_types::clock::Millis;
use quire_types::fsutil::folder_size;
use quire_types::names::{RepoName, RunId};

use super::cleanup_pass::CleanupPass;
use super::error::HousekeepingError;
use super::files::{self, RunFolder};
use super::policy::{self, RunLimits, RunSize};

/// How many runs or folders are removed at once.
const BATCH: usize = 20;
/// The pause after each batch: others use the database and the disk meanwhile.
const PAUSE: Duration = Duration::from_millis(2);
/// How many events are removed at once.
const EVENT_BATCH: u32 = 500;

/// The files of all runs below one root, `runs/` or `artifacts/`.
struct RunFileTree {
    root: PathBuf,
    /// 0 means no limit.
    max_bytes: u64,
    /// How their removal is marked in the database.
    mark: RemovedFiles,
}

/// What belongs to no run counts as left over if the run was made in the life of this database, or is too old. A
/// database that is younger than the run never knew it: the former one may still be restored.
#[derive(Clone, Copy)]
struct LeftoverRule {
    database_created: Millis,
    cutoff: Option<Millis>,
}

impl LeftoverRule {
    fn is_leftover(self, run: RunId) -> bool {
        let made = Millis(run.made_at_ms());
        made >= self.database_created || self.cutoff.is_some_and(|cutoff| made < cutoff)
    }
}

impl CleanupPass<'_> {
    pub(super) async fn remove_old_runs(&mut self) -> Result<(), HousekeepingError> {
        let repos = self.call(|store| store.repos().with_runs()).await?;
        let mut protected = HashSet::new();
        for repo in &repos {
            let name = repo.clone();
            let runs = self
                .call(move |store| store.retention().candidates(&name))
                .await?;
            let limits = RunLimits {
                runs: self.limits.runs,
                since: self.cutoff,
            };
            let protected_here = policy::protected_runs(&runs);
            let expired = policy::expired(&runs, &protected_here, limits);
            protected.extend(protected_here);
            self.remove_runs(repo, expired).await?;
        }
        let repos = self.all_repos(repos).await;
        let logs = RunFileTree {
            root: self.deps.paths.runs_dir(),
            max_bytes: self.limits.logs,
            mark: RemovedFiles {
                logs: true,
                artifacts: false,
            },
        };
        let artifacts = RunFileTree {
            root: self.deps.paths.artifacts(),
            max_bytes: self.limits.artifacts,
            mark: RemovedFiles {
                logs: false,
                artifacts: true,
            },
        };
        for tree in [logs, artifacts] {
            let folders = self.remove_unrecorded(&tree, &repos).await?;
            self.enforce_size_limit(&tree, folders, &protected).await?;
        }
        if let Some(cutoff) = self.cutoff {
            self.remove_events(cutoff).await?;
        }
        Ok(())
    }

    /// Removes runs with everything that belongs to them: marks them, then deletes their files, then their rows.
    async fn remove_runs(
        &mut self,
        repo: &RepoName,
        runs: Vec<RunId>,
    ) -> Result<(), HousekeepingError> {
        for batch in runs.chunks(BATCH) {
            let both = RemovedFiles {
                logs: true,
                artifacts: true,
            };
            let marked = self.mark_removed(batch, both).await?;
            let folders = marked.iter().flat_map(|run| {
                [
                    self.deps.paths.run_dir(repo, *run),
                    self.deps.paths.run_artifacts(repo, *run),
                ]
            });
            let all_removed = self.remove_folders(folders.collect()).await?;
            quire_types::failpoint::hit("housekeeping-files-gone");
            if all_removed {
                let rows = marked.clone();
                self.freed.runs += self
                    .call(move |store| store.retention().remove_runs(&rows))
                    .await? as u64;
            }
            self.announce(marked).await;
        }
        Ok(())
    }

    /// Marks the files of runs as removed. Returns the runs for which that is allowed.
    async fn mark_removed(
        &self,
        runs: &[RunId],
        files: RemovedFiles,
    ) -> Result<Vec<RunId>, StoreError> {
        let runs = runs.to_vec();
        let marked = self
            .call(move |store| store.retention().mark_removed(&runs, files))
            .await?;
        quire_types::failpoint::hit("housekeeping-noted");
        Ok(marked)
    }

    /// Tells followers about the runs of a batch, and pauses.
    async fn announce(&self, runs: Vec<RunId>) {
        for run in runs {
            self.deps.changes.notify_run(run);
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// Removes folders. Returns false if one could not be removed.
    async fn remove_folders(&mut self, folders: Vec<PathBuf>) -> Result<bool, HousekeepingError> {
        let removed = tokio::task::spawn_blocking(move || -> Vec<_> {
            folders
                .into_iter()
                .map(|folder| (files::remove(&folder), folder))
                .collect()
        });
        let mut all_removed = true;
        for (result, folder) in removed.await? {
            match result {
                Ok(bytes) => self.freed.bytes += bytes,
                Err(error) => {
                    all_removed = false;
                    self.record_kept_file(&folder, &error);
                }
            }
        }
        Ok(all_removed)
    }

    /// Removes the folders that are marked as removed and those that belong to no run. Returns the others.
    async fn remove_unrecorded(
        &mut self,
        tree: &RunFileTree,
        repos: &HashSet<RepoName>,
    ) -> Result<Vec<RunFolder>, HousekeepingError> {
        let leftovers = LeftoverRule {
            database_created: self.call(|store| store.instance().created_at()).await?,
            cutoff: self.cutoff,
        };
        let root = tree.root.clone();
        let names = repos.clone();
        let folders = tokio::task::spawn_blocking(move || files::run_folders(&root, &names))
            .await?
            .map_err(|source| HousekeepingError::List {
                path: tree.root.clone(),
                source,
            })?;
        let mut kept = Vec::with_capacity(folders.len());
        for batch in folders.chunks(BATCH) {
            let ids: Vec<RunId> = batch.iter().map(|folder| folder.run).collect();
            let marks = self
                .call(move |store| store.retention().removed_files(&ids))
                .await?;
            let mut to_remove = Vec::new();
            for folder in batch {
                match marks.get(&folder.run) {
                    Some(marks)
                        if (tree.mark.logs && marks.logs)
                            || (tree.mark.artifacts && marks.artifacts) =>
                    {
                        to_remove.push(folder.path.clone())
                    }
                    Some(_) => kept.push(folder.clone()),
                    // A run has its row before it has a folder.
                    None if leftovers.is_leftover(folder.run) => {
                        self.freed.leftovers += 1;
                        to_remove.push(folder.path.clone());
                    }
                    None => {}
                }
            }
            self.remove_folders(to_remove).await?;
        }
        Ok(kept)
    }

    /// Removes the oldest of these folders until the others fit the limit.
    async fn enforce_size_limit(
        &mut self,
        tree: &RunFileTree,
        folders: Vec<RunFolder>,
        protected: &HashSet<RunId>,
    ) -> Result<(), HousekeepingError> {
        if tree.max_bytes == 0 {
            return Ok(());
        }
        let paths: HashMap<RunId, PathBuf> = folders
            .iter()
            .map(|folder| (folder.run, folder.path.clone()))
            .collect();
        let sizes = tokio::task::spawn_blocking(move || -> Vec<RunSize> {
            folders
                .iter()
                .map(|folder| RunSize {
                    run: folder.run,
                    bytes: folder_size(&folder.path),
                })
                .collect()
        });
        let over_budget = policy::over_budget(sizes.await?, protected, tree.max_bytes);
        for batch in over_budget.chunks(BATCH) {
            let ids: Vec<RunId> = batch.iter().map(|size| size.run).collect();
            let marked = self.mark_removed(&ids, tree.mark).await?;
            let folders = marked.iter().filter_map(|run| paths.get(run).cloned());
            self.remove_folders(folders.collect()).await?;
            let count = marked.len() as u64;
            if tree.mark.logs {
                self.freed.logs += count;
            } else {
                self.freed.artifacts += count;
            }
            self.announce(marked).await;
        }
        Ok(())
    }

    async fn remove_events(&mut self, before: Millis) -> Result<(), HousekeepingError> {
        loop {
            let removed = self
                .call(move |store| store.retention().remove_events(before, EVENT_BATCH))
                .await?;
            self.freed.events += removed as u64;
            if removed < EVENT_BATCH as usize {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes what crashes left, and the oldest copies of the database.
    pub(super) async fn remove_leftovers(&mut self) -> Result<(), HousekeepingError> {
        let paths = self.deps.paths.clone();
        let now = self.deps.store.clock().now();
        let removed = tokio::task::spawn_blocking(move || {
            let remove = |path: PathBuf| (files::remove_any(&path), path);
            files::leftovers(&paths, now)
                .map(|found| found.into_iter().map(remove).collect::<Vec<_>>())
        });
        let removed = removed.await?.map_err(|source| HousekeepingError::List {
            path: self.deps.paths.data().to_owned(),
            source,
        })?;
        for (result, path) in removed {
            match result {
                Ok(bytes) => {
                    self.freed.leftovers += 1;
                    self.freed.bytes += bytes;
                }
                Err(error) => self.record_kept_file(&path, &error),
            }
        }
        self.remove_abandoned_imports(now).await
    }

    /// Removes what interrupted imports left.
    async fn remove_abandoned_imports(&mut self, now: Millis) -> Result<(), HousekeepingError> {
        let git = Git::new(&self.deps.paths);
        let removed = tokio::task::spawn_blocking(move || git.remove_abandoned_imports(now));
        match removed.await? {
            Ok(sizes) => {
                self.freed.leftovers += sizes.len() as u64;
                self.freed.bytes += sizes.iter().sum::<u64>();
            }
            Err(error) => {
                let folder = self.deps.paths.repos().join(".import");
                self.record_kept_file(&folder, &error);
            }
        }
        Ok(())
    }

    /// Returns the repositories that have runs, and those that exist.
    async fn all_repos(&self, with_runs: Vec<RepoName>) -> HashSet<RepoName> {
        let existing = Git::new(&self.deps.paths).call(Git::list).await;
        with_runs
            .into_iter()
            .chain(existing.unwrap_or_default().repos)
            .collect()
    }
}
