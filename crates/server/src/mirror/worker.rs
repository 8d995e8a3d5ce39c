//! The worker of one mirror: compares the refs here with what is known of the remote, and makes attempts.
//!
//! It keeps no state of its own: after a crash, or a change of the configuration, it goes on from the rows in the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::attempt::{MirrorAttempt, is_mirrored};
use super::attempt_error::{AttemptError, MAX_DELAY, delay_after};
use super::pull::PullAttempt;
use super::settings::{MirrorConfig, MirrorOrigin, MirrorSettings, MirrorTarget};
use super::shared::{MirrorDeps, MirrorShared};
use super::source::MirrorSource;
use quire_git::Git;
use quire_runtime::blocking::run_blocking;
use quire_store::{MirrorState, NewMirror, PullMirror, Store, StoreError};
use quire_types::clock::Millis;
use quire_types::error_chain::{chain, with_sources};
use quire_types::mirror::MirrorFailureKind;
use quire_types::names::{ObjectId, RefName, RepoName};

/// How long the refs here are not read without a notification.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// What a worker does next.
enum MirrorStep {
    /// Something may have to be done.
    Continue,
    /// Nothing is to be done for this time.
    Wait(Duration),
    /// It is no mirror any more.
    Removed,
}

/// Keeps the two sides of a mirror equal until it is none any more.
pub(super) async fn run(shared: Arc<MirrorShared>, mirror: NewMirror) {
    let mut settings = shared.deps.settings.clone();
    loop {
        let current = settings.borrow_and_update().clone();
        let repo = current_name(&shared.deps, &mirror).await;
        let mut changes = shared.deps.changes.subscribe_repo(&repo);
        let wait = match step(&shared, &mirror, &current).await {
            Ok(MirrorStep::Continue) => continue,
            Ok(MirrorStep::Wait(wait)) => wait.min(POLL_INTERVAL),
            Ok(MirrorStep::Removed) => return,
            Err(error) => {
                tracing::error!(
                    repo = mirror.repo.as_str(),
                    mirror = mirror.name,
                    error = with_sources(&error),
                    "cannot read or write the state of a mirror"
                );
                POLL_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = changes.changed() => {}
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

/// The name that the repository has at this moment.
async fn current_name(deps: &MirrorDeps, mirror: &NewMirror) -> RepoName {
    let asked = mirror.clone();
    let find = move |store: &Store| store.mirrors().find(&asked);
    let found = deps.store.call(find).await.ok().flatten();
    found.map_or_else(|| mirror.repo.clone(), |state| state.repo)
}

async fn step(
    shared: &MirrorShared,
    mirror: &NewMirror,
    settings: &MirrorSettings,
) -> Result<MirrorStep, StoreError> {
    let Some(source) = shared.source(mirror, settings).await? else {
        return Ok(MirrorStep::Removed);
    };
    let lock = shared.lock_of(mirror);
    let _one_at_a_time = lock.lock().await;
    let outcome = match prepare(shared, mirror, &source).await? {
        PreparedMirror::Nothing(_) => return Ok(MirrorStep::Wait(POLL_INTERVAL)),
        PreparedMirror::Failed(state, error) => {
            // What is wrong with the settings is recorded once.
            let known = state.failure.as_ref().map(|failure| &failure.problem);
            if known == Some(&chain(&error)) && matches!(error, AttemptError::Settings(_)) {
                return Ok(MirrorStep::Wait(POLL_INTERVAL));
            }
            let has_new = state.has_new;
            if let Some(wait) = delay_left(&state, has_new, shared.deps.store.clock().now()) {
                return Ok(MirrorStep::Wait(wait));
            }
            (state, Err(error))
        }
        PreparedMirror::Ready(ready) => {
            let now = shared.deps.store.clock().now();
            let compare_every = source.compare_every(settings);
            if let Some(wait) = wait_of(&ready, compare_every, now) {
                return Ok(MirrorStep::Wait(wait));
            }
            let result = attempt(shared, settings, &ready).await;
            (ready.state, result)
        }
    };
    record(shared, &outcome.0, outcome.1).await?;
    Ok(MirrorStep::Continue)
}

/// Makes an attempt now, whatever the delay. The caller holds the lock of the mirror. Returns what is wrong, if anything is.
pub(super) async fn sync_now(
    shared: &MirrorShared,
    mirror: &NewMirror,
    settings: &MirrorSettings,
) -> Result<Option<String>, StoreError> {
    let Some(source) = shared.source(mirror, settings).await? else {
        return Ok(Some("it is not in the configuration any more".to_owned()));
    };
    let (state, result) = match prepare(shared, mirror, &source).await? {
        PreparedMirror::Nothing(why) => return Ok(Some(why.to_owned())),
        PreparedMirror::Failed(state, error) => (state, Err(error)),
        PreparedMirror::Ready(ready) => {
            let result = attempt(shared, settings, &ready).await;
            (ready.state, result)
        }
    };
    let problem = result.as_ref().err().map(|error| chain(error));
    record(shared, &state, result).await?;
    Ok(problem)
}

enum PreparedMirror {
    /// Nothing may be done now, and why.
    Nothing(&'static str),
    Failed(MirrorState, AttemptError),
    Ready(ReadyMirror),
}

const NO_REPOSITORY: &str =
    "there is no such repository now, or the decision about an older copy of the database is open";

/// The settings in force follow within a second.
const CHANGED: &str = "the settings of the repository have just changed; run `mirror sync` again";

struct ReadyMirror {
    state: MirrorState,
    work: MirrorWork,
}

/// What an attempt does.
enum MirrorWork {
    Push {
        target: MirrorTarget,
        wanted: Vec<(RefName, ObjectId)>,
        delete: bool,
    },
    Pull(PullMirror),
}

/// Finds out whether an attempt is possible now.
async fn prepare(
    shared: &MirrorShared,
    mirror: &NewMirror,
    source: &MirrorSource,
) -> Result<PreparedMirror, StoreError> {
    let deps = &shared.deps;
    let asked = mirror.clone();
    let read = move |store: &Store| Ok((store.mirrors().find(&asked)?, store.instance().hold()?));
    // What an older copy does not know may be on the remote, and must not be overwritten there.
    let (Some(state), None) = deps.store.call(read).await? else {
        return Ok(PreparedMirror::Nothing(NO_REPOSITORY));
    };
    let folder = deps.paths.repo(&state.repo);
    if !run_blocking(move || folder.is_dir()).await.unwrap_or(false) {
        return Ok(PreparedMirror::Nothing(NO_REPOSITORY));
    }
    match source {
        MirrorSource::Push(config) => prepare_push(shared, state, config).await,
        MirrorSource::Pull(pull) => prepare_pull(shared, state, pull).await,
    }
}

/// Reads the refs here, and records what the remote has to have.
async fn prepare_push(
    shared: &MirrorShared,
    state: MirrorState,
    config: &MirrorConfig,
) -> Result<PreparedMirror, StoreError> {
    let deps = &shared.deps;
    let target = match &config.target {
        Ok(target) => target.clone(),
        Err(problem) => {
            let problem = AttemptError::Settings(problem.clone());
            return Ok(PreparedMirror::Failed(state, problem));
        }
    };
    let wanted = match shared.git.refs(&deps.paths.repo(&state.repo)).await {
        Ok(refs) => refs.refs.into_iter(),
        Err(error) => return Ok(PreparedMirror::Failed(state, AttemptError::Git(error))),
    };
    // Read after the refs: a push that ends the mirror is either seen here, or is not among the refs.
    if !is_current(&target, &state.repo).await {
        return Ok(PreparedMirror::Nothing(CHANGED));
    }
    let wanted: Vec<_> = wanted
        .filter(|(name, _)| is_mirrored(&target, name))
        .collect();
    // A repository without any ref to mirror is new, or was made anew: it does not empty the remote.
    let delete = target.delete && !wanted.is_empty();
    let (key, refs) = (state.key(), wanted.clone());
    let want = move |store: &Store| store.mirrors().want(&key, &refs, delete);
    let Some(state) = deps.store.call(want).await? else {
        return Ok(PreparedMirror::Nothing(NO_REPOSITORY));
    };
    let work = MirrorWork::Push {
        target,
        wanted,
        delete,
    };
    Ok(PreparedMirror::Ready(ReadyMirror { state, work }))
}

/// Whether the repository still asks for exactly this. What asks for something else is not in the settings in force yet.
async fn is_current(target: &MirrorTarget, repo: &RepoName) -> bool {
    let Some(check) = target.is_current.clone() else {
        return true;
    };
    let repo = repo.clone();
    run_blocking(move || check(&repo)).await.unwrap_or(false)
}

/// Checks that the repository has the mark of this mirror.
async fn prepare_pull(
    shared: &MirrorShared,
    state: MirrorState,
    pull: &PullMirror,
) -> Result<PreparedMirror, StoreError> {
    let repo = state.repo.clone();
    let mark = move |git: &Git| git.mirrored_from(&repo);
    match shared.git.call(mark).await {
        Ok(Some(url)) if url == pull.url => {
            let work = MirrorWork::Pull(pull.clone());
            Ok(PreparedMirror::Ready(ReadyMirror { state, work }))
        }
        // The import or the end of the mirror was cut off.
        Ok(_) => {
            let pull = pull.clone();
            let remove = move |store: &Store| store.pull_mirrors().remove(&pull);
            shared.deps.store.call(remove).await?;
            Ok(PreparedMirror::Nothing(NO_REPOSITORY))
        }
        Err(error) => Ok(PreparedMirror::Failed(state, AttemptError::Git(error))),
    }
}

/// How long nothing has to be done; `None` if an attempt is due.
fn wait_of(ready: &ReadyMirror, compare_every: Duration, now: Millis) -> Option<Duration> {
    let state = &ready.state;
    let (is_due, is_overtaken) = match ready.work {
        MirrorWork::Push { .. } => (is_due(state, compare_every, now), state.has_new),
        // What is new there is not known here, and what waits is tried again with the rest.
        MirrorWork::Pull(_) => (
            state.failure.is_some() || is_old(state, compare_every, now),
            false,
        ),
    };
    match is_due {
        true => delay_left(state, is_overtaken, now),
        false => Some(POLL_INTERVAL),
    }
}

/// Whether something differs, or was not compared for a while.
fn is_due(state: &MirrorState, compare_every: Duration, now: Millis) -> bool {
    state.waiting > 0 || state.failure.is_some() || is_old(state, compare_every, now)
}

/// Whether the last comparison is too long ago.
fn is_old(state: &MirrorState, compare_every: Duration, now: Millis) -> bool {
    state.in_sync_ms.is_none_or(|at| {
        // A time in the future is of a clock that was wrong.
        at > now || u128::from(now.since(at)) >= compare_every.as_millis()
    })
}

/// How long the next attempt has to wait. A ref that was not rejected (`has_new`) does not wait for those that were, nor for
/// objects of Git LFS.
fn delay_left(state: &MirrorState, has_new: bool, now: Millis) -> Option<Duration> {
    let failure = state.failure.as_ref()?;
    let is_of_others = matches!(
        failure.kind,
        MirrorFailureKind::Rejected | MirrorFailureKind::Lfs
    );
    if is_of_others && has_new {
        return None;
    }
    let wait = Duration::from_millis(failure.next_attempt_ms?.since(now));
    // A time that is too far ahead is of a clock that was wrong.
    (!wait.is_zero() && wait <= MAX_DELAY).then_some(wait)
}

async fn attempt(
    shared: &MirrorShared,
    settings: &MirrorSettings,
    ready: &ReadyMirror,
) -> Result<(), AttemptError> {
    let slots = match &ready.work {
        MirrorWork::Push { target, .. } if target.origin == MirrorOrigin::Repository => {
            &shared.slots_of_repos
        }
        _ => &shared.slots,
    };
    // Closed never; an attempt without a slot would only be one more.
    let _slot = slots.acquire().await;
    match &ready.work {
        MirrorWork::Push {
            target,
            wanted,
            delete,
        } => {
            let attempt = MirrorAttempt {
                store: &shared.deps.store,
                git: &shared.git,
                paths: &shared.deps.paths,
                settings,
                target,
                state: &ready.state,
                wanted,
                delete: *delete,
            };
            attempt.run().await
        }
        MirrorWork::Pull(pull) => {
            let attempt = PullAttempt {
                shared,
                settings,
                pull,
                state: &ready.state,
            };
            attempt.run().await
        }
    }
}

/// Records how an attempt ended.
async fn record(
    shared: &MirrorShared,
    state: &MirrorState,
    result: Result<(), AttemptError>,
) -> Result<(), StoreError> {
    let deps = &shared.deps;
    let error = match result {
        Ok(()) => {
            deps.metrics.mirror_syncs.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(AttemptError::Store(error)) => return Err(error),
        Err(error) => error,
    };
    deps.metrics.mirror_failures.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(repo = %state.repo, mirror = state.name, error = with_sources(&error), "a mirror is not in sync");
    let kind = error.kind();
    let failures = match &state.failure {
        Some(failure) if failure.kind == kind => failure.attempts,
        _ => 0,
    };
    let delay = i64::try_from(delay_after(kind, failures).as_millis()).unwrap_or(i64::MAX);
    let next = deps.store.clock().now().plus(delay);
    let (key, problem) = (state.key(), chain(&error));
    let failed = move |store: &Store| {
        let failure = (kind, problem.as_str());
        store.mirrors().failed(&key, failure, Some(next))
    };
    deps.store.call(failed).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_store::MirrorFailure;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn state(failure: Option<(MirrorFailureKind, i64)>, has_new: bool) -> MirrorState {
        MirrorState {
            repo: "app".parse().unwrap(),
            name: "nas".to_owned(),
            url: "git@nas:app".to_owned(),
            host_key: None,
            in_sync_ms: None,
            lfs_problem: None,
            failure: failure.map(|(kind, wait)| MirrorFailure {
                kind,
                problem: "refused".to_owned(),
                since_ms: NOW,
                attempts: 1,
                next_attempt_ms: Some(NOW.plus(wait)),
            }),
            equal: 0,
            waiting: 1,
            rejected: u64::from(!has_new),
            waiting_since_ms: Some(NOW),
            has_new,
            is_pull: false,
        }
    }

    #[test]
    fn only_refs_that_were_rejected_wait_for_those() {
        let left = |failure, has_new| delay_left(&state(failure, has_new), has_new, NOW);
        let minute = Some(Duration::from_secs(60));
        let (rejected, access) = (MirrorFailureKind::Rejected, MirrorFailureKind::Access);
        let lfs = MirrorFailureKind::Lfs;
        assert_eq!(left(None, true), None);
        assert_eq!(left(Some((access, 60_000)), true), minute);
        assert_eq!(left(Some((access, -1)), true), None);
        assert_eq!(left(Some((access, 1 << 40)), true), None);
        assert_eq!(left(Some((rejected, 60_000)), false), minute);
        assert_eq!(left(Some((rejected, 60_000)), true), None);
        assert_eq!(left(Some((lfs, 60_000)), false), minute);
        assert_eq!(left(Some((lfs, 60_000)), true), None);
    }
}
