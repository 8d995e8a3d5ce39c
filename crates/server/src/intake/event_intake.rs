//! The intake: reads spooled events and records them with their runs.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, watch};

use super::error::IntakeError;
use super::{plan, spool};
use crate::control::protocol::RunLink;
use crate::findings::{Findings, RepoTask};
use crate::housekeeping::RetentionLimits;
use crate::metrics::Metrics;
use crate::queue::Queue;
use quire_git::Git;
use quire_runtime::blocking::run_blocking;
use quire_store::{PlannedEvent, Store};
use quire_types::base_url::BaseUrl;
use quire_types::error_chain;
use quire_types::landing::LandingMethod;
use quire_types::names::{EventId, RefName, RepoName, RunId};
use quire_types::paths::Paths;
use quire_types::push_event::PushEvent;

/// What the pusher is told about an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntakeResult {
    pub runs: Vec<RunLink>,
    /// Sentences for the pusher.
    pub notes: Vec<String>,
}

/// What the spool has of an event.
pub(super) enum SpoolEntry {
    Push(PushEvent),
    /// There is no file.
    Gone,
    /// The file was set aside.
    Damaged(spool::SpoolFileError),
}

/// An event that was recorded: its runs, and sentences for the pusher.
pub(super) struct TakenEvent {
    runs: Vec<(RunId, RefName)>,
    notes: Vec<String>,
}

/// A fixed set of locks; a repository uses the one its name hashes to, so two may share a lock.
pub(super) struct RepoLocks([Mutex<()>; 64]);

impl Default for RepoLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl RepoLocks {
    pub(super) fn of(&self, repo: &RepoName) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        repo.hash(&mut hasher);
        &self.0[usize::try_from(hasher.finish() % self.0.len() as u64).unwrap_or_default()]
    }
}

/// What the configuration says about the intake; replaced when it is reloaded.
#[derive(Debug, Clone)]
pub struct IntakeSettings {
    /// The most runs that one push makes.
    pub max_runs: watch::Receiver<usize>,
    /// How commits land whose push does not say it.
    pub landing: watch::Receiver<LandingMethod>,
    pub retention: watch::Receiver<RetentionLimits>,
}

/// The intake. Cheap to clone.
#[derive(Clone)]
pub struct Intake(pub(super) Arc<IntakeState>);

pub(super) struct IntakeState {
    pub(super) paths: Paths,
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) git: Git,
    url: BaseUrl,
    settings: IntakeSettings,
    pub(super) taking: RepoLocks,
    /// Repositories that the last comparison of refs did not find.
    pub(super) gone: Mutex<BTreeSet<RepoName>>,
    pub(super) damaged: AtomicU64,
    metrics: Arc<Metrics>,
    pub(super) findings: Findings,
}

impl Intake {
    /// Creates an intake. `url` is the address of the pages, for links to runs.
    #[must_use]
    pub fn new(
        git: Git,
        store: Store,
        queue: Queue,
        metrics: Arc<Metrics>,
        findings: Findings,
        url: BaseUrl,
        settings: IntakeSettings,
    ) -> Self {
        let paths = git.paths().clone();
        let (taking, gone, damaged) = (RepoLocks::default(), Mutex::default(), AtomicU64::new(0));
        let state = IntakeState {
            paths,
            store,
            queue,
            git,
            url,
            settings,
            taking,
            gone,
            damaged,
            metrics,
            findings,
        };
        Self(Arc::new(state))
    }

