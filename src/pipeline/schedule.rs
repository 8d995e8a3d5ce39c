//! Which job of a run may start when, and what a job's end means for the others.
//!
//! ```text
//! pending ──ready, started──► active ──ended──► complete | failed | skipped | aborted
//!    └──────an ancestor failed──► skipped
//! ```
//!
//! A job is ready when every job it waits for has ended. Skipped because it had nothing to do, or
//! failed with `allow-failure`: its dependents run. Failed or aborted: all its descendants are
//! skipped. The runner tells what happened, in any order that [`Schedule::ready`] allows; a call
//! that does not fit the state changes nothing.

use std::collections::{BTreeSet, HashMap};

use super::{Input, Pipeline, Source, nearest};
use crate::names::JobName;
use crate::run::JobState;

/// Why there is no schedule for what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No such source, or no job waits for it.
    #[error("no job of the pipeline waits for `{0}`: its jobs start from {known}", known = listed(.1))]
    Source(String, Vec<String>),
    /// No such job.
    #[error("the pipeline has no job `{0}`{hint}", hint = .1.as_ref().map_or_else(String::new, |near| format!(": did you mean `{near}`?")))]
    UnknownJob(JobName, Option<String>),
    /// The job is not part of a run of this source.
    #[error("`{1}` does not lead to job `{0}`")]
    Unreached(JobName, Source),
}

/// The sources that a pipeline's jobs wait for.
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

fn listed(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// How a run's jobs came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every job ended well, or was allowed not to.
    Complete,
    /// These failed, in the order in which they did.
    Failed(Vec<JobName>),
}

#[derive(Debug, Clone)]
struct Node {
    id: JobName,
    state: JobState,
    allow_failure: bool,
    retries: u32,
    /// Inputs within this run that have not ended.
    waiting: usize,
    dependents: Vec<usize>,
}

/// The state of one run's jobs.
#[derive(Debug, Clone)]
pub struct Schedule {
    nodes: Vec<Node>,
    index: HashMap<JobName, usize>,
    /// Pending, and nothing to wait for.
    ready: BTreeSet<usize>,
    active: usize,
    limit: usize,
    unfinished: usize,
    failed: Vec<usize>,
}

impl Schedule {
    /// The jobs that `source` reaches; where `only` names some, of these the named ones and their ancestors.
    ///
    /// # Errors
    /// Where that is no job at all.
    pub fn new(pipeline: &Pipeline, source: &str, only: &[JobName]) -> Result<Self, ScheduleError> {
        let none = |name: String| ScheduleError::Source(name, sources(pipeline));
        let source =
            Source::from_name(source).ok_or_else(|| none(source.chars().take(60).collect()))?;
        let reached = reached(pipeline, &source);
        if !reached.contains(&true) {
            return Err(none(source.to_string()));
        }
        if only.is_empty() {
            return Ok(Self::of(pipeline, &reached));
        }
        let mut wanted = vec![false; reached.len()];
        for only in only {
            let narrowed = narrowed(pipeline, &source, &reached, only)?;
            wanted
                .iter_mut()
                .zip(narrowed)
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

    /// The same, with at most so many jobs active at a time (at least one).
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

    /// A job's state, where the run has it.
    #[must_use]
    pub fn state(&self, job: &JobName) -> Option<JobState> {
        self.index.get(job).map(|at| self.nodes[*at].state)
    }

    /// The jobs to start now, in the order of registration; no more than the limit leaves room for.
    #[must_use]
    pub fn ready(&self) -> Vec<JobName> {
        let room = self.limit.saturating_sub(self.active);
        self.ready
            .iter()
            .take(room)
            .map(|at| self.nodes[*at].id.clone())
            .collect()
    }

    /// A ready job was started.
    pub fn started(&mut self, job: &JobName) {
        if let Some(at) = self.index.get(job).copied()
            && self.ready.remove(&at)
        {
            self.nodes[at].state = JobState::Active;
            self.active += 1;
        }
    }

    /// An active job failed: whether it is to be tried again. If so it stays active and has one try less.
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

    /// An active job ended in a final state. Gives the jobs that are skipped because of it.
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

    /// Everything that has not ended is given up: active jobs become aborted, pending ones skipped.
    /// Gives both, in the order of registration.
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
    pub fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    /// How it came out, once it is done.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        if !self.is_done() {
            return None;
        }
        if self.failed.is_empty() {
            return Some(Verdict::Complete);
        }
        Some(Verdict::Failed(
            self.failed
                .iter()
                .map(|at| self.nodes[*at].id.clone())
                .collect(),
        ))
    }

    /// Skips what waits for a failed job, and what waits for that. None of these can have started.
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

/// For each job, whether `source` leads to it.
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

/// Of the reached jobs, one and its ancestors.
fn narrowed(
    pipeline: &Pipeline,
    source: &Source,
    reached: &[bool],
    only: &JobName,
) -> Result<Vec<bool>, ScheduleError> {
    let Some(at) = pipeline.jobs().iter().position(|job| job.id == *only) else {
        let near = nearest(
            only.as_str(),
            pipeline.jobs().iter().map(|job| job.id.as_str()),
        );
        return Err(ScheduleError::UnknownJob(
            only.clone(),
            near.map(str::to_owned),
        ));
    };
    if !reached[at] {
        return Err(ScheduleError::Unreached(only.clone(), source.clone()));
    }
    let ancestors = pipeline.ancestors(only);
    let wanted = |(at, job): (usize, &super::Job)| {
        reached[at] && (job.id == *only || ancestors.contains(&Input::Job(job.id.clone())))
    };
    Ok(pipeline.jobs().iter().enumerate().map(wanted).collect())
}

#[cfg(test)]
mod tests;
