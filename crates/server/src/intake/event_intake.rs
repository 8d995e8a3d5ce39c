//! The intake: reads spooled events and records them with their runs.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::error::IntakeError;
use super::{plan, spool};
use crate::control::protocol::RunLink;
use crate::findings::{Findings, RepoTask};
use crate::metrics::Metrics;
use crate::queue::Queue;
use quire_git::Git;
use quire_runtime::blocking::run_blocking;
use quire_store::Store;
use quire_types::base_url::BaseUrl;
use quire_types::error_chain::{self, with_sources};
use quire_types::names::{EventId, RefName, RepoName, RunId};
use quire_types::paths::Paths;
use quire_types::push_event::PushEvent;

/// How often the spool is read when no hook announces an event.
const SPOOL_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How often refs are compared after the start: what a push whose spool file could not be written waits.
const COMPARE_EVERY: Duration = Duration::from_secs(15 * 60);

/// The same while a repository cannot be compared.
const COMPARE_AGAIN: Duration = Duration::from_secs(30);

/// What the pusher is told about an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntakeResult {
    pub runs: Vec<RunLink>,
    /// Sentences for the pusher.
    pub notes: Vec<String>,
}

/// What a pass over the spool left in it.
#[derive(Debug, Default)]
pub struct Drained {
    /// How many events.
    pub(super) left: usize,
    /// The repositories that cannot be read, so that their events wait.
    pub(super) waiting: BTreeSet<RepoName>,
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

/// The intake. Cheap to clone.
#[derive(Clone)]
pub struct Intake(pub(super) Arc<IntakeState>);

pub(super) struct IntakeState {
    pub(super) paths: Paths,
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) git: Git,
    url: BaseUrl,
    /// The most runs that one push makes.
    max_runs: watch::Receiver<usize>,
    pub(super) taking: RepoLocks,
    /// Repositories that the last comparison of refs did not find.
    pub(super) gone: Mutex<BTreeSet<RepoName>>,
    damaged: AtomicU64,
    metrics: Arc<Metrics>,
    pub(super) findings: Findings,
}

impl Intake {
    /// Creates an intake. `url` is the address of the pages, for links to runs, `max_runs` the most runs of one push.
    #[must_use]
    pub fn new(
        paths: Paths,
        store: Store,
        queue: Queue,
        metrics: Arc<Metrics>,
        findings: Findings,
        url: BaseUrl,
        max_runs: watch::Receiver<usize>,
    ) -> Self {
        let git = Git::new(&paths);
        let (taking, gone, damaged) = (RepoLocks::default(), Mutex::default(), AtomicU64::new(0));
        let state = IntakeState {
            paths,
            store,
            queue,
            git,
            url,
            max_runs,
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

    /// Takes everything that lies in the spool, oldest first. One event that cannot be taken now does not hold the others.
    pub async fn drain(&self) -> Drained {
        let mut drained = Drained::default();
        let paths = self.0.paths.clone();
        let listed = run_blocking(move || spool::list(&paths)).await;
        let events = match listed.map_err(IntakeError::from).flatten() {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(error = with_sources(&error), "the spool cannot be read");
                return drained;
            }
        };
        for event in events {
            if let Err(error) = self.take(event, None).await {
                drained.left += 1;
                match error.repo() {
                    // It is among the findings.
                    Some(repo) => drop(drained.waiting.insert(repo.clone())),
                    None => {
                        tracing::error!(%event, error = with_sources(&error), "an event could not be taken; it stays in the spool");
                    }
                }
            }
        }
        let is_waiting = |name: &str| drained.waiting.iter().any(|repo| repo.as_str() == name);
        self.0
            .findings
            .clear_others(RepoTask::RecordPush, is_waiting);
        let paths = self.0.paths.clone();
        if let Ok(damaged) = run_blocking(move || spool::count_damaged(&paths)).await {
            self.0.damaged.store(damaged, Ordering::Relaxed);
        }
        drained
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
        let path = self.0.paths.spool_file(event);
        let file = path.clone();
        let Some(read) = run_blocking(move || spool::read(&file)).await?? else {
            // Taken before, or never written; the database knows.
            let known = self
                .0
                .store
                .call(move |store| store.events().runs_of(event))
                .await?
                .unwrap_or_default();
            return self.answer(known, Vec::new(), reached).await;
        };
        let push = match read.and_then(|push| {
            if push.id == event {
                Ok(push)
            } else {
                Err(spool::SpoolFileError::WrongId)
            }
        }) {
            Ok(push) => push,
            Err(damage) => {
                tracing::error!(file = %path.display(), %damage, "a spool file is damaged; it was set aside in spool/damaged");
                let paths = self.0.paths.clone();
                run_blocking(move || spool::quarantine(&paths, &path)).await??;
                self.0.damaged.fetch_add(1, Ordering::Relaxed);
                return Ok(IntakeResult {
                    runs: Vec::new(),
                    notes: vec![format!(
                        "the event of this push is damaged ({damage}); it was set aside"
                    )],
                });
            }
        };
        let _one_at_a_time = self.0.taking.of(&push.repo).lock().await;
        let repo = push.repo.clone();
        let taken = self
            .record(push, reached)
            .await
            .map_err(|error| match error {
                IntakeError::Git(source) => {
                    let (findings, attempt) = (&self.0.findings, RepoTask::RecordPush);
                    findings.add(&repo, attempt, error_chain::chain(&source));
                    IntakeError::Repository { repo, source }
                }
                error => error,
            })?;
        quire_types::failpoint::hit("intake-recorded");
        // What was written to a database that was removed or replaced is lost, and the file is what is left.
        self.0.store.call(Store::check_file).await?;
        // If another task recorded the same event at the same time, the one that removes the file counts it.
        if run_blocking(move || spool::remove(&path)).await?? {
            self.0.metrics.pushes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(taken)
    }

    /// Plans and records an event.
    pub(super) async fn record(
        &self,
        push: PushEvent,
        reached: Option<IpAddr>,
    ) -> Result<IntakeResult, IntakeError> {
        let mut plan = plan::plan(&self.0.git, &self.0.paths, &push).await?;
        let max_runs = *self.0.max_runs.borrow();
        plan.limit_runs(max_runs);
        quire_types::failpoint::hit("intake-before-record");
        let recorded = self.0.queue.record(push, plan.runs, plan.refs_now).await?;
        self.answer(recorded.runs, plan.notes, reached).await
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

    /// Reads the spool and compares refs at intervals, until `stop` is cancelled.
    pub async fn poll(&self, stop: &CancellationToken) {
        let mut compared = tokio::time::Instant::now();
        while stop
            .run_until_cancelled(tokio::time::sleep(SPOOL_POLL_INTERVAL))
            .await
            .is_some()
        {
            let drained = self.drain().await;
            self.apply_decision().await;
            self.compare_marked(&drained).await;
            let failed = [RepoTask::Look, RepoTask::CompareRefs];
            let interval = if self.0.findings.has_any(&failed) {
                COMPARE_AGAIN
            } else {
                COMPARE_EVERY
            };
            if compared.elapsed() >= interval {
                self.compare_refs().await;
                compared = tokio::time::Instant::now();
            }
        }
    }
}
