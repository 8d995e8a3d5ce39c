//! Decides which jobs of a run may start, and what the end of a job means for the other jobs.
//!
//! ```text
//! pending ──ready, started──► active ──ended──► complete | failed | skipped | aborted
//!    └──────an ancestor failed──► skipped
//! ```
//!
//! A job is ready when every job it waits for has ended. If a job was skipped because it had nothing
//! to do, or failed with `allow-failure`, its dependents run. If it failed or was aborted, all jobs
//! that depend on it, directly or through other jobs, are skipped. The runner reports what happened,
//! in any order that [`JobTracker::ready`] allows. A report that does not fit the state is ignored.

use std::collections::{BTreeSet, HashMap};

use super::closest_match::closest_match;
use super::graph::{Job, Pipeline};
use super::source::{Input, Source};
use quire_types::names::JobName;
use quire_types::run::JobState;

/// Why a run cannot consist of the requested jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobSelectionError {
    /// The source does not exist, or no job waits for it. The second field lists the others.
    #[error("no job of the pipeline waits for `{0}`: its jobs wait for {known}", known = name_list(.1))]
    Source(String, Vec<String>),
    #[error("the pipeline has no job `{0}`{hint}", hint = .1.as_ref().map_or_else(String::new, |near| format!(": did you mean `{near}`?")))]
    UnknownJob(JobName, Option<String>),
    #[error("job `{0}` is not part of a run from `{1}`: it does not depend on that source")]
    Unreached(JobName, Source),
}

/// The names of the sources that the jobs of a pipeline wait for.
fn sources(pipeline: &Pipeline) -> Vec<String> {
    let sources = pipeline
        .jobs()
        .iter()
        .flat_map(|job| &job.inputs)
        .filter_map(Input::source);
    sources
        .map(ToString::to_string)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn name_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The outcome of all jobs of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobsOutcome {
    /// Every job was complete or skipped, or was allowed to fail.
    Complete,
    /// These jobs failed or were aborted, in this order.
    Failed(Vec<JobName>),
}

#[derive(Debug, Clone)]
struct Node {
    id: JobName,
    state: JobState,
    allow_failure: bool,
    retries: u32,
    /// The number of inputs in this run that have not ended.
    waiting: usize,
    dependents: Vec<usize>,
}

/// The state of one run's jobs.
#[derive(Debug, Clone)]
pub struct JobTracker {
    nodes: Vec<Node>,
    index: HashMap<JobName, usize>,
    /// The pending jobs whose inputs have all ended.
    ready: BTreeSet<usize>,
    active: usize,
    limit: usize,
    unfinished: usize,
    failed: Vec<usize>,
}

impl JobTracker {
    /// The jobs that depend on `source`. If `only` is not empty: those of them that it names, and
    /// the jobs that these depend on.
    ///
    /// # Errors
    /// Fails if there is no such job.
    pub fn new(
        pipeline: &Pipeline,
        source: &str,
        only: &[JobName],
    ) -> Result<Self, JobSelectionError> {
        let unknown = |name: String| JobSelectionError::Source(name, sources(pipeline));
        let source =
            Source::from_name(source).ok_or_else(|| unknown(source.chars().take(60).collect()))?;
        let reached = reached(pipeline, &source);
        if !reached.contains(&true) {
            return Err(unknown(source.to_string()));
        }
        if only.is_empty() {
            return Ok(Self::of(pipeline, &reached));
        }
        let mut wanted = vec![false; reached.len()];
        for only in only {
            let restricted = restrict_to(pipeline, &source, &reached, only)?;
            wanted
                .iter_mut()
                .zip(restricted)
                .for_each(|(wanted, more)| *wanted |= more);
        }
        Ok(Self::of(pipeline, &wanted))
    }

    fn of(pipeline: &Pipeline, wanted: &[bool]) -> Self {
        let chosen = || {
            pipeline
                .jobs()
                .iter()
                .zip(wanted)
                .filter(|(_, wanted)| **wanted)
                .map(|(job, _)| job)
        };
        let index: HashMap<JobName, usize> = chosen()
            .enumerate()
            .map(|(at, job)| (job.id.clone(), at))
            .collect();
        let mut nodes: Vec<Node> = chosen()
            .map(|job| Node {
                id: job.id.clone(),
                state: JobState::Pending,
                allow_failure: job.options.allow_failure,
                retries: job.options.retry,
                waiting: 0,
                dependents: Vec::new(),
            })
            .collect();
        for (at, job) in chosen().enumerate() {
            let inputs = job.inputs.iter().filter_map(|input| {
                if let Input::Job(id) = input {
                    index.get(id)
                } else {
                    None
                }
            });
            for from in inputs {
                nodes[*from].dependents.push(at);
                nodes[at].waiting += 1;
            }
        }
        let ready = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.waiting == 0)
            .map(|(at, _)| at)
            .collect();
        let unfinished = nodes.len();
        Self {
            nodes,
            index,
            ready,
            active: 0,
            limit: usize::MAX,
            unfinished,
            failed: Vec::new(),
        }
    }

    /// Sets how many jobs may be active at a time. The minimum is one.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// The run's jobs, in the order of registration.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobName> {
        self.nodes.iter().map(|node| node.id.clone()).collect()
    }

    /// The state of a job. `None` if it is not part of the run.
    #[must_use]
    pub fn state(&self, job: &JobName) -> Option<JobState> {
        self.index.get(job).map(|at| self.nodes[*at].state)
    }

    /// The jobs that can start now without exceeding the limit, in the order of registration.
    #[must_use]
    pub fn ready(&self) -> Vec<JobName> {
        let available = self.limit.saturating_sub(self.active);
        self.ready
            .iter()
            .take(available)
            .map(|at| self.nodes[*at].id.clone())
            .collect()
    }

    /// Records that a ready job was started.
    pub fn started(&mut self, job: &JobName) {
        if let Some(at) = self.index.get(job).copied()
            && self.ready.remove(&at)
        {
            self.nodes[at].state = JobState::Active;
            self.active += 1;
        }
    }

    /// Returns whether an active job that failed is retried. If so it stays active, with one retry
    /// less.
    pub fn retry(&mut self, job: &JobName) -> bool {
        let Some(node) = self.index.get(job).map(|at| &mut self.nodes[*at]) else {
            return false;
        };
        if node.state != JobState::Active || node.retries == 0 {
            return false;
        }
        node.retries -= 1;
        true
    }

    /// Records that an active job ended in a final state. Returns the jobs that are skipped because
    /// of that.
    pub fn ended(&mut self, job: &JobName, state: JobState) -> Vec<JobName> {
        let Some(at) = self.index.get(job).copied() else {
            return Vec::new();
        };
        if self.nodes[at].state != JobState::Active || !state.is_final() {
            return Vec::new();
        }
        self.nodes[at].state = state;
        self.active -= 1;
        self.unfinished -= 1;
        let stops = match state {
            JobState::Failed => !self.nodes[at].allow_failure,
            JobState::Aborted => true,
            _ => false,
        };
        if stops {
            self.failed.push(at);
            return self.skip_descendants(at);
        }
        for dependent in self.nodes[at].dependents.clone() {
            let node = &mut self.nodes[dependent];
            node.waiting = node.waiting.saturating_sub(1);
            if node.waiting == 0 && node.state == JobState::Pending {
                self.ready.insert(dependent);
            }
        }
        Vec::new()
    }

    /// Aborts all active jobs and skips all pending jobs. Returns both, in the order of registration.
    pub fn abort(&mut self) -> (Vec<JobName>, Vec<JobName>) {
        let (mut aborted, mut skipped) = (Vec::new(), Vec::new());
        for (at, node) in self.nodes.iter_mut().enumerate() {
            match node.state {
                JobState::Active => {
                    node.state = JobState::Aborted;
                    self.failed.push(at);
                    aborted.push(node.id.clone());
                }
                JobState::Pending => {
                    node.state = JobState::Skipped;
                    skipped.push(node.id.clone());
                }
                _ => {}
            }
        }
        self.ready.clear();
        self.active = 0;
        self.unfinished = 0;
        (aborted, skipped)
    }

    /// Whether every job has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// The outcome. `None` until every job has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<JobsOutcome> {
        if !self.is_finished() {
            return None;
        }
        if self.failed.is_empty() {
            return Some(JobsOutcome::Complete);
        }
        Some(JobsOutcome::Failed(
            self.failed
                .iter()
                .map(|at| self.nodes[*at].id.clone())
                .collect(),
        ))
    }

    /// Skips all jobs that depend on a failed job. None of them can have started.
    fn skip_descendants(&mut self, from: usize) -> Vec<JobName> {
        let mut skipped: Vec<usize> = Vec::new();
        let mut open = self.nodes[from].dependents.clone();
        while let Some(at) = open.pop() {
            if self.nodes[at].state == JobState::Pending {
                self.nodes[at].state = JobState::Skipped;
                self.unfinished -= 1;
                skipped.push(at);
                open.extend(&self.nodes[at].dependents);
            }
        }
        skipped.sort_unstable();
        skipped
            .into_iter()
            .map(|at| self.nodes[at].id.clone())
            .collect()
    }
}

