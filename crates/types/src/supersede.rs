//! The supersede policy: which runs a newer push supersedes. Pure functions of plain data. The queue
//! passes them to the store, which calls them and writes the result in one transaction.

use std::collections::{HashMap, HashSet};

use crate::clock::Millis;
use crate::names::{JobName, RefName, RunId};
use crate::run::{JobState, RunJob, RunState};

/// A run that has not ended, as far as the policy needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub id: RunId,
    /// When it entered the queue; with the id its place in it.
    pub queued_at: Millis,
    /// Its ref.
    pub ref_name: RefName,
    /// Its group.
    pub group: Option<String>,
    /// Whether a newer push takes its place.
    pub supersede: bool,
    /// Whether its group is not known yet.
    pub group_unknown: bool,
    /// Whether a push itself made it. Only such a run takes the place of others.
    pub pushed_directly: bool,
    /// Whether it starts from a push, directly or as a retry. Only such a run is superseded.
    pub push_origin: bool,
    /// `Pending` or `Active`.
    pub state: RunState,
    /// Whether it has been asked to stop already.
    pub stopping: bool,
}

impl OpenRun {
    fn place(&self) -> (Millis, RunId) {
        (self.queued_at, self.id)
    }
}

/// A run that a newer one supersedes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    /// The run.
    pub run: RunId,
    /// The newest run that takes its place.
    pub by: RunId,
    /// True if it has not started: it is superseded immediately. Otherwise the runner is asked to stop it, and it is
    /// superseded when its container is removed.
    pub immediate: bool,
}

/// Returns the runs that a newer push supersedes.
///
/// A newer push supersedes every run of an older push of the same ref or group, if that run allows it. A run that a
/// user or a schedule started supersedes no other run and is not superseded. A run whose group is not known yet is
/// not superseded until it is known.
#[must_use]
pub fn superseded_runs(open: &[OpenRun]) -> Vec<Superseded> {
    let mut of_ref: HashMap<&RefName, (Millis, RunId)> = HashMap::new();
    let mut of_group: HashMap<&str, (Millis, RunId)> = HashMap::new();
    for run in open.iter().filter(|run| run.pushed_directly) {
        let newest = of_ref.entry(&run.ref_name).or_insert(run.place());
        *newest = run.place().max(*newest);
        if let Some(group) = &run.group {
            let newest = of_group.entry(group).or_insert(run.place());
            *newest = run.place().max(*newest);
        }
    }
    let gives_way = |run: &OpenRun| {
        let of_group = run.group.as_deref().and_then(|group| of_group.get(group));
        let newest = of_ref
            .get(&run.ref_name)
            .max(of_group)
            .filter(|newest| **newest > run.place())?;
        Some(Superseded {
            run: run.id,
            by: newest.1,
            immediate: run.state == RunState::Pending,
        })
    };
    let may =
        |run: &&OpenRun| run.push_origin && run.supersede && !run.group_unknown && !run.stopping;
    open.iter().filter(may).filter_map(gives_way).collect()
}

/// The jobs of a run whose results another run of the same commit can reuse: jobs that succeeded, whose
/// artifacts still exist, and whose inputs can all be reused as well.
#[must_use]
pub fn reusable_jobs(jobs: &[RunJob], lost: &HashSet<JobName>) -> HashSet<JobName> {
    // Skipped without having been called: something before it failed.
    let ended = |job: &RunJob| {
        job.state == JobState::Complete
            || (job.state == JobState::Skipped && job.started_at_ms.is_some())
    };
    let well = |job: &RunJob| ended(job) && !lost.contains(&job.job_id);
    let mut passed: HashSet<JobName> = jobs
        .iter()
        .filter(|job| well(job))
        .map(|job| job.job_id.clone())
        .collect();
    let names: HashSet<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    loop {
        let before = passed.len();
        for job in jobs {
            let of_failed = |input: &String| {
                names.contains(input.as_str()) && !passed.iter().any(|job| job.as_str() == input)
            };
            if passed.contains(&job.job_id) && job.inputs.iter().any(of_failed) {
                passed.remove(&job.job_id);
            }
        }
        if passed.len() == before {
            return passed;
        }
    }
}

