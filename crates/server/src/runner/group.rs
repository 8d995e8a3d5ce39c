//! Resolves the groups of runs, off the path of the push: a run whose pipeline may declare a group waits,
//! neither claimed nor superseded, until its pipeline has been evaluated for it. [`Turns`] decides whose turn it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::evaluations::EvaluationKey;
use super::prepare::{self, PrepareError};
use super::run_end::RunEnd;
use super::run_loop::{POLL_INTERVAL, Runner};
use super::turns::Turns;
use crate::queue::Waiter;
use quire_git::{PipelineFiles, contains_word};
use quire_pipeline::driver::DriverHandle;
use quire_pipeline::{Group, Pipeline};
use quire_store::Store;
use quire_types::error_chain;
use quire_types::error_chain::with_sources;
use quire_types::names::{ObjectId, RepoName, RunId};
use quire_types::run::{FailureKind, Outcome, Run};

/// The most runs that are read from the database at once.
const BATCH: u32 = 1000;
/// How long transient errors may last. After that the run proceeds without a group, so that it no longer
/// blocks later runs; its own execution reports the error.
const MAX_UNRESOLVED_TIME: Duration = Duration::from_secs(10 * 60);

/// A turn that has ended.
struct EndedTurn {
    run: RunId,
    repo: RepoName,
    is_resolved: bool,
}

/// Why a pipeline could not be evaluated.
pub(super) enum EvalError {
    /// The pipeline is invalid or was removed; the message is that of its run.
    Invalid(String),
    /// quire could not do it now; it can be retried.
    Transient(String),
}

impl Runner {
    /// Resolves groups until the runner stops. Level-triggered: a run that failed is retried.
    pub(super) async fn group_loop(&self) {
        let mut turns = Turns::default();
        let mut evaluations = FuturesUnordered::new();
        loop {
            let waiting = self.runs_without_group().await;
            let now = Instant::now();
            let keys: Vec<_> = waiting
                .iter()
                .map(|run| (run.id, run.repo.clone()))
                .collect();
            while let Some(position) = turns.start(&keys, now) {
                let run = waiting[position].clone();
                let failing_for = turns.failing_for(run.id, now);
                evaluations.push(self.take_turn(run, failing_for));
            }
            tokio::select! {
                Some(ended) = evaluations.next() => {
                    let EndedTurn { run, repo, is_resolved } = ended;
                    turns.end(&repo, run, !is_resolved, Instant::now());
                }
                () = self.deps().queue.wait(Waiter::Groups, POLL_INTERVAL) => {}
            }
        }
    }

    /// The waiting runs whose group is not known, in the order of the queue.
    async fn runs_without_group(&self) -> Vec<Run> {
        let read = |store: &Store| store.queue().with_unknown_group(BATCH);
        self.deps().store.call(read).await.unwrap_or_else(|error| {
            tracing::error!(
                error = with_sources(&error),
                "cannot read the runs without a known group"
            );
            Vec::new()
        })
    }

    async fn take_turn(&self, run: Run, failing_for: Option<Duration>) -> EndedTurn {
        EndedTurn {
            run: run.id,
            repo: run.repo.clone(),
            is_resolved: self.resolve_group(run, failing_for).await,
        }
    }

