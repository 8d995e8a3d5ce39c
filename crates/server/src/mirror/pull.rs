//! One attempt to make a repository equal to the one that it follows: read the refs there, fetch what differs, move the refs here.
//!
//! What is fetched becomes a push of the mirror: under the lock and with the mark of a push, and with an event in the spool. So its
//! runs, and what it overwrites, are recorded in the same way.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use super::attempt_error::AttemptError;
use super::lfs::{LfsError, LfsTransfer};
use super::lfs_step::LfsStep;
use super::remote_connection::{RemoteAddress, RemoteConnection};
use super::settings::{MirrorOrigin, MirrorSettings};
use super::shared::{ALL_REFS, MirrorShared};
use crate::intake::spool_event;
use crate::notify::SecretReader;
use crate::ref_move::event_of;
use quire_git::lfs::{LfsDirection, LfsStore};
use quire_git::{
    FetchedObjects, ForbiddenMove, Git, RefMove, RemoteAccess, RemoteFetch, is_fetched,
    sync_ref_folders,
};
use quire_runtime::blocking::run_blocking;
use quire_store::{MirrorRef, MirrorState, PULL_MIRROR, PullMirror, Store};
use quire_types::clock::Millis;
use quire_types::error_chain::with_sources;
use quire_types::failpoint;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::names::{EventId, ObjectId, RefName};
use quire_types::push_event::SKIP_OPTION;

/// How many refs one fetch has: a command line has a limit.
const MAX_FETCHED_REFS: usize = 500;
/// How many refs one event has.
const MAX_EVENT_REFS: usize = 2000;

/// What an attempt works with.
pub(super) struct PullAttempt<'a> {
    pub(super) shared: &'a MirrorShared,
    pub(super) settings: &'a MirrorSettings,
    pub(super) pull: &'a PullMirror,
    pub(super) state: &'a MirrorState,
}

