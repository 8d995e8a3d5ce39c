//! What runs that have not ended mean for each other: plain data in, plain data out. The queue
//! asks, the store writes what was answered in the same transaction.

use std::collections::{HashMap, HashSet};

use crate::clock::Millis;
use crate::names::{JobName, RefName, RunId};
use crate::run::{JobRow, JobState, RunState};

/// A run of a repository that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
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
    pub unexamined: bool,
    /// Whether a push itself made it. Only such a run takes the place of others.
    pub by_push: bool,
    /// Whether it starts from a push, if only as a repetition. Only such a run gives way.
    pub of_push: bool,
    /// `Pending` or `Active`.
    pub state: RunState,
    /// Whether it has been asked to stop already.
    pub stopping: bool,
}

impl Standing {
    fn place(&self) -> (Millis, RunId) {
        (self.queued_at, self.id)
    }
}

/// A run that gives way to a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replace {
    /// The run.
    pub run: RunId,
    /// The newest that it gives way to.
    pub by: RunId,
    /// It has not started: superseded at once. Otherwise the runner is asked to stop it, and it is
    /// superseded when its container is gone.
    pub at_once: bool,
}

/// A newer push takes the place of every run of an older push of the same ref, and of the same
/// group, that lets itself be superseded. What a person or a schedule started takes nobody's
/// place and keeps its own. A run whose group is not known yet keeps its place until it is.
#[must_use]
pub fn settle(standing: &[Standing]) -> Vec<Replace> {
    let mut of_ref: HashMap<&RefName, (Millis, RunId)> = HashMap::new();
    let mut of_group: HashMap<&str, (Millis, RunId)> = HashMap::new();
    for run in standing.iter().filter(|run| run.by_push) {
        let newest = of_ref.entry(&run.ref_name).or_insert(run.place());
        *newest = run.place().max(*newest);
        if let Some(group) = &run.group {
            let newest = of_group.entry(group).or_insert(run.place());
            *newest = run.place().max(*newest);
        }
    }
    let gives_way = |run: &Standing| {
        let of_group = run.group.as_deref().and_then(|group| of_group.get(group));
        let newest = of_ref
            .get(&run.ref_name)
            .max(of_group)
            .filter(|newest| **newest > run.place())?;
        Some(Replace {
            run: run.id,
            by: newest.1,
            at_once: run.state == RunState::Pending,
        })
    };
    let may = |run: &&Standing| run.of_push && run.supersede && !run.unexamined && !run.stopping;
    standing.iter().filter(may).filter_map(gives_way).collect()
}

/// The jobs of a run whose results another run of the same commit may use: those that ended well, whose
/// artifacts are not lost, and that descend from none that is otherwise.
#[must_use]
pub fn passed(jobs: &[JobRow], lost: &HashSet<JobName>) -> HashSet<JobName> {
    // Skipped without having been called: something before it failed.
    let ended = |job: &JobRow| {
        job.state == JobState::Complete
            || (job.state == JobState::Skipped && job.started_at_ms.is_some())
    };
    let well = |job: &JobRow| ended(job) && !lost.contains(&job.job_id);
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

/// Whether an orphaned run is queued again: once, and not when it was to be stopped anyway.
#[must_use]
pub fn requeue_orphan(is_second_try: bool, stopping: bool, enabled: bool) -> bool {
    enabled && !is_second_try && !stopping
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs in the order of their entering; some share a moment.
    fn standing() -> impl Strategy<Value = Vec<Standing>> {
        let one = (
            0..3_u8,
            proptest::option::of(0..2_u8),
            any::<[bool; 5]>(),
            0..2_u8,
        );
        proptest::collection::vec(one, 0..10).prop_map(|rows| {
            let run = |(
                at,
                (branch, group, [supersede, unexamined, by_push, stopping, active], source),
            ): (usize, (u8, Option<u8>, [bool; 5], u8))| Standing {
                id: RunId::new(),
                queued_at: Millis(i64::try_from(at / 2).unwrap()),
                ref_name: format!("refs/heads/{branch}").parse().unwrap(),
                group: group
                    .filter(|_| !unexamined)
                    .map(|group| format!("g{group}")),
                supersede,
                unexamined,
                by_push,
                of_push: by_push || source == 0,
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
    fn gives_way(old: &Standing, new: &Standing) -> bool {
        let newer =
            new.queued_at > old.queued_at || (new.queued_at == old.queued_at && new.id > old.id);
        let related =
            old.ref_name == new.ref_name || (old.group.is_some() && old.group == new.group);
        newer && related && new.by_push && old.of_push && old.supersede && !old.unexamined
    }

    proptest! {
        #[test]
        fn each_gives_way_to_whom_it_has_to_and_to_nobody_else(mut runs in standing()) {
            let answers = settle(&runs);
            for old in &runs {
                let answer = answers.iter().find(|answer| answer.run == old.id);
                let by: Vec<_> = runs.iter().filter(|new| gives_way(old, new)).collect();
                prop_assert_eq!(answer.is_some(), !by.is_empty() && !old.stopping);
                if let Some(answer) = answer {
                    prop_assert_eq!(answer.by, by.iter().max_by_key(|new| new.place()).unwrap().id);
                    prop_assert_eq!(answer.at_once, old.state == RunState::Pending);
                }
            }
            // Carried out, there is nothing left to do; and the newest push of each ref stands.
            let newest: Vec<RunId> = (0..3).filter_map(|branch| {
                let name: RefName = format!("refs/heads/{branch}").parse().unwrap();
                runs.iter().filter(|run| run.ref_name == name).max_by_key(|run| run.place()).filter(|run| run.group.is_none()).map(|run| run.id)
            }).collect();
            prop_assert!(newest.iter().all(|run| answers.iter().all(|answer| answer.run != *run)));
            for answer in &answers {
                if answer.at_once {
                    runs.retain(|run| run.id != answer.run);
                } else {
                    runs.iter_mut().find(|run| run.id == answer.run).unwrap().stopping = true;
                }
            }
            prop_assert_eq!(settle(&runs), vec![]);
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