/// For each job, whether it depends on `source`.
fn reached(pipeline: &Pipeline, source: &Source) -> Vec<bool> {
    let index: HashMap<&JobName, usize> = pipeline
        .jobs()
        .iter()
        .enumerate()
        .map(|(at, job)| (&job.id, at))
        .collect();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); index.len()];
    let mut open: Vec<usize> = Vec::new();
    for (at, job) in pipeline.jobs().iter().enumerate() {
        for input in &job.inputs {
            match input {
                Input::Source(from) if from == source => open.push(at),
                Input::Source(_) => {}
                Input::Job(id) => {
                    if let Some(from) = index.get(id) {
                        dependents[*from].push(at);
                    }
                }
            }
        }
    }
    let mut reached = vec![false; dependents.len()];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut reached[at], true) {
            open.extend(&dependents[at]);
        }
    }
    reached
}

/// Restricts the reached jobs to one job and those that it depends on.
fn restrict_to(
    pipeline: &Pipeline,
    source: &Source,
    reached: &[bool],
    only: &JobName,
) -> Result<Vec<bool>, JobSelectionError> {
    let Some(at) = pipeline.jobs().iter().position(|job| job.id == *only) else {
        let near = closest_match(
            only.as_str(),
            pipeline.jobs().iter().map(|job| job.id.as_str()),
        );
        return Err(JobSelectionError::UnknownJob(
            only.clone(),
            near.map(str::to_owned),
        ));
    };
    if !reached[at] {
        return Err(JobSelectionError::Unreached(only.clone(), source.clone()));
    }
    let ancestors = pipeline.ancestors(only);
    let wanted = |(at, job): (usize, &Job)| {
        reached[at] && (job.id == *only || ancestors.contains(&Input::Job(job.id.clone())))
    };
    Ok(pipeline.jobs().iter().enumerate().map(wanted).collect())
}

#[cfg(test)]
mod tests;
