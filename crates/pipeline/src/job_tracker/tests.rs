use proptest::prelude::*;

use super::*;
use crate::{JobOptions, JobRegistration, Location, Registration, SourceFile};

fn pipeline(jobs: &[(&str, &[&str], bool, u32)]) -> Pipeline {
    let location = Location {
        file: "ci.fnl".to_owned(),
        line: 1,
        column: 1,
    };
    let jobs = jobs
        .iter()
        .map(|(id, inputs, allow_failure, retry)| JobRegistration {
            id: (*id).to_owned(),
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            options: JobOptions {
                timeout_ms: None,
                allow_failure: *allow_failure,
                retry: *retry,
                env: Vec::new(),
            },
            location: location.clone(),
        })
        .collect();
    Pipeline::check(
        Registration {
            jobs,
            ..Registration::default()
        },
        &SourceFile::default(),
        false,
    )
    .unwrap()
}

fn names(jobs: &[JobName]) -> Vec<&str> {
    jobs.iter().map(JobName::as_str).collect()
}

fn job(id: &str) -> JobName {
    id.parse().unwrap()
}

#[test]
fn jobs_are_ready_when_their_inputs_have_ended() {
    let pipeline = pipeline(&[
        ("b", &["a"], false, 0),
        ("a", &["quire/push"], false, 0),
        ("c", &["quire/push"], false, 0),
        ("d", &["b", "c"], false, 0),
    ]);
    let mut tracker = JobTracker::new(&pipeline, "quire/push", &[])
        .unwrap()
        .with_limit(1);
    assert_eq!(names(&tracker.ready()), ["a"]);
    tracker.started(&job("a"));
    assert!(tracker.ready().is_empty(), "the limit is reached");
    tracker.started(&job("d"));
    assert_eq!(
        tracker.state(&job("d")),
        Some(JobState::Pending),
        "it cannot start before its inputs ended"
    );
    assert!(tracker.ended(&job("a"), JobState::Complete).is_empty());
    assert_eq!(names(&tracker.ready()), ["b"]);
    for id in ["b", "c"] {
        tracker.started(&job(id));
        tracker.ended(&job(id), JobState::Skipped);
    }
    assert_eq!(
        names(&tracker.ready()),
        ["d"],
        "what had nothing to do does not stop its dependents"
    );
    tracker.started(&job("d"));
    assert_eq!(tracker.outcome(), None);
    tracker.ended(&job("d"), JobState::Complete);
    assert_eq!(
        (tracker.is_finished(), tracker.outcome()),
        (true, Some(JobsOutcome::Complete))
    );
}

#[test]
fn a_failure_skips_all_dependents() {
    let jobs: &[(&str, &[&str], bool, u32)] = &[
        ("a", &["quire/push"], false, 1),
        ("b", &["a"], false, 0),
        ("c", &["b", "x"], true, 0),
        ("x", &["quire/push"], true, 0),
        ("y", &["x"], false, 0),
    ];
    let mut tracker = JobTracker::new(&pipeline(jobs), "quire/push", &[]).unwrap();
    for id in ["a", "x"] {
        tracker.started(&job(id));
    }
    assert!(
        tracker.retry(&job("a")) && !tracker.retry(&job("a")) && !tracker.retry(&job("b")),
        "one retry, of an active job"
    );
    assert_eq!(
        names(&tracker.ended(&job("a"), JobState::Failed)),
        ["b", "c"]
    );
    assert!(
        tracker.ended(&job("a"), JobState::Failed).is_empty(),
        "a job ends once"
    );
    assert!(
        tracker.ended(&job("x"), JobState::Failed).is_empty(),
        "x may fail"
    );
    assert_eq!(names(&tracker.ready()), ["y"]);
    tracker.started(&job("y"));
    tracker.ended(&job("y"), JobState::Complete);
    assert_eq!(tracker.outcome(), Some(JobsOutcome::Failed(vec![job("a")])));
}