impl PullAttempt<'_> {
    /// Makes the repository equal.
    pub(super) async fn run(&self) -> Result<(), AttemptError> {
        let (git, store, key) = (&self.shared.git, &self.shared.deps.store, self.state.key());
        let url: Result<GitRemoteUrl, _> = self.pull.url.parse();
        let url = url.map_err(|error| AttemptError::Settings(error.to_string()))?;
        let login = secret_login(self.settings, self.pull.login.as_ref());
        let remote = RemoteAddress {
            origin: MirrorOrigin::Owner,
            url: &url,
            login: login.as_ref(),
            host_key: self.state.host_key.as_deref(),
        };
        let mut remote = RemoteConnection::open(git, self.settings, remote).await?;
        let found = remote.refs(git).await;
        remote.record_host_key(store, &key).await?;
        let found = found.map_err(|error| AttemptError::of_mirror(error, self.state, &url))?;
        let wanted: Vec<_> = found.branches_and_tags().cloned().collect();
        let differing = self.compared(wanted.clone()).await?;
        let fetched = self.fetch(&remote.access, &differing).await;
        let fetched = fetched.map_err(|error| match error {
            AttemptError::Remote(error) => AttemptError::of_mirror(error, self.state, &url),
            error => error,
        })?;
        let ids = self.fetched_ids(fetched.as_ref()).await?;
        // First, since a run of what is fetched may need them. The refs do not wait for them.
        let refs = wanted.into_iter().map(|(name, id)| {
            let id = ids.get(&name).cloned().unwrap_or(id);
            (name, id)
        });
        let refs: Vec<_> = refs.collect();
        let objects = self.fetch_objects(&remote.access, fetched.as_ref(), &refs);
        let objects = objects.await?;
        let mut forbidden = Vec::new();
        if !differing.is_empty() {
            forbidden = self.follow(&differing, fetched, &ids).await?;
        }
        self.follow_default_branch(found.default_branch()).await?;
        if let Some(error) = objects {
            return Err(AttemptError::Lfs(error));
        }
        if let Some(forbidden) = forbidden.into_iter().next() {
            let repo = self.state.repo.clone();
            return Err(AttemptError::ProtectedHere { repo, forbidden });
        }
        let succeeded = move |store: &Store| store.mirrors().succeeded(&key);
        Ok(store.call(succeeded).await?)
    }

    /// Records what is there and what is here. Returns what differs.
    async fn compared(
        &self,
        wanted: Vec<(RefName, ObjectId)>,
    ) -> Result<Vec<MirrorRef>, AttemptError> {
        // Another repository with the same address, or one that was emptied by mistake, does not empty this one.
        let delete = !wanted.is_empty();
        let current = self.current().await?;
        let key = self.state.key();
        let record = move |store: &Store| {
            store.mirrors().want(&key, &wanted, delete)?;
            store.mirrors().compared(&key, &current, delete)?;
            store.mirrors().waiting_refs(&key, ALL_REFS)
        };
        Ok(self.shared.deps.store.call(record).await?)
    }

    /// The branches and tags here.
    async fn current(&self) -> Result<Vec<(RefName, ObjectId)>, AttemptError> {
        let folder = self.shared.deps.paths.repo(&self.state.repo);
        let mut current = self.shared.git.refs(&folder).await?.refs;
        current.retain(|(name, _)| is_fetched(name));
        Ok(current)
    }

    /// Fetches objects of Git LFS that these refs refer to.
    async fn fetch_objects(
        &self,
        remote: &RemoteAccess,
        fetched: Option<&FetchedObjects>,
        refs: &[(RefName, ObjectId)],
    ) -> Result<Option<LfsError>, AttemptError> {
        let repo = self.shared.deps.paths.repo(&self.state.repo);
        let commits = fetched.map_or_else(|| repo.clone(), |fetched| fetched.path().to_owned());
        let step = LfsStep {
            store: &self.shared.deps.store,
            state: self.state,
            transfer: LfsTransfer {
                git: &self.shared.git,
                remote,
                reachable: self.settings.reachable(MirrorOrigin::Owner),
                direction: LfsDirection::Download,
                commits,
                store: LfsStore::of(&repo),
            },
        };
        step.run(refs).await
    }

    /// Moves the refs to what was fetched. Returns those that their protection keeps where they are.
    async fn follow(
        &self,
        differing: &[MirrorRef],
        fetched: Option<FetchedObjects>,
        ids: &HashMap<RefName, ObjectId>,
    ) -> Result<Vec<ForbiddenMove>, AttemptError> {
        let mut moves = moves(differing, ids);
        let forbidden = self.forbidden(&moves, fetched.as_ref()).await?;
        moves.retain(|one| forbidden.iter().all(|kept| kept.ref_name != one.ref_name));
        if moves.is_empty() {
            return Ok(forbidden);
        }
        let moves = PullMoves {
            git: self.shared.git.clone(),
            pull: PullMirror {
                repo: self.state.repo.clone(),
                ..self.pull.clone()
            },
            now: self.shared.deps.store.clock().now(),
            moves,
        };
        let events = run_blocking(move || moves.apply(fetched)).await??;
        for event in events {
            if let Err(error) = self.shared.deps.intake.take(event, None).await {
                // It is taken later.
                tracing::error!(%event, error = with_sources(&error), "what a mirror fetched cannot be recorded yet");
            }
        }
        let (key, current) = (self.state.key(), self.current().await?);
        let record = move |store: &Store| store.mirrors().compared(&key, &current, true);
        self.shared.deps.store.call(record).await?;
        Ok(forbidden)
    }

    /// The moves that the protection of the repository forbids.
    async fn forbidden(
        &self,
        moves: &[RefMove],
        fetched: Option<&FetchedObjects>,
    ) -> Result<Vec<ForbiddenMove>, AttemptError> {
        let (repo, moves) = (self.state.repo.clone(), moves.to_vec());
        let objects = fetched.map_or_else(
            || self.shared.deps.paths.repo(&repo),
            |fetched| fetched.path().to_owned(),
        );
        let find = move |git: &Git| git.forbidden_moves(&repo, &objects, &moves);
        Ok(self.shared.git.call(find).await?)
    }

    /// Fetches the refs that are there, as they are at that moment.
    async fn fetch(
        &self,
        remote: &RemoteAccess,
        differing: &[MirrorRef],
    ) -> Result<Option<FetchedObjects>, AttemptError> {
        let wanted = differing.iter().filter_map(|one| {
            let id = one.wanted.as_ref()?;
            Some((&one.ref_name, id))
        });
        let wanted: Vec<(&RefName, &ObjectId)> = wanted.collect();
        let Some((_, like)) = wanted.first() else {
            return Ok(None);
        };
        let git = &self.shared.git;
        let (folder, like) = (
            self.shared.deps.paths.repo(&self.state.repo),
            (*like).clone(),
        );
        let begin = move |git: &Git| git.fetched_objects(&folder, &like);
        let objects = git.call(begin).await?;
        // The progress is not shown.
        let (progress, _) = unbounded_channel();
        for refs in wanted.chunks(MAX_FETCHED_REFS) {
            let fetch = RemoteFetch {
                into: objects.path(),
                lock: None,
                refspecs: refs
                    .iter()
                    .map(|(name, _)| format!("+{name}:{name}"))
                    .collect(),
            };
            git.fetch_remote(&fetch, remote, &progress).await?;
        }
        Ok(Some(objects))
    }

    /// What was fetched.
    async fn fetched_ids(
        &self,
        fetched: Option<&FetchedObjects>,
    ) -> Result<HashMap<RefName, ObjectId>, AttemptError> {
        let Some(objects) = fetched else {
            return Ok(HashMap::new());
        };
        let refs = self.shared.git.refs(objects.path()).await?.refs;
        Ok(refs.into_iter().collect())
    }

    async fn follow_default_branch(&self, branch: Option<&RefName>) -> Result<(), AttemptError> {
        let Some(branch) = branch.cloned() else {
            return Ok(());
        };
        let repo = self.state.repo.clone();
        let follow = move |git: &Git| match git.head_branch(&repo)? {
            Some(head) if head == branch => Ok(()),
            _ => git.set_default_branch(&repo, &branch),
        };
        Ok(self.shared.git.call(follow).await?)
    }
}