    /// Returns whether the group was resolved and recorded.
    async fn resolve_group(&self, run: Run, failing_for: Option<Duration>) -> bool {
        let id = run.id;
        let pipeline = match self.files_of(&run.repo, &run.sha).await {
            Ok(files) => self.evaluate(&files).await,
            Err(eval_error) => Err(eval_error),
        };
        let group = match pipeline {
            Ok(pipeline) => pipeline.group().cloned(),
            // It has no group; its own execution reports the error.
            Err(EvalError::Invalid(_)) => None,
            Err(EvalError::Transient(why))
                if failing_for.is_some_and(|since| since >= MAX_UNRESOLVED_TIME) =>
            {
                tracing::error!(run = %id, why, "cannot resolve the group of a run for 10 minutes; the run proceeds without a group");
                None
            }
            Err(EvalError::Transient(why)) => {
                if failing_for.is_none() {
                    tracing::error!(run = %id, why, "cannot resolve the group of a run yet");
                }
                if let Err(error) = self
                    .deps()
                    .queue
                    .set_group_error(id, format!("waits: its group cannot be resolved: {why}"))
                    .await
                {
                    tracing::error!(
                        error = with_sources(&error),
                        "cannot record why a run waits"
                    );
                }
                return false;
            }
        };
        quire_types::failpoint::hit("runner-before-examined");
        match self.deps().queue.set_group(run, group).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(run = %id, error = with_sources(&error), "cannot record the group of a run yet");
                false
            }
        }
    }

    /// Reads the pipeline files of a commit.
    pub(super) async fn files_of(
        &self,
        repo: &RepoName,
        sha: &ObjectId,
    ) -> Result<PipelineFiles, EvalError> {
        let git = &self.deps().git;
        match prepare::files(git, &self.deps().paths, repo, sha).await {
            Ok(files) => Ok(files),
            Err(_) if prepare::was_removed(git, repo).await => Err(EvalError::Invalid(format!(
                "the repository {repo} was removed"
            ))),
            Err(error) => Err(EvalError::Transient(error_chain::chain(&error))),
        }
    }

    /// Evaluates a pipeline at low priority, because nothing waits for it.
    pub(super) async fn evaluate(&self, files: &PipelineFiles) -> Result<Arc<Pipeline>, EvalError> {
        let key = EvaluationKey::new(files);
        let known = &self.0.evaluations;
        if let Some(result) = known.get(key, Instant::now()) {
            return result.map_err(EvalError::Invalid);
        }
        let result = match self.evaluate_anew(files).await {
            Ok(pipeline) => Ok(Arc::new(pipeline)),
            Err(EvalError::Invalid(why)) => Err(why),
            Err(error) => return Err(error),
        };
        known.remember(key, result.clone(), Instant::now());
        result.map_err(EvalError::Invalid)
    }

    async fn evaluate_anew(&self, files: &PipelineFiles) -> Result<Pipeline, EvalError> {
        let source = prepare::source(files).map_err(eval_error)?;
        let driver = DriverHandle::spawn_low_priority(&self.deps().program)
            .map_err(|error| EvalError::Transient(error_chain::chain(&error)))?;
        let (pipeline, driver) = prepare::evaluate(driver, source, files.dockerfile)
            .await
            .map_err(eval_error)?;
        driver.kill().await;
        Ok(pipeline)
    }
}

fn eval_error(error: PrepareError) -> EvalError {
    match error.outcome {
        Outcome::Failed(FailureKind::Pipeline, why) => EvalError::Invalid(why),
        Outcome::Failed(_, why) => EvalError::Transient(why),
        Outcome::Complete | Outcome::Canceled | Outcome::Superseded => {
            EvalError::Transient("the evaluation ended without a result".to_owned())
        }
    }
}

/// Checks that a pipeline declares what quire assumed while its run waited: the group in the run's row,
/// and a schedule only if a file contains the word that quire searches for.
pub(super) fn verify_declarations(
    run: &Run,
    pipeline: &Pipeline,
    files: &PipelineFiles,
) -> Result<(), RunEnd> {
    let reject = |message: String| {
        Err(RunEnd::Outcome(Outcome::Failed(
            FailureKind::Pipeline,
            message,
        )))
    };
    let known = run.group_name.as_ref().map(|name| Group {
        name: name.clone(),
        supersede: run.supersede,
    });
    if known.as_ref() != pipeline.group() {
        let name = |group: Option<&Group>| {
            group.map_or_else(|| "none".to_owned(), |group| format!("`{}`", group.name))
        };
        return reject(format!(
            "the pipeline declares the group {}, but quire assumed {} while the run waited; write the word `group` in a file \
             of .quire, and declare the same group in every evaluation",
            name(pipeline.group()),
            name(known.as_ref())
        ));
    }
    if !pipeline.crons().is_empty() && !mentions_cron(files) {
        return reject("the pipeline declares a schedule, but no file of .quire contains the word `cron`; write it there".to_owned());
    }
    Ok(())
}

/// Whether a pipeline may declare a schedule, because one of its files contains the word.
pub(super) fn mentions_cron(files: &PipelineFiles) -> bool {
    files
        .files
        .iter()
        .filter_map(|file| file.text.as_ref())
        .any(|text| contains_word(text.as_bytes(), b"cron"))
}
