//! The worker of one repository: brings each of its landings one step further, and deletes the refs of those that have ended.
//!
//! It keeps no state of its own: after a crash it goes on from the rows and from what git says.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::deps::LandingDeps;
use super::error::LandingError;
use crate::findings::RepoTask;
use crate::intake::spool_event;
use crate::ref_move::{event_of, move_ref};
use quire_git::{LandingCommit, RefMove, RemadeCommit};
use quire_runtime::blocking::run_blocking;
use quire_store::{Landing, OpenLanding, Store};
use quire_types::failpoint;
use quire_types::landing::{
    BranchRelation, LandingMethod, LandingProblem, LandingState, LandingStep, step_of,
};
use quire_types::names::{EventId, ObjectId, RefName, RepoName};
use quire_types::run::RunState;

/// How long nothing is asked of the database without a notification.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// How long the next attempt waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What a landing waits for whose run is green.
const WAITS: &str = "waits until the commits that were pushed before it have landed";

/// The reason of a move, in the reflog of the branch.
const REASON: &str = "land";

/// What a pass led to.
enum LandingPass {
    /// There may be more to do.
    Continue,
    /// A run has to end first.
    Wait,
    /// The repository has no landings.
    Done,
}

/// Lands the commits of a repository until none is left.
pub(super) async fn run(deps: Arc<LandingDeps>, repo: RepoName) {
    let mut changes = deps.changes.subscribe_all();
    loop {
        changes.mark_unchanged();
        let passed = RepoLandings {
            deps: &deps,
            repo: &repo,
            folder: deps.paths.repo(&repo),
        };
        let passed = passed.pass().await;
        let wait = match deps.findings.report(&repo, RepoTask::Land, passed) {
            Some(LandingPass::Continue) => continue,
            Some(LandingPass::Wait) => POLL_INTERVAL,
            Some(LandingPass::Done) => return,
            None => RETRY_INTERVAL,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// The landings of a repository.
struct RepoLandings<'a> {
    deps: &'a LandingDeps,
    repo: &'a RepoName,
    folder: PathBuf,
}

impl RepoLandings<'_> {
    async fn pass(&self) -> Result<LandingPass, LandingError> {
        let repo = self.repo.clone();
        let read = move |store: &Store| {
            let landings = store.landings();
            let (open, ended) = (landings.open(&repo)?, landings.ended_refs(&repo)?);
            Ok((open, ended, store.instance().hold()?))
        };
        let (open, ended_refs, hold) = self.deps.store.call(read).await?;
        // What an older copy of the database does not know may have been landed.
        if hold.is_some() {
            return Ok(LandingPass::Wait);
        }
        if open.is_empty() && ended_refs.is_empty() {
            return Ok(LandingPass::Done);
        }
        let (mut has_changed, mut failed) = (false, None);
        match self.remove_refs(ended_refs).await {
            Ok(removed) => has_changed = removed,
            Err(error) => failed = Some(error),
        }
        let mut branches = BTreeSet::new();
        for open in open {
            let is_first = branches.insert(open.landing.branch.clone());
            match self.step(&open, is_first).await {
                Ok(false) => {}
                Ok(true) => {
                    has_changed = true;
                    let run = open.run.as_ref().map(|run| run.id);
                    run.into_iter()
                        .for_each(|run| self.deps.changes.notify_run(run));
                }
                // It holds up no other.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match (failed, has_changed) {
            (Some(error), _) => Err(error),
            (None, true) => Ok(LandingPass::Continue),
            (None, false) => Ok(LandingPass::Wait),
        }
    }

    /// Brings a landing one step further. Returns whether its row has changed.
    async fn step(&self, open: &OpenLanding, is_first: bool) -> Result<bool, LandingError> {
        let landing = &open.landing;
        if landing.state == LandingState::Moving {
            return self.move_branch(landing).await;
        }
        if !open.is_recorded {
            return self.announce(landing).await;
        }
        match open.run.as_ref().map(|run| run.state) {
            Some(RunState::Pending | RunState::Active) => Ok(false),
            Some(RunState::Complete) if is_first => self.land(landing).await,
            Some(RunState::Complete) => {
                let id = landing.id;
                self.write(move |store| store.landings().set_message(id, Some(WAITS)))
                    .await
            }
            Some(state) => self.fail(landing, LandingProblem::NotGreen(state)).await,
            None => self.fail(landing, LandingProblem::RunRemoved).await,
        }
    }

    /// The commit is green, and the first of its branch.
    async fn land(&self, landing: &Landing) -> Result<bool, LandingError> {
        let tip = self.value_of(&landing.branch).await?;
        let git = &self.deps.git;
        let relation = git
            .branch_relation(&self.folder, tip.as_ref(), &landing.tested_sha)
            .await?;
        match step_of(relation, landing.method, &landing.branch) {
            LandingStep::Move => self.begin_move(landing, tip).await,
            LandingStep::Landed => {
                let id = landing.id;
                self.write(move |store| store.landings().landed(id)).await
            }
            LandingStep::Remake(method) => match tip {
                Some(tip) => self.remake(landing, &tip, method).await,
                None => Ok(false),
            },
            LandingStep::End(problem) => self.fail(landing, problem).await,
        }
    }

    /// Says in the database that the branch is moved, from what to what, and by which event. It is moved in the next pass.
    async fn begin_move(
        &self,
        landing: &Landing,
        tip: Option<ObjectId>,
    ) -> Result<bool, LandingError> {
        if tip.is_none()
            && let Some(other) = self.branch_in_the_way(landing).await?
        {
            let problem = LandingProblem::BranchInTheWay(other.short().to_owned());
            return self.fail(landing, problem).await;
        }
        let landing = landing.clone();
        let begun = self
            .write(move |store| {
                let landings = store.landings();
                landings.begin_move(&landing, tip.as_ref(), EventId::new())
            })
            .await?;
        failpoint::hit("land-begun");
        Ok(begun)
    }

    /// Moves the branch, unless that is done already, and has the move recorded.
    async fn move_branch(&self, landing: &Landing) -> Result<bool, LandingError> {
        let value = self.value_of(&landing.branch).await?;
        let branch = RefMove {
            ref_name: landing.branch.clone(),
            from: landing.base_sha.clone(),
            to: Some(landing.tested_sha.clone()),
        };
        let mut has_moved = value == branch.to;
        let may_move = value.is_some() || self.branch_in_the_way(landing).await?.is_none();
        if value == branch.from && !has_moved && may_move {
            has_moved = self.apply(branch.clone()).await?;
            failpoint::hit("land-moved");
        }
        if has_moved {
            let Some(event) = landing.move_event_id else {
                return Ok(false);
            };
            let who = (event, landing.pusher.clone());
            return self.record(vec![branch], who).await;
        }
        // Another push was first. It may have brought the commit as well.
        let git = &self.deps.git;
        let relation = git
            .branch_relation(&self.folder, value.as_ref(), &landing.tested_sha)
            .await?;
        let landing = landing.clone();
        self.write(move |store| match relation {
            BranchRelation::Contained => store.landings().landed(landing.id),
            _ => store.landings().abort_move(&landing),
        })
        .await
    }

    /// Makes a commit on the branch, which is tested from now on.
    async fn remake(
        &self,
        landing: &Landing,
        tip: &ObjectId,
        method: LandingMethod,
    ) -> Result<bool, LandingError> {
        let of = LandingCommit {
            repo: &self.folder,
            branch: &landing.branch,
            tip,
            commit: &landing.pushed_sha,
            now: self.deps.store.clock().now(),
        };
        let git = &self.deps.git;
        let made = match method {
            LandingMethod::Merge => git.merge_onto(of).await?,
            _ => git.rebase_onto(of).await?,
        };
        let commit = match made {
            RemadeCommit::Commit(commit) => commit,
            RemadeCommit::Contained => {
                let id = landing.id;
                return self.write(move |store| store.landings().landed(id)).await;
            }
            RemadeCommit::Impossible(problem) => return self.fail(landing, problem).await,
        };
        let folder = self.folder.clone();
        git.call(move |git| git.sync_file_system(&folder)).await?;
        failpoint::hit("land-remade");
        let landing = landing.clone();
        self.write(move |store| store.landings().retest(&landing, &commit, EventId::new()))
            .await
    }

    /// Creates the ref of a commit that was made here, and has it recorded with its run.
    async fn announce(&self, landing: &Landing) -> Result<bool, LandingError> {
        let Some(ref_name) = landing.ref_of(&landing.tested_sha) else {
            return Ok(false);
        };
        let created = RefMove {
            ref_name,
            from: None,
            to: Some(landing.tested_sha.clone()),
        };
        // One that exists was created before a crash.
        self.apply(created.clone()).await?;
        failpoint::hit("land-announced");
        let who = (landing.event_id, landing.pusher.clone());
        self.record(vec![created], who).await
    }

    /// Deletes the refs of landings that have ended. Returns whether there were any.
    async fn remove_refs(&self, refs: Vec<(RefName, ObjectId)>) -> Result<bool, LandingError> {
        if refs.is_empty() {
            return Ok(false);
        }
        let mut removed = Vec::new();
        for (ref_name, id) in refs {
            let deleted = RefMove {
                ref_name,
                from: Some(id),
                to: None,
            };
            if self.apply(deleted.clone()).await?
                || self.value_of(&deleted.ref_name).await?.is_none()
            {
                removed.push(deleted);
            }
        }
        failpoint::hit("land-refs-deleted");
        self.record(removed, (EventId::new(), None)).await
    }

    async fn apply(&self, ref_move: RefMove) -> Result<bool, LandingError> {
        let (repo, folder) = (self.repo.clone(), self.folder.clone());
        let applied = self
            .deps
            .git
            .call(move |git| move_ref(git, (&repo, &folder), &ref_move, REASON));
        Ok(applied.await?)
    }

    /// Writes the event of refs that were moved, and has the intake record it.
    async fn record(
        &self,
        moves: Vec<RefMove>,
        (id, pusher): (EventId, Option<String>),
    ) -> Result<bool, LandingError> {
        let now = self.deps.store.clock().now();
        let event = event_of(&moves, id, self.repo, pusher, now);
        if event.refs.is_empty() {
            return Ok(false);
        }
        let paths = self.deps.paths.clone();
        run_blocking(move || spool_event(&paths, &event)).await??;
        failpoint::hit("land-spooled");
        self.deps.intake.take(id, None).await?;
        Ok(true)
    }

    async fn branch_in_the_way(&self, landing: &Landing) -> Result<Option<RefName>, LandingError> {
        let git = &self.deps.git;
        Ok(git.branch_in_the_way(&self.folder, &landing.branch).await?)
    }

    async fn value_of(&self, name: &RefName) -> Result<Option<ObjectId>, LandingError> {
        let (name, folder) = (name.clone(), self.folder.clone());
        let read = move |git: &quire_git::Git| git.ref_value(&folder, &name);
        Ok(self.deps.git.call(read).await?)
    }

    async fn fail(&self, landing: &Landing, problem: LandingProblem) -> Result<bool, LandingError> {
        let (repo, branch) = (self.repo.as_str(), landing.branch.short());
        tracing::info!(repo, branch, commit = %landing.pushed_sha, "a commit does not land: {problem}");
        let id = landing.id;
        self.write(move |store| store.landings().failed(id, &problem))
            .await
    }

    async fn write(
        &self,
        change: impl FnOnce(&Store) -> Result<bool, quire_store::StoreError> + Send + 'static,
    ) -> Result<bool, LandingError> {
        Ok(self.deps.store.call(change).await?)
    }
}