/// Where each ref is and where it is to be.
fn moves(differing: &[MirrorRef], fetched: &HashMap<RefName, ObjectId>) -> Vec<RefMove> {
    let moves = differing.iter().map(|one| RefMove {
        ref_name: one.ref_name.clone(),
        from: one.remote.clone(),
        to: one
            .wanted
            .as_ref()
            .and_then(|_| fetched.get(&one.ref_name).cloned()),
    });
    moves.filter(|one| one.from != one.to).collect()
}

/// The login with the secret of a name.
pub(super) fn secret_login(
    settings: &MirrorSettings,
    login: Option<&(String, String)>,
) -> Option<(String, SecretReader)> {
    let (user, name) = login?.clone();
    let find = settings.secret.clone();
    let reader: SecretReader = Arc::new(move || find(&name));
    Some((user, reader))
}

/// Moves of refs that a mirror makes.
struct PullMoves {
    git: Git,
    pull: PullMirror,
    moves: Vec<RefMove>,
    now: Millis,
}

impl PullMoves {
    /// Makes them, after what they refer to is here. Returns the events that say so.
    fn apply(self, fetched: Option<FetchedObjects>) -> Result<Vec<EventId>, AttemptError> {
        let (git, repo) = (&self.git, &self.pull.repo);
        let folder = git.folder(repo);
        // As for a push: maintenance stays away, and the refs are compared if this process is killed.
        let _lock = git.lock_in_server(repo);
        if let Some(fetched) = &fetched {
            fetched.add_to(&folder)?;
        }
        failpoint::hit("pull-objects-added");
        // A branch may have to go before one below its name can be created. Git removes the reflog with a ref.
        let (deletions, others): (Vec<_>, Vec<_>) =
            self.moves.iter().cloned().partition(|one| one.to.is_none());
        let deleted: Vec<ObjectId> = deletions
            .iter()
            .filter_map(|one| one.from.clone())
            .collect();
        git.keep_objects(&folder, &deleted)?;
        // Before the moves: a mirror that is stopped meanwhile leaves none that counts as a push.
        git.record_foreign_tips(&folder, &self.moves)?;
        let mark = git.mark_push(repo, false).ok();
        let mut events = Vec::new();
        for moves in deletions
            .chunks(MAX_EVENT_REFS)
            .chain(others.chunks(MAX_EVENT_REFS))
        {
            if !git.move_refs(&folder, moves, "mirror")? {
                return Err(AttemptError::MovedMeanwhile);
            }
            failpoint::hit("pull-moved");
            let names = moves.iter().map(|one| one.ref_name.as_str());
            let _ = sync_ref_folders(&folder, names);
            events.push(self.spool(moves)?);
        }
        failpoint::hit("pull-spooled");
        if let Some(mark) = mark {
            let _ = mark.remove();
        }
        Ok(events)
    }

    fn spool(&self, moves: &[RefMove]) -> Result<EventId, AttemptError> {
        let (id, who) = (EventId::new(), format!("mirror {PULL_MIRROR}"));
        let mut event = event_of(moves, id, &self.pull.repo, Some(who), self.now);
        if !self.pull.has_runs {
            event.options.push(SKIP_OPTION.to_owned());
        }
        spool_event(self.git.paths(), &event)?;
        Ok(id)
    }
}