/// Whether an orphaned run is requeued: unless it crashed twice, and only if it had not been asked to stop. A stop of quire is
/// no crash.
#[must_use]
pub fn requeue_orphan(crashed_twice: bool, stopping: bool, enabled: bool) -> bool {
    enabled && !crashed_twice && !stopping
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs in the order of their entering; some share a moment.
    fn open_runs() -> impl Strategy<Value = Vec<OpenRun>> {
        let one = (
            0..3_u8,
            proptest::option::of(0..2_u8),
            any::<[bool; 5]>(),
            0..2_u8,
        );
        proptest::collection::vec(one, 0..10).prop_map(|rows| {
            let run = |(
                at,
                (
                    branch,
                    group,
                    [supersede, group_unknown, pushed_directly, stopping, active],
                    source,
                ),
            ): (usize, (u8, Option<u8>, [bool; 5], u8))| OpenRun {
                id: RunId::new(),
                queued_at: Millis(i64::try_from(at / 2).unwrap()),
                ref_name: format!("refs/heads/{branch}").parse().unwrap(),
                group: group
                    .filter(|_| !group_unknown)
                    .map(|group| format!("g{group}")),
                supersede,
                group_unknown,
                pushed_directly,
                push_origin: pushed_directly || source == 0,
                state: if active {
                    RunState::Active
                } else {
                    RunState::Pending
                },
                stopping: active && stopping,
            };
            rows.into_iter().enumerate().map(run).collect()
        })
    }

    /// The rule, word for word, for one pair.
    fn gives_way(old: &OpenRun, new: &OpenRun) -> bool {
        let newer =
            new.queued_at > old.queued_at || (new.queued_at == old.queued_at && new.id > old.id);
        let related =
            old.ref_name == new.ref_name || (old.group.is_some() && old.group == new.group);
        newer
            && related
            && new.pushed_directly
            && old.push_origin
            && old.supersede
            && !old.group_unknown
    }

    proptest! {
        #[test]
        fn each_gives_way_to_whom_it_has_to_and_to_nobody_else(mut runs in open_runs()) {
            let answers = superseded_runs(&runs);
            for old in &runs {
                let answer = answers.iter().find(|answer| answer.run == old.id);
                let by: Vec<_> = runs.iter().filter(|new| gives_way(old, new)).collect();
                prop_assert_eq!(answer.is_some(), !by.is_empty() && !old.stopping);
                if let Some(answer) = answer {
                    prop_assert_eq!(answer.by, by.iter().max_by_key(|new| new.place()).unwrap().id);
                    prop_assert_eq!(answer.immediate, old.state == RunState::Pending);
                }
            }
            // Carried out, there is nothing left to do; and the newest push of each ref stands.
            let newest: Vec<RunId> = (0..3).filter_map(|branch| {
                let name: RefName = format!("refs/heads/{branch}").parse().unwrap();
                runs.iter().filter(|run| run.ref_name == name).max_by_key(|run| run.place()).filter(|run| run.group.is_none()).map(|run| run.id)
            }).collect();
            prop_assert!(newest.iter().all(|run| answers.iter().all(|answer| answer.run != *run)));
            for answer in &answers {
                if answer.immediate {
                    runs.retain(|run| run.id != answer.run);
                } else {
                    runs.iter_mut().find(|run| run.id == answer.run).unwrap().stopping = true;
                }
            }
            prop_assert_eq!(superseded_runs(&runs), vec![]);
        }
    }

    #[test]
    fn an_orphan_is_queued_again_once() {
        assert!(requeue_orphan(false, false, true));
        assert!(!requeue_orphan(true, false, true));
        assert!(!requeue_orphan(false, true, true));
        assert!(!requeue_orphan(false, false, false));
    }
}
