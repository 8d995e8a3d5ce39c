//! Where a mirror comes from: the configuration, or an import.

use std::time::Duration;

use super::settings::{MirrorConfig, MirrorSettings};
use super::shared::MirrorShared;
use quire_store::{NewMirror, PULL_MIRROR, PullMirror, Store, StoreError};

/// What a mirror is.
#[derive(Clone)]
pub(super) enum MirrorSource {
    /// A remote to which a repository is pushed.
    Push(MirrorConfig),
    /// A remote that a repository follows.
    Pull(PullMirror),
}

impl MirrorSource {
    /// How often it is compared although nothing differs as far as is known.
    pub(super) fn compare_every(&self, settings: &MirrorSettings) -> Duration {
        match self {
            Self::Push(_) => settings.compare_every,
            Self::Pull(pull) => pull.every,
        }
    }

    /// A problem of the mirror, with what it is.
    pub(super) fn problem(&self, mirror: &NewMirror, problem: &str) -> String {
        match self {
            Self::Push(config) => config.problem(mirror, problem),
            Self::Pull(pull) => format!("{}, a mirror of {}: {problem}", pull.repo, pull.url),
        }
    }
}

impl MirrorShared {
    /// All mirrors, those that imports made first.
    pub(super) async fn mirrors(
        &self,
        settings: &MirrorSettings,
    ) -> Result<Vec<NewMirror>, StoreError> {
        let pulls = self
            .deps
            .store
            .call(|store| store.pull_mirrors().list())
            .await?;
        let is_taken = |mirror: &&NewMirror| {
            mirror.name == PULL_MIRROR && pulls.iter().any(|pull| pull.repo == mirror.repo)
        };
        let pushes = settings.mirrors.keys().filter(|mirror| !is_taken(mirror));
        let pulls = pulls.iter().map(PullMirror::mirror);
        Ok(pulls.chain(pushes.cloned()).collect())
    }

    /// Mirrors of the configuration whose name is that of a pull mirror of the same repository.
    pub(super) async fn misnamed(
        &self,
        settings: &MirrorSettings,
    ) -> Result<Vec<NewMirror>, StoreError> {
        let all = self.mirrors(settings).await?;
        let missing = settings.mirrors.keys().filter(|one| !all.contains(one));
        Ok(missing.cloned().collect())
    }

    /// What a mirror is; `None` if it is none any more.
    pub(super) async fn source(
        &self,
        mirror: &NewMirror,
        settings: &MirrorSettings,
    ) -> Result<Option<MirrorSource>, StoreError> {
        if let Some(config) = settings.mirrors.get(mirror) {
            return Ok(Some(MirrorSource::Push(config.clone())));
        }
        let repo = mirror.repo.clone();
        let find = move |store: &Store| store.pull_mirrors().find(&repo);
        let pull = self.deps.store.call(find).await?;
        // After a rename it is another one.
        let found = pull.filter(|pull| pull.mirror() == *mirror);
        Ok(found.map(MirrorSource::Pull))
    }
}