#[test]
fn a_run_has_the_jobs_that_depend_on_its_source() {
    let jobs: &[(&str, &[&str], bool, u32)] = &[
        ("test", &["quire/push", "quire/manual"], false, 0),
        ("gate", &["quire/manual"], false, 0),
        ("deploy", &["test", "gate"], false, 0),
        ("lint", &["quire/push"], false, 0),
    ];
    let pipeline = pipeline(jobs);
    let of = |source, only: &[&str]| {
        JobTracker::new(
            &pipeline,
            source,
            &only.iter().map(|id| job(id)).collect::<Vec<_>>(),
        )
        .map(|tracker| {
            tracker
                .jobs()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(of("quire/push", &[]).unwrap(), ["test", "deploy", "lint"]);
    assert_eq!(of("quire/manual", &[]).unwrap(), ["test", "gate", "deploy"]);
    assert_eq!(of("quire/push", &["deploy"]).unwrap(), ["test", "deploy"]);
    assert_eq!(of("quire/push", &["lint"]).unwrap(), ["lint"]);
    assert_eq!(
        of("quire/push", &["lint", "deploy", "lint"]).unwrap(),
        ["test", "deploy", "lint"]
    );
    assert!(of("quire/push", &["lint", "gate"]).is_err());
    assert_eq!(
        of("quire/push", &["gate"]).unwrap_err().to_string(),
        "job `gate` is not part of a run from `quire/push`: it does not depend on that source"
    );
    assert_eq!(
        of("quire/push", &["lnit"]).unwrap_err().to_string(),
        "the pipeline has no job `lnit`: did you mean `lint`?"
    );
    assert_eq!(
        of("quire/nope", &[]).unwrap_err().to_string(),
        "no job of the pipeline waits for `quire/nope`: its jobs wait for `quire/manual`, `quire/push`"
    );
    let mut tracker = JobTracker::new(&pipeline, "quire/push", &[]).unwrap();
    tracker.started(&job("test"));
    tracker.ended(&job("test"), JobState::Complete);
    assert_eq!(
        names(&tracker.ready()),
        ["deploy", "lint"],
        "an input that the run does not have holds nothing up"
    );
}

#[test]
fn an_aborted_run_is_finished() {
    let pipeline = pipeline(&[
        ("a", &["quire/push"], false, 0),
        ("b", &["a"], false, 0),
        ("c", &["quire/push"], false, 0),
    ]);
    let mut tracker = JobTracker::new(&pipeline, "quire/push", &[]).unwrap();
    tracker.started(&job("a"));
    let (aborted, skipped) = tracker.abort();
    assert_eq!(
        (names(&aborted), names(&skipped)),
        (vec!["a"], vec!["b", "c"])
    );
    assert!(tracker.is_finished() && tracker.ready().is_empty());
    assert_eq!(tracker.outcome(), Some(JobsOutcome::Failed(vec![job("a")])));
}

/// The rules of the module's documentation, computed from the graph and the states of the jobs alone.
struct Naive {
    inputs: Vec<Vec<usize>>,
    allow: Vec<bool>,
    states: Vec<JobState>,
}

impl Naive {
    fn stopped(&self, at: usize) -> bool {
        self.inputs[at].iter().any(|&from| {
            (self.states[from] == JobState::Failed && !self.allow[from]) || self.stopped(from)
        })
    }

    fn skip_stopped(&mut self) {
        for at in 0..self.inputs.len() {
            if self.states[at] == JobState::Pending && self.stopped(at) {
                self.states[at] = JobState::Skipped;
            }
        }
    }

    fn ready(&self) -> Vec<usize> {
        let pending = (0..self.inputs.len()).filter(|&at| self.states[at] == JobState::Pending);
        pending
            .filter(|&at| {
                self.inputs[at]
                    .iter()
                    .all(|&from| self.states[from].is_final())
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn the_schedule_follows_the_rules(
        edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
        allow in prop::collection::vec(any::<bool>(), 12),
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8), 0..60),
    ) {
        let inputs: Vec<Vec<usize>> = edges
            .iter()
            .enumerate()
            .map(|(at, from)| if at == 0 { Vec::new() } else { let mut from: Vec<usize> = from.iter().map(|index| index.index(at)).collect(); from.sort_unstable(); from.dedup(); from })
            .collect();
        let ids: Vec<String> = (0..inputs.len()).map(|at| format!("j{at}")).collect();
        let named: Vec<Vec<&str>> = inputs.iter().map(|from| if from.is_empty() { vec!["quire/push"] } else { from.iter().map(|&at| ids[at].as_str()).collect() }).collect();
        let jobs: Vec<(&str, &[&str], bool, u32)> = (0..inputs.len()).map(|at| (ids[at].as_str(), named[at].as_slice(), allow[at], 0)).collect();
        let mut tracker = JobTracker::new(&pipeline(&jobs), "quire/push", &[]).unwrap();
        let mut naive = Naive { states: vec![JobState::Pending; inputs.len()], allow, inputs };
        for (pick, what) in steps {
            let active: Vec<usize> = (0..ids.len()).filter(|&at| naive.states[at] == JobState::Active).collect();
            if what == 0 || active.is_empty() {
                let ready = naive.ready();
                if ready.is_empty() { continue; }
                let at = ready[pick.index(ready.len())];
                naive.states[at] = JobState::Active;
                tracker.started(&job(&ids[at]));
            } else {
                let at = active[pick.index(active.len())];
                let state = [JobState::Complete, JobState::Skipped, JobState::Failed][usize::from(what - 1)];
                let before = naive.states.clone();
                naive.states[at] = state;
                naive.skip_stopped();
                let skipped: Vec<&str> = (0..ids.len()).filter(|&other| other != at && before[other] != naive.states[other]).map(|other| ids[other].as_str()).collect();
                let stopped = tracker.ended(&job(&ids[at]), state);
                prop_assert_eq!(names(&stopped), skipped);
            }
            for (at, id) in ids.iter().enumerate() {
                prop_assert_eq!(tracker.state(&job(id)), Some(naive.states[at]));
            }
            let ready: Vec<&str> = naive.ready().into_iter().map(|at| ids[at].as_str()).collect();
            let now = tracker.ready();
            prop_assert_eq!(names(&now), ready);
            prop_assert_eq!(tracker.is_finished(), naive.states.iter().all(|state| state.is_final()));
        }
    }
}
