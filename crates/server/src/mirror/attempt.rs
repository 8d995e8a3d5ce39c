//! One attempt to make a remote equal: read its refs, send objects of Git LFS, push what differs.

use std::path::Path;

use super::attempt_error::AttemptError;
use super::lfs::{LfsError, LfsTransfer};
use super::lfs_step::LfsStep;
use super::remote_connection::{RemoteAddress, RemoteConnection};
use super::settings::{MirrorSettings, MirrorTarget};
use super::shared::ALL_REFS;
use quire_git::lfs::{LfsDirection, LfsStore};
use quire_git::{Git, ObjectFormat, PushedRef, RefPush, RemoteAccess, RemoteError};
use quire_store::{MirrorKey, MirrorRef, MirrorState, MirroredRef, Store};
use quire_types::failpoint;
use quire_types::git_remote_url::RemoteTransport;
use quire_types::names::{LANDING_REFS, ObjectId, RefName};
use quire_types::paths::Paths;

/// What an attempt works with.
pub(super) struct MirrorAttempt<'a> {
    pub(super) store: &'a Store,
    pub(super) git: &'a Git,
    pub(super) paths: &'a Paths,
    pub(super) settings: &'a MirrorSettings,
    pub(super) target: &'a MirrorTarget,
    pub(super) state: &'a MirrorState,
    /// The refs that the remote has to have.
    pub(super) wanted: &'a [(RefName, ObjectId)],
    /// Whether refs that are not wanted are deleted.
    pub(super) delete: bool,
}

impl MirrorAttempt<'_> {
    /// Makes the remote equal, and records each step that has an effect there.
    pub(super) async fn run(&self) -> Result<(), AttemptError> {
        let key = self.state.key();
        let url = &self.target.url;
        if url.transport() == RemoteTransport::Https && self.target.login.is_none() {
            let missing = "`token` is missing";
            return Err(AttemptError::Settings(missing.to_owned()));
        }
        let remote = RemoteAddress {
            origin: self.target.origin,
            url,
            login: self.target.login.as_ref(),
            host_key: self.state.host_key.as_deref(),
        };
        let mut remote = RemoteConnection::open(self.git, self.settings, remote).await?;
        let repo = self.paths.repo(&key.repo);
        let found = remote.refs(self.git).await;
        remote.record_host_key(self.store, &key).await?;
        let mut found = found.map_err(|error| self.explained(error))?.refs;
        found.retain(|(name, _)| is_mirrored(self.target, name));
        let differing = self.compared(&key, found).await?;
        // First, since a server may reject commits without their objects. The refs do not wait for them: a copy of the
        // history alone is better than none.
        let objects = self.send_objects(&repo, &remote.access).await?;
        if !differing.is_empty() {
            let pushed = self.push(&key, &repo, &remote.access, &differing).await;
            // Each ref has the words with which it was rejected.
            if objects.is_none() || !matches!(pushed, Err(AttemptError::Rejected { .. })) {
                pushed?;
            }
        }
        if let Some(error) = objects {
            return Err(AttemptError::Lfs(error));
        }
        let succeeded = move |store: &Store| store.mirrors().succeeded(&key);
        Ok(self.store.call(succeeded).await?)
    }

    /// Records what the remote has. Returns what differs.
    async fn compared(
        &self,
        key: &MirrorKey,
        found: Vec<(RefName, ObjectId)>,
    ) -> Result<Vec<MirrorRef>, AttemptError> {
        let (key, delete) = (key.clone(), self.delete);
        let record = move |store: &Store| {
            store.mirrors().compared(&key, &found, delete)?;
            store.mirrors().waiting_refs(&key, ALL_REFS)
        };
        Ok(self.store.call(record).await?)
    }

    async fn send_objects(
        &self,
        repo: &Path,
        remote: &RemoteAccess,
    ) -> Result<Option<LfsError>, AttemptError> {
        let step = LfsStep {
            store: self.store,
            state: self.state,
            transfer: LfsTransfer {
                git: self.git,
                remote,
                reachable: self.settings.reachable(self.target.origin),
                direction: LfsDirection::Upload,
                commits: repo.to_owned(),
                store: LfsStore::of(repo),
            },
        };
        step.run(self.wanted).await
    }

    async fn push(
        &self,
        key: &MirrorKey,
        repo: &Path,
        remote: &RemoteAccess,
        differing: &[MirrorRef],
    ) -> Result<(), AttemptError> {
        let first = self.wanted.first().map(|(_, id)| id);
        let format = first.map_or(ObjectFormat::Sha1, ObjectFormat::of);
        let refs: Vec<RefPush> = differing
            .iter()
            .map(|differing| RefPush {
                ref_name: differing.ref_name.clone(),
                to: differing.wanted.clone(),
            })
            .collect();
        failpoint::hit("mirror-before-push");
        let force = self.target.force;
        let pushed = self.git.push_refs(repo, format, remote, &refs, force).await;
        failpoint::hit("mirror-pushed");
        let pushed = pushed.map_err(|error| self.explained(error))?;
        let results: Vec<MirroredRef> = refs
            .into_iter()
            .map(|push| result_of(push.ref_name, &pushed))
            .collect();
        let error = rejection(&results);
        let key = key.clone();
        let record = move |store: &Store| store.mirrors().pushed(&key, &results);
        self.store.call(record).await?;
        error.map_or(Ok(()), Err)
    }

    fn explained(&self, error: RemoteError) -> AttemptError {
        match error {
            RemoteError::NoRepository { .. } => AttemptError::NoRepository(error),
            error => AttemptError::of_mirror(error, self.state, &self.target.url),
        }
    }
}

/// Whether a ref is mirrored: hidden refs and those of commits that wait to land never are.
pub(super) fn is_mirrored(target: &MirrorTarget, name: &RefName) -> bool {
    let own = ["refs/quire/", LANDING_REFS];
    !own.iter().any(|own| name.as_str().starts_with(own)) && (target.covers)(name)
}

/// What the other side said to a ref. No word is no success.
fn result_of(ref_name: RefName, pushed: &[PushedRef]) -> MirroredRef {
    let found = pushed.iter().find(|pushed| pushed.ref_name == ref_name);
    let silence = || Err("the other side said nothing about it".to_owned());
    MirroredRef {
        result: found.map_or_else(silence, |pushed| pushed.result.clone()),
        ref_name,
    }
}

/// The refs that were rejected, as one error.
fn rejection(results: &[MirroredRef]) -> Option<AttemptError> {
    let mut rejected = results
        .iter()
        .filter_map(|of| Some((of.ref_name.as_str(), of.result.as_ref().err()?)));
    let (name, problem) = rejected.next()?;
    Some(AttemptError::Rejected {
        first: format!("{name}: {problem}"),
        rejected: rejected.count() + 1,
        pushed: results.len(),
    })
}
