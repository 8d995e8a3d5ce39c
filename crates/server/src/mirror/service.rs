//! Mirrors of the server: one worker for each of the configuration in force.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::import::Import;
use super::import_error::ImportError;
use super::settings::MirrorSettings;
use super::shared::{MirrorDeps, MirrorShared};
use super::worker::{self, POLL_INTERVAL};
use crate::control::protocol::{ImportReport, ImportRequest};
use crate::part_problem::PartProblem;
use crate::workers::Workers;
use quire_git::ProgressLine;
use quire_store::{MirrorState, NewMirror, Store, StoreError};
use quire_types::error_chain::with_sources;
use quire_types::names::RepoName;
use quire_types::text::format_elapsed;

/// How long a mirror may fail before it is reported, unless only the owner can change what is wrong.
const REPORT_AFTER: Duration = Duration::from_secs(600);

/// A handle to the mirrors. Cheap to clone.
#[derive(Clone)]
pub struct MirrorService {
    shared: Arc<MirrorShared>,
}

/// A mirror that was synchronized by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedMirror {
    pub name: String,
    /// What is wrong, if it is not in sync.
    pub problem: Option<String>,
}

/// Why no mirror was synchronized.
#[derive(Debug, thiserror::Error)]
pub enum MirrorSyncError {
    #[error(
        "there is no mirror of {0}; `:mirrors` in the configuration or in the settings of the repository adds one, and {0} follows no other repository"
    )]
    NoMirror(RepoName),
    #[error("there is no mirror `{name}` of {repo}; its mirrors are {}", known.join(", "))]
    NoSuchMirror {
        repo: RepoName,
        name: String,
        known: Vec<String>,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MirrorService {
    #[must_use]
    pub fn new(deps: MirrorDeps) -> Self {
        Self {
            shared: Arc::new(MirrorShared::new(deps)),
        }
    }

    /// Runs until `stop` is cancelled. Attempts that are cut off are made again after the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut settings = self.shared.deps.settings.clone();
        let mut workers = Workers::default();
        if stop.run_until_cancelled(self.settings()).await.is_none() {
            return;
        }
        let removed = self.shared.git.call(|git| {
            git.remove_remote_leftovers();
            Ok(())
        });
        let _ = removed.await;
        let mut before: Option<Arc<MirrorSettings>> = None;
        loop {
            let current = settings.borrow_and_update().clone();
            let recorded = self.record(&current).await;
            if let Some(before) = before.replace(current.clone())
                && let Err(error) = self.retry(&before, &current).await
            {
                tracing::error!(
                    error = with_sources(&error),
                    "mirrors that failed are retried later"
                );
            }
            match recorded {
                Ok(mirrors) => {
                    workers.ensure(mirrors, |mirror| worker::run(self.shared.clone(), mirror));
                }
                Err(error) => {
                    tracing::error!(error = with_sources(&error), "cannot record the mirrors");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = self.shared.made.notified() => {}
                changed = settings.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Lets mirrors that failed be tried at once, since what made them fail may have been corrected: all after a change of the owner's
    /// settings, otherwise those of which their repositories say something else now. After a push to one repository, mirrors of others are tried no earlier.
    async fn retry(
        &self,
        before: &MirrorSettings,
        current: &MirrorSettings,
    ) -> Result<(), StoreError> {
        let store = &self.shared.deps.store;
        if before.owner_revision != current.owner_revision {
            return store.call(|store| store.mirrors().retry_now()).await;
        }
        let changed: Vec<NewMirror> = current.changed_since(before).cloned().collect();
        let repos: BTreeSet<RepoName> = changed.iter().map(|of| of.repo.clone()).collect();
        let retry = move |store: &Store| {
            for mirror in &changed {
                if let Some(state) = store.mirrors().find(mirror)? {
                    store.mirrors().retry(&state.key())?;
                }
            }
            Ok(())
        };
        store.call(retry).await?;
        let changes = &self.shared.deps.changes;
        // Their workers may have seen the new settings before.
        repos.iter().for_each(|repo| changes.notify_repo(repo));
        Ok(())
    }

    /// The settings, once those of repositories are among them: a mirror that is not recorded again is forgotten.
    async fn settings(&self) -> Arc<MirrorSettings> {
        let mut settings = self.shared.deps.settings.clone();
        let complete = settings.wait_for(|settings| settings.knows_repos).await;
        let complete = complete.map(|complete| complete.clone()).ok();
        match complete {
            Some(complete) => complete,
            // The server is stopping.
            None => std::future::pending().await,
        }
    }

    /// Records which mirrors there are. A repository may have got another name, or its former one, in between.
    async fn record(&self, settings: &MirrorSettings) -> Result<Vec<NewMirror>, StoreError> {
        let mirrors = self.shared.mirrors(settings).await?;
        let set = mirrors.clone();
        let record = move |store: &Store| store.mirrors().set(&set);
        self.shared.deps.store.call(record).await?;
        Ok(mirrors)
    }

    /// Makes an attempt now for one mirror of a repository, or for each, and returns once they have ended. With
    /// `new_host_key` the host key that is known is forgotten before.
    pub async fn sync(
        &self,
        repo: &RepoName,
        name: Option<&str>,
        new_host_key: bool,
    ) -> Result<Vec<SyncedMirror>, MirrorSyncError> {
        let settings = self.settings().await;
        let mirrors = self.record(&settings).await?;
        let mut synced = Vec::new();
        let mut known = Vec::new();
        for mirror in self.of_repo(repo, mirrors).await? {
            known.push(mirror.name.clone());
            if name.is_some_and(|name| name != mirror.name) {
                continue;
            }
            let lock = self.shared.lock_of(&mirror);
            let _one_at_a_time = lock.lock().await;
            if new_host_key {
                self.forget_host_key(&mirror).await?;
            }
            let problem = worker::sync_now(&self.shared, &mirror, &settings).await?;
            let name = mirror.name;
            synced.push(SyncedMirror { name, problem });
        }
        match (known.is_empty(), name) {
            (true, _) => Err(MirrorSyncError::NoMirror(repo.clone())),
            (false, Some(name)) if synced.is_empty() => Err(MirrorSyncError::NoSuchMirror {
                repo: repo.clone(),
                name: name.to_owned(),
                known,
            }),
            _ => Ok(synced),
        }
    }

    /// Those of the mirrors that are this repository's, by any of its names.
    async fn of_repo(
        &self,
        repo: &RepoName,
        mirrors: Vec<NewMirror>,
    ) -> Result<Vec<NewMirror>, StoreError> {
        let repo = repo.clone();
        let find = move |store: &Store| {
            let states = store.mirrors().list(Some(&repo))?;
            let mut found = Vec::new();
            for mirror in mirrors {
                let state = store.mirrors().find(&mirror)?;
                if state.is_some_and(|state| states.iter().any(|of| of.key() == state.key())) {
                    found.push(mirror);
                }
            }
            Ok(found)
        };
        self.shared.deps.store.call(find).await
    }

    /// Imports a repository from another machine. If this is dropped, the next import goes on from there.
    pub(crate) async fn import(
        &self,
        request: &ImportRequest,
        progress: &UnboundedSender<ProgressLine>,
    ) -> Result<ImportReport, ImportError> {
        if self.shared.import_slots.available_permits() == 0 {
            let _ = progress.send(ProgressLine {
                text: "waiting for the end of other imports".to_owned(),
                is_final: true,
            });
        }
        // Closed never.
        let _slot = self.shared.import_slots.acquire().await;
        let settings = self.shared.deps.settings.borrow().clone();
        let import = Import {
            shared: &self.shared,
            settings: &settings,
            request,
            progress,
        };
        let report = import.run().await?;
        if request.mirror.is_some() {
            self.shared.made.notify_one();
        }
        Ok(report)
    }

    async fn forget_host_key(&self, mirror: &NewMirror) -> Result<(), StoreError> {
        let mirror = mirror.clone();
        let forget = move |store: &Store| match store.mirrors().find(&mirror)? {
            Some(state) => store.mirrors().set_host_key(&state.key(), None),
            None => Ok(()),
        };
        self.shared.deps.store.call(forget).await
    }

    /// What is wrong with mirrors.
    pub async fn problems(&self) -> Result<Vec<PartProblem>, StoreError> {
        let shared = &self.shared;
        let settings = shared.deps.settings.borrow().clone();
        let mut problems = Vec::new();
        for mirror in shared.mirrors(&settings).await? {
            let asked = mirror.clone();
            let find = move |store: &Store| store.mirrors().find(&asked);
            let state = shared.deps.store.call(find).await?;
            let problem = state.and_then(|state| self.problem_sentence(&state));
            if let Some(problem) = problem
                && let Some(source) = shared.source(&mirror, &settings).await?
            {
                let text = source.problem(&mirror, &problem);
                problems.push(PartProblem::new(subject(&mirror), text));
            }
        }
        for mirror in shared.misnamed(&settings).await? {
            let problem = "the repository follows another one under this name; choose another name";
            let config = settings.mirrors.get(&mirror);
            let text = config.map(|config| config.problem(&mirror, problem));
            problems.extend(text.map(|text| PartProblem::new(subject(&mirror), text)));
        }
        Ok(problems)
    }

    /// What is wrong with a mirror for long enough to be reported.
    fn problem_sentence(&self, state: &MirrorState) -> Option<String> {
        let failure = state.failure.as_ref()?;
        let elapsed = self.shared.deps.store.clock().now().since(failure.since_ms);
        if !failure.kind.needs_owner() && u128::from(elapsed) < REPORT_AFTER.as_millis() {
            return None;
        }
        let since = format_elapsed(elapsed);
        Some(format!("not in sync for {since}: {}", failure.problem))
    }
}

/// What names a mirror in findings, whatever its address and its problem are.
fn subject(mirror: &NewMirror) -> String {
    format!("{} {}", mirror.repo, mirror.name)
}
