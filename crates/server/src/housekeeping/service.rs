//! The background tasks of housekeeping: rounds of removal, and git's maintenance beside them.

use std::sync::Arc;
use std::time::Duration;

use crate::control::protocol::GcReport;
use crate::part_problem::PartProblem;
use quire_store::{Store, StoreError};
use quire_types::disk_space::{MinFree, free_bytes, has_inodes};
use quire_types::error_chain::chain;
use quire_types::text::format_bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cleanup_pass::CleanupPass;
use super::clock_guard::ClockGuard;
use super::commit_graphs::CommitGraphs;
use super::deps::HousekeepingDeps;
use super::git_maintenance::GitMaintenance;
use quire_types::sync::lock;

/// Before the first round. Reconciling and the pushes that wait come first.
const INITIAL_DELAY: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(60 * 60);
const INTERVAL_WHILE_SHORT: Duration = Duration::from_secs(10 * 60);
/// How often the free space is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// A handle to the housekeeping. Cheap to clone.
#[derive(Clone)]
pub struct Housekeeping {
    shared: Arc<HousekeepingState>,
}

struct HousekeepingState {
    deps: HousekeepingDeps,
    /// Held during a round, so that only one runs at a time.
    clock_guard: Mutex<ClockGuard>,
    /// What the last round could not do.
    problems: std::sync::Mutex<Vec<String>>,
}

/// What needs attention, one message each. The messages name repositories: show them to signed-in users only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProblemsByComponent {
    /// What could not be removed or maintained.
    pub maintenance: Vec<PartProblem>,
    /// Repositories whose schedules could not be read.
    pub schedules: Vec<PartProblem>,
    /// Repositories that cannot be read.
    pub repositories: Vec<PartProblem>,
}

impl Housekeeping {
    #[must_use]
    pub fn new(deps: HousekeepingDeps) -> Self {
        let clock_guard = Mutex::new(ClockGuard::new(&deps.store));
        Self {
            shared: Arc::new(HousekeepingState {
                deps,
                clock_guard,
                problems: std::sync::Mutex::default(),
            }),
        }
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let maintenance = GitMaintenance::new(&self.shared.deps);
        let graphs = CommitGraphs::new(&self.shared.deps);
        tokio::join!(
            self.run_rounds(&stop),
            maintenance.run(&stop),
            graphs.run(&stop)
        );
    }

    async fn run_rounds(&self, stop: &CancellationToken) {
        let mut last = Instant::now();
        let mut pause = INITIAL_DELAY;
        while stop
            .run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL))
            .await
            .is_some()
        {
            if last.elapsed() < pause_until_next(pause, self.is_space_short().await) {
                continue;
            }
            // The next round finishes what a cancelled one leaves.
            if stop.run_until_cancelled(self.run_once()).await.is_none() {
                return;
            }
            last = Instant::now();
            pause = INTERVAL;
        }
    }

    async fn is_space_short(&self) -> bool {
        let paths = self.shared.deps.paths.clone();
        let checked = tokio::task::spawn_blocking(move || {
            !has_inodes(paths.data())
                || free_bytes(paths.data())
                    .is_ok_and(|free| MinFree::read(&paths).blocks_runs(free))
        });
        checked.await.unwrap_or(false)
    }

    /// Removes what need not be kept, once. A second call waits for the first.
    pub async fn run_once(&self) -> GcReport {
        let deps = &self.shared.deps;
        let mut clock_guard = self.shared.clock_guard.lock().await;
        let clock_plausible = clock_guard.is_plausible(deps.store.clock().now());
        let mut freed = CleanupPass::new(deps, clock_plausible).run().await;
        freed.problems.clone_into(&mut lock(&self.shared.problems));
        match deps
            .store
            .call(|store| store.maintenance().problems())
            .await
        {
            Ok(problems) => freed
                .problems
                .extend(problems.iter().map(|of| maintenance_problem(of).text)),
            Err(error) => freed.problems.push(chain(&error)),
        }
        log_result(&freed);
        freed
    }

    /// Returns what the last round could not do, the repositories that git could not maintain, and those whose
    /// schedules are outdated.
    pub async fn problems(&self) -> Result<ProblemsByComponent, StoreError> {
        let read = |store: &Store| {
            Ok((
                store.maintenance().problems()?,
                store.schedules().problems()?,
            ))
        };
        let (repos, schedules) = self.shared.deps.store.call(read).await?;
        let of_round = lock(&self.shared.problems).clone().into_iter();
        let of_round = of_round.map(PartProblem::of_part);
        Ok(ProblemsByComponent {
            maintenance: of_round
                .chain(repos.iter().map(maintenance_problem))
                .collect(),
            schedules: schedules.iter().map(schedule_problem).collect(),
            repositories: self.shared.deps.findings.problems(),
        })
    }
}

impl std::fmt::Debug for Housekeeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Housekeeping").finish_non_exhaustive()
    }
}

/// The time from the end of one round to the start of the next.
fn pause_until_next(pause: Duration, space_short: bool) -> Duration {
    if space_short {
        pause.min(INTERVAL_WHILE_SHORT)
    } else {
        pause
    }
}

fn maintenance_problem((repo, reason): &(String, String)) -> PartProblem {
    PartProblem::new(repo, format!("git maintenance of {repo} failed: {reason}"))
}

fn schedule_problem((repo, reason): &(String, String)) -> PartProblem {
    let text = format!(
        "the schedules of {repo} are those of an older commit, because its newest pipeline cannot be read: {reason}"
    );
    PartProblem::new(repo, text)
}

fn log_result(freed: &GcReport) {
    for problem in &freed.problems {
        tracing::warn!("housekeeping: {problem}");
    }
    let nothing = GcReport {
        problems: freed.problems.clone(),
        ..GcReport::default()
    };
    if *freed != nothing {
        tracing::info!(
            runs = freed.runs,
            logs = freed.logs,
            artifacts = freed.artifacts,
            events = freed.events,
            images = freed.images,
            caches = freed.caches,
            trash = freed.trash,
            overwritten = freed.overwritten,
            leftovers = freed.leftovers,
            freed = format_bytes(freed.bytes),
            "housekeeping removed what need not be kept"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_sooner_while_space_is_short() {
        assert_eq!(
            [INITIAL_DELAY, INTERVAL].map(|pause| pause_until_next(pause, false)),
            [INITIAL_DELAY, INTERVAL]
        );
        assert_eq!(
            [INITIAL_DELAY, INTERVAL].map(|pause| pause_until_next(pause, true)),
            [INITIAL_DELAY, INTERVAL_WHILE_SHORT]
        );
    }

    #[test]
    fn problem_texts() {
        let problem = ("app".to_owned(), "git says no".to_owned());
        insta::assert_snapshot!(
            [maintenance_problem(&problem), schedule_problem(&problem)]
                .map(|problem| problem.text)
                .join("\n"),
            @"
        git maintenance of app failed: git says no
        the schedules of app are those of an older commit, because its newest pipeline cannot be read: git says no
        "
        );
    }
}
