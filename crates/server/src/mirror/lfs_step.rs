//! The step of an attempt that transfers objects: which commits are new, and what is recorded.

use std::collections::{BTreeSet, HashSet};

use super::attempt_error::AttemptError;
use super::lfs::{LfsError, LfsSummary, LfsTransfer};
use quire_git::lfs::LfsDirection;
use quire_git::{Git, GitError};
use quire_store::{MirrorState, Store};
use quire_types::error_chain::chain;
use quire_types::names::{ObjectId, RefName};

/// The objects of one mirror.
pub(super) struct LfsStep<'a> {
    pub(super) store: &'a Store,
    pub(super) state: &'a MirrorState,
    pub(super) transfer: LfsTransfer<'a>,
}

impl LfsStep<'_> {
    /// Transfers what these refs refer to, and records that it is on both sides. Returns why objects were not transferred: the attempt
    /// fails with it once the refs have been moved.
    pub(super) async fn run(
        &self,
        refs: &[(RefName, ObjectId)],
    ) -> Result<Option<LfsError>, AttemptError> {
        let key = self.state.key();
        let known = self
            .store
            .call(move |store: &Store| store.mirrors().lfs_known(&key));
        let known: HashSet<ObjectId> = known.await?.into_iter().collect();
        let tips: BTreeSet<&ObjectId> = refs.iter().map(|(_, id)| id).collect();
        let tips: Vec<ObjectId> = tips
            .into_iter()
            .filter(|id| !known.contains(id))
            .cloned()
            .collect();
        if tips.is_empty() || !self.uses_lfs(&tips).await? {
            self.record(Vec::new(), None).await?;
            return Ok(None);
        }
        let (known_now, problem) = match self.transfer.run(tips, known.into_iter().collect()).await
        {
            Ok(LfsSummary { absent: None, .. }) => (refs.to_vec(), None),
            Ok(LfsSummary {
                absent: Some((count, path)),
                ..
            }) => (Vec::new(), Some(self.absent(count, &path))),
            Err(error @ LfsError::None { .. }) => (Vec::new(), Some(chain(&error))),
            Err(error) => {
                self.record(Vec::new(), None).await?;
                return Ok(Some(error));
            }
        };
        self.record(known_now, problem).await?;
        Ok(None)
    }

    /// Whether there may be objects to transfer.
    async fn uses_lfs(&self, tips: &[ObjectId]) -> Result<bool, GitError> {
        let transfer = &self.transfer;
        let store = transfer.store.clone();
        let (commits, tips) = (transfer.commits.clone(), tips.to_vec());
        let look = move |git: &Git| {
            let has_objects = store.folder().join("objects").is_dir();
            Ok(has_objects || git.use_lfs(&commits, &tips))
        };
        transfer.git.call(look).await
    }

    fn absent(&self, count: usize, path: &str) -> String {
        let (what, advice) = match self.transfer.direction {
            LfsDirection::Upload => (
                "neither here nor there",
                "`git lfs push --all` from a clone that has what is missing sends it here, and then it is mirrored",
            ),
            LfsDirection::Download => (
                "not on the other side",
                "what is missing is fetched once it is there",
            ),
        };
        match count {
            1 => format!("the object of {path} is {what}; {advice}"),
            count => format!("{count} objects are {what}, such as that of {path}; {advice}"),
        }
    }

    async fn record(
        &self,
        known: Vec<(RefName, ObjectId)>,
        problem: Option<String>,
    ) -> Result<(), AttemptError> {
        if known.is_empty() && problem == self.state.lfs_problem {
            return Ok(());
        }
        let key = self.state.key();
        let record = move |store: &Store| store.mirrors().set_lfs(&key, &known, problem.as_deref());
        Ok(self.store.call(record).await?)
    }
}
