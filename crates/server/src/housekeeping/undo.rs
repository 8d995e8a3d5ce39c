//! Releases what pushes overwrote longer ago than the configuration keeps it, and measures the rest.
//!
//! A hidden ref is named after its object, so a push may rely on one that is about to be deleted here. Therefore it is deleted
//! first, and created again if a push has begun or was not recorded meanwhile. `git gc` is kept away until that is known.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use quire_git::{Git, GitError};
use quire_types::names::{ObjectId, RepoName};

use super::cleanup_pass::CleanupPass;
use super::error::HousekeepingError;
use crate::intake;

/// How many overwritten refs of a repository are kept.
const MAX_OF_REPO: u32 = 10_000;

impl CleanupPass<'_> {
    pub(super) async fn release_overwritten(&mut self) -> Result<(), HousekeepingError> {
        if let Some(cutoff) = self.undo_cutoff {
            let expired = self
                .call(move |store| store.overwritten_refs().expire(cutoff, MAX_OF_REPO))
                .await?;
            self.freed.overwritten += expired as u64;
        }
        let git = Git::new(&self.deps.paths);
        let listing = git.call(Git::list).await?;
        let mut bytes = 0;
        for repo in listing.repos {
            if let Err(error) = self.release_of(&git, &repo).await {
                self.freed
                    .problems
                    .push(format!("what was overwritten in {repo}: {error}"));
                continue;
            }
            let size = git.kept_bytes(&self.deps.paths.repo(&repo)).await;
            bytes += size.unwrap_or(0);
        }
        self.deps.metrics.undo_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes the hidden refs of a repository that no row names any more, and creates those that are missing.
    async fn release_of(&self, git: &Git, repo: &RepoName) -> Result<(), HousekeepingError> {
        let folder = self.deps.paths.repo(repo);
        let hidden = git.call(move |git| git.kept_objects(&folder)).await?;
        let recorded = self.recorded(repo).await?;
        if hidden == recorded || self.has_unrecorded_push(git, repo).await? {
            return Ok(());
        }
        let missing = recorded.difference(&hidden).cloned().collect();
        self.keep(git, repo, missing).await?;
        let surplus: BTreeSet<ObjectId> = hidden.difference(&recorded).cloned().collect();
        if surplus.is_empty() {
            return Ok(());
        }
        let name = repo.clone();
        let Some(_lock) = git
            .call(move |git| git.lock_against_maintenance(&name))
            .await?
        else {
            return Ok(());
        };
        quire_types::failpoint::hit("undo-release-begins");
        let (folder, released) = (self.deps.paths.repo(repo), surplus.clone());
        git.call(move |git| git.release_objects(&folder, &released))
            .await?;
        let needed = match self.has_unrecorded_push(git, repo).await? {
            true => surplus.into_iter().collect(),
            false => {
                let recorded = self.recorded(repo).await?;
                surplus.intersection(&recorded).cloned().collect()
            }
        };
        Ok(self.keep(git, repo, needed).await?)
    }

    async fn keep(&self, git: &Git, repo: &RepoName, ids: Vec<ObjectId>) -> Result<(), GitError> {
        let folder = self.deps.paths.repo(repo);
        git.call(move |git| git.keep_objects(&folder, &ids).map(drop))
            .await
    }

    async fn recorded(&self, repo: &RepoName) -> Result<BTreeSet<ObjectId>, HousekeepingError> {
        let name = repo.clone();
        Ok(self
            .call(move |store| store.overwritten_refs().objects(&name))
            .await?)
    }

    async fn has_unrecorded_push(&self, git: &Git, repo: &RepoName) -> Result<bool, GitError> {
        let (paths, name) = (self.deps.paths.clone(), repo.clone());
        git.call(move |git| intake::has_unrecorded_push(git, &paths, &name))
            .await
    }
}