    /// Damaged spool files set aside and still there.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.0.damaged.load(Ordering::Relaxed)
    }

    /// Takes one event: records it with its runs, then removes its file.
    ///
    /// # Errors
    /// Git or the database could not answer; the file stays.
    pub async fn take(
        &self,
        event: EventId,
        reached: Option<IpAddr>,
    ) -> Result<IntakeResult, IntakeError> {
        let push = match self.read(event).await? {
            SpoolEntry::Push(push) => push,
            // Taken before, or never written; the database knows.
            SpoolEntry::Gone => {
                let read = move |store: &Store| store.events().runs_of(event);
                let known = self.0.store.call(read).await?.unwrap_or_default();
                return self.answer(known, Vec::new(), reached).await;
            }
            SpoolEntry::Damaged(damage) => {
                let note =
                    format!("the event of this push is damaged ({damage}); it was set aside");
                return Ok(IntakeResult {
                    runs: Vec::new(),
                    notes: vec![note],
                });
            }
        };
        let Some((_, taken)) = self.take_all(vec![push]).await?.pop() else {
            return Ok(IntakeResult::default());
        };
        let TakenEvent { runs, notes } = taken?;
        self.0.queue.write_sequence().await;
        self.answer(runs, notes, reached).await
    }

    /// Reads an event of the spool. A damaged one is set aside.
    pub(super) async fn read(&self, event: EventId) -> Result<SpoolEntry, IntakeError> {
        let path = self.0.paths.spool_file(event);
        let file = path.clone();
        let Some(read) = run_blocking(move || spool::read(&file)).await?? else {
            return Ok(SpoolEntry::Gone);
        };
        let damage = match read {
            Ok(push) if push.id == event => return Ok(SpoolEntry::Push(push)),
            Ok(_) => spool::SpoolFileError::WrongId,
            Err(damage) => damage,
        };
        tracing::error!(file = %path.display(), %damage, "a spool file is damaged; it was set aside in spool/damaged");
        let paths = self.0.paths.clone();
        run_blocking(move || spool::quarantine(&paths, &path)).await??;
        self.0.damaged.fetch_add(1, Ordering::Relaxed);
        Ok(SpoolEntry::Damaged(damage))
    }

    /// Records pushes to one repository, oldest first, in one transaction, then removes their files. A push whose objects
    /// cannot be read keeps its file.
    ///
    /// # Errors
    /// The database or the disk could not answer; all files stay, or those that could not be removed.
    pub(super) async fn take_all(
        &self,
        pushes: Vec<PushEvent>,
    ) -> Result<Vec<(EventId, Result<TakenEvent, IntakeError>)>, IntakeError> {
        let Some(repo) = pushes.first().map(|push| push.repo.clone()) else {
            return Ok(Vec::new());
        };
        let _one_at_a_time = self.0.taking.of(&repo).lock().await;
        let (mut planned, mut taken) = (Vec::new(), Vec::new());
        for push in pushes {
            let id = push.id;
            match self.plan(push).await {
                Ok((event, notes)) => {
                    planned.push(event);
                    let runs = Vec::new();
                    taken.push((id, Ok(TakenEvent { runs, notes })));
                }
                Err(IntakeError::Git(source)) => {
                    let (findings, attempt) = (&self.0.findings, RepoTask::RecordPush);
                    findings.add(&repo, attempt, error_chain::chain(&source));
                    let repo = repo.clone();
                    taken.push((id, Err(IntakeError::Repository { repo, source })));
                }
                Err(error) => taken.push((id, Err(error))),
            }
        }
        let recorded = self.0.queue.record(planned).await?;
        quire_types::failpoint::hit("intake-recorded");
        // What was written to a database that was removed or replaced is lost, and the file is what is left.
        self.0.store.call(Store::check_file).await?;
        let planned = taken
            .iter_mut()
            .filter_map(|(id, taken)| Some((*id, taken.as_mut().ok()?)));
        for ((id, taken), recorded) in planned.zip(recorded) {
            taken.runs = recorded.runs;
            let path = self.0.paths.spool_file(id);
            // If another task recorded the same event at the same time, the one that removes the file counts it.
            if run_blocking(move || spool::remove(&path)).await?? {
                self.0.metrics.pushes.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(taken)
    }

    /// Plans an event; returns it with what the pusher is told.
    pub(super) async fn plan(
        &self,
        push: PushEvent,
    ) -> Result<(PlannedEvent, Vec<String>), IntakeError> {
        let keep_overwritten = !self.0.settings.retention.borrow().times.undo.is_zero();
        let (git, paths) = (&self.0.git, &self.0.paths);
        let mut plan = plan::plan(git, paths, &push, keep_overwritten).await?;
        let max_runs = *self.0.settings.max_runs.borrow();
        plan.limit_runs(max_runs);
        quire_types::failpoint::hit("intake-before-record");
        let planned = PlannedEvent {
            event: push,
            runs: plan.runs,
            current_refs: plan.refs_now,
            overwritten: plan.overwritten,
            landing: plan.landing.unwrap_or(*self.0.settings.landing.borrow()),
            changes: plan.changes,
        };
        Ok((planned, plan.notes))
    }

    async fn answer(
        &self,
        runs: Vec<(RunId, RefName)>,
        notes: Vec<String>,
        reached: Option<IpAddr>,
    ) -> Result<IntakeResult, IntakeError> {
        let url = self.0.url.for_reader(reached);
        let url = url.trim_end_matches('/').to_owned();
        let read = move |store: &Store| {
            let mut links = Vec::with_capacity(runs.len());
            for (id, ref_name) in runs {
                let run = store.runs().get(id)?;
                links.push(RunLink {
                    id: id.to_string(),
                    name: run
                        .as_ref()
                        .map_or_else(String::new, |run| run.name().to_string()),
                    subject: run.and_then(|run| run.subject),
                    ref_name,
                    url: format!("{url}/runs/{id}"),
                });
            }
            Ok(links)
        };
        let runs = self.0.store.call(read).await?;
        Ok(IntakeResult { runs, notes })
    }
}
