//! Finding out the groups of runs, off the path of the push: a run whose pipeline may name a group
//! waits, neither claimed nor superseded, until its pipeline was evaluated for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Runner;
use super::one::End;
use super::prepare::{self, Unprepared};
use crate::causes::with_causes;
use crate::driver::Driver;
use crate::git::{PipelineFiles, has_word};
use crate::names::{ObjectId, RepoName, RunId};
use crate::pipeline::{Group, Pipeline};
use crate::queue::Sleeper;
use crate::run::{FailureKind, Outcome, Run};

/// So many runs are read from the database at once.
const BATCH: u32 = 100;
/// How long what is in the way may last. Then the run goes on without a group: its claim says what is wrong, and it
/// holds no others any more.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Since when the groups of these runs could not be found out.
type Failing = HashMap<RunId, Instant>;

/// Why a pipeline could not be evaluated.
pub(super) enum Unread {
    /// It is wrong, or gone, with the sentence that its run would end with.
    Wrong(String),
    /// Something of quire's own is in the way; it can be tried again.
    NotNow(String),
}

impl Runner {
    /// Finds out groups again and again. Level-triggered: a run that could not be examined is tried again.
    pub(super) async fn keep_examining(&self) {
        let mut failing = Failing::new();
        loop {
            let wait = if self.examine_all(&mut failing).await {
                super::SLOW_POLL
            } else {
                Duration::ZERO
            };
            self.0.queue.woken(Sleeper::Examiner, wait).await;
        }
    }

    /// Examines what waits for it; false where there may be more to do at once.
    async fn examine_all(&self, failing: &mut Failing) -> bool {
        let waiting = match self
            .0
            .store
            .call(|store| store.unexamined_runs(BATCH))
            .await
        {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the runs whose group is not known cannot be read"
                );
                return true;
            }
        };
        let full = waiting.len() == BATCH as usize;
        failing.retain(|known, _| waiting.iter().any(|run| run.id == *known));
        let mut all = true;
        for run in waiting {
            all &= self.examine(run, failing).await;
        }
        !(full && all)
    }

    async fn examine(&self, run: Run, failing: &mut Failing) -> bool {
        let id = run.id;
        let pipeline = match self.files_of(&run.repo, &run.sha).await {
            Ok(files) => self.evaluate(&files).await,
            Err(unread) => Err(unread),
        };
        let group = match pipeline {
            Ok(pipeline) => pipeline.group().cloned(),
            // It has no group, and says what is wrong when it is claimed.
            Err(Unread::Wrong(_)) => None,
            Err(Unread::NotNow(why))
                if failing.entry(id).or_insert_with(Instant::now).elapsed() >= PATIENCE =>
            {
                tracing::error!(run = %id, why, "a run's group could not be found out for too long; it goes on without one");
                None
            }
            Err(Unread::NotNow(why)) => {
                tracing::error!(run = %id, why, "a run's group cannot be found out yet");
                if let Err(error) = self
                    .0
                    .queue
                    .note_unexamined(id, format!("waits: its group cannot be found out: {why}"))
                    .await
                {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a waiting run cannot say why it waits"
                    );
                }
                return false;
            }
        };
        crate::fault::point("runner-before-examined");
        match self.0.queue.examined(run, group).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(run = %id, error = &error as &dyn std::error::Error, "a run's group cannot be noted yet");
                false
            }
        }
    }

    /// The files of a commit's pipeline.
    pub(super) async fn files_of(
        &self,
        repo: &RepoName,
        sha: &ObjectId,
    ) -> Result<PipelineFiles, Unread> {
        let read = prepare::files(&self.0.git, &self.0.paths, repo, sha).await;
        read.map_err(|error| match self.0.git.is_reached_by(repo) {
            Ok(false) => Unread::Wrong(format!("the repository {repo} is gone")),
            Ok(true) | Err(_) => Unread::NotNow(with_causes(&error)),
        })
    }

    /// Has a pipeline evaluated, gently: nobody waits for it.
    pub(super) async fn evaluate(&self, files: &PipelineFiles) -> Result<Pipeline, Unread> {
        let source = prepare::source(files).map_err(unread)?;
        let driver = Driver::spawn_gently(&self.0.program)
            .map_err(|error| Unread::NotNow(with_causes(&error)))?;
        let (pipeline, driver) = prepare::checked(driver, source, files.dockerfile)
            .await
            .map_err(unread)?;
        driver.kill().await;
        Ok(pipeline)
    }
}

fn unread(unprepared: Unprepared) -> Unread {
    match unprepared.outcome {
        Outcome::Failed(FailureKind::Pipeline, why) => Unread::Wrong(why),
        Outcome::Failed(_, why) => Unread::NotNow(why),
        Outcome::Complete | Outcome::Superseded => Unread::NotNow("it came to nothing".to_owned()),
    }
}

/// Whether a pipeline that is about to be played says of itself what quire acted on while the run
/// waited: its group by the run's row, its schedules by the word that quire looks for.
pub(super) fn fits(run: &Run, pipeline: &Pipeline, files: &PipelineFiles) -> Result<(), End> {
    let refuse = |message: String| {
        Err(End::Outcome(Outcome::Failed(
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
        return refuse(format!(
            "the pipeline registers a group that quire did not know of ({}) while the run waited, where it acted on {}: write \
             the word `group` out in a file of .quire, and have it register the same each time",
            name(pipeline.group()),
            name(known.as_ref())
        ));
    }
    if !pipeline.crons().is_empty() && !names_cron(files) {
        return refuse("the pipeline registers a schedule, and the word `cron` stands in none of its files: write it out".to_owned());
    }
    Ok(())
}

/// Whether a pipeline may register a schedule: the word stands in one of its files.
pub(super) fn names_cron(files: &PipelineFiles) -> bool {
    files
        .files
        .iter()
        .filter_map(|file| file.text.as_ref())
        .any(|text| has_word(text.as_bytes(), b"cron"))
}
