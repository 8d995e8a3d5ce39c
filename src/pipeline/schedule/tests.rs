use proptest::prelude::*;

use super::*;
use crate::pipeline::{JobOptions, JobRegistration, PipelineText, Place, Registration};

fn pipeline(jobs: &[(&str, &[&str], bool, u32)]) -> Pipeline {
    let place = Place {
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
            place: place.clone(),
        })
        .collect();
    Pipeline::check(
        Registration {
            jobs,
            ..Registration::default()
        },
        &PipelineText::default(),
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
fn jobs_run_when_their_inputs_are_done() {
    let pipeline = pipeline(&[
        ("b", &["a"], false, 0),
        ("a", &["quire/push"], false, 0),
        ("c", &["quire/push"], false, 0),
        ("d", &["b", "c"], false, 0),
    ]);
    let mut schedule = Schedule::new(&pipeline, "quire/push", &[])
        .unwrap()
        .with_limit(1);
    assert_eq!(names(&schedule.ready()), ["a"]);
    schedule.started(&job("a"));
    assert!(schedule.ready().is_empty(), "the limit is reached");
    schedule.started(&job("d"));
    assert_eq!(
        schedule.state(&job("d")),
        Some(JobState::Pending),
        "it cannot start before its inputs ended"
    );
    assert!(schedule.ended(&job("a"), JobState::Complete).is_empty());
    assert_eq!(names(&schedule.ready()), ["b"]);
    for id in ["b", "c"] {
        schedule.started(&job(id));
        schedule.ended(&job(id), JobState::Skipped);
    }
    assert_eq!(
        names(&schedule.ready()),
        ["d"],
        "what had nothing to do does not stop its dependents"
    );
    schedule.started(&job("d"));
    assert_eq!(schedule.verdict(), None);
    schedule.ended(&job("d"), JobState::Complete);
    assert_eq!(
        (schedule.is_done(), schedule.verdict()),
        (true, Some(Verdict::Complete))
    );
}

#[test]
fn a_failure_skips_all_that_descends_from_it() {
    let jobs: &[(&str, &[&str], bool, u32)] = &[
        ("a", &["quire/push"], false, 1),
        ("b", &["a"], false, 0),
        ("c", &["b", "x"], true, 0),
        ("x", &["quire/push"], true, 0),
        ("y", &["x"], false, 0),
    ];
    let mut schedule = Schedule::new(&pipeline(jobs), "quire/push", &[]).unwrap();
    for id in ["a", "x"] {
        schedule.started(&job(id));
    }
    assert!(
        schedule.retry(&job("a")) && !schedule.retry(&job("a")) && !schedule.retry(&job("b")),
        "one retry, of an active job"
    );
    assert_eq!(
        names(&schedule.ended(&job("a"), JobState::Failed)),
        ["b", "c"]
    );
    assert!(
        schedule.ended(&job("a"), JobState::Failed).is_empty(),
        "a job ends once"
    );
    assert!(
        schedule.ended(&job("x"), JobState::Failed).is_empty(),
        "x may fail"
    );
    assert_eq!(names(&schedule.ready()), ["y"]);
    schedule.started(&job("y"));
    schedule.ended(&job("y"), JobState::Complete);
    assert_eq!(schedule.verdict(), Some(Verdict::Failed(vec![job("a")])));
}

#[test]
fn a_run_has_what_its_source_reaches() {
    let jobs: &[(&str, &[&str], bool, u32)] = &[
        ("test", &["quire/push", "quire/manual"], false, 0),
        ("gate", &["quire/manual"], false, 0),
        ("deploy", &["test", "gate"], false, 0),
        ("lint", &["quire/push"], false, 0),
    ];
    let pipeline = pipeline(jobs);
    let of = |source, only: &[&str]| {
        Schedule::new(
            &pipeline,
            source,
            &only.iter().map(|id| job(id)).collect::<Vec<_>>(),
        )
        .map(|schedule| {
            schedule
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
        "`quire/push` does not lead to job `gate`"
    );
    assert_eq!(
        of("quire/push", &["lnit"]).unwrap_err().to_string(),
        "the pipeline has no job `lnit`: did you mean `lint`?"
    );
    assert_eq!(
        of("quire/nope", &[]).unwrap_err().to_string(),
        "no job of the pipeline waits for `quire/nope`: its jobs start from `quire/manual`, `quire/push`"
    );
    let mut schedule = Schedule::new(&pipeline, "quire/push", &[]).unwrap();
    schedule.started(&job("test"));
    schedule.ended(&job("test"), JobState::Complete);
    assert_eq!(
        names(&schedule.ready()),
        ["deploy", "lint"],
        "an input that the run does not have holds nothing up"
    );
}

#[test]
fn what_is_aborted_is_over() {
    let pipeline = pipeline(&[
        ("a", &["quire/push"], false, 0),
        ("b", &["a"], false, 0),
        ("c", &["quire/push"], false, 0),
    ]);
    let mut schedule = Schedule::new(&pipeline, "quire/push", &[]).unwrap();
    schedule.started(&job("a"));
    let (aborted, skipped) = schedule.abort();
    assert_eq!(
        (names(&aborted), names(&skipped)),
        (vec!["a"], vec!["b", "c"])
    );
    assert!(schedule.is_done() && schedule.ready().is_empty());
    assert_eq!(schedule.verdict(), Some(Verdict::Failed(vec![job("a")])));
}

/// The rules of the specification, straight from the graph, with no state but what ended how.
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

    fn settle(&mut self) {
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
    fn the_schedule_does_as_the_rules_say(
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
        let mut schedule = Schedule::new(&pipeline(&jobs), "quire/push", &[]).unwrap();
        let mut naive = Naive { states: vec![JobState::Pending; inputs.len()], allow, inputs };
        for (pick, what) in steps {
            let active: Vec<usize> = (0..ids.len()).filter(|&at| naive.states[at] == JobState::Active).collect();
            if what == 0 || active.is_empty() {
                let ready = naive.ready();
                if ready.is_empty() { continue; }
                let at = ready[pick.index(ready.len())];
                naive.states[at] = JobState::Active;
                schedule.started(&job(&ids[at]));
            } else {
                let at = active[pick.index(active.len())];
                let state = [JobState::Complete, JobState::Skipped, JobState::Failed][usize::from(what - 1)];
                let before = naive.states.clone();
                naive.states[at] = state;
                naive.settle();
                let skipped: Vec<&str> = (0..ids.len()).filter(|&other| other != at && before[other] != naive.states[other]).map(|other| ids[other].as_str()).collect();
                let stopped = schedule.ended(&job(&ids[at]), state);
                prop_assert_eq!(names(&stopped), skipped);
            }
            for (at, id) in ids.iter().enumerate() {
                prop_assert_eq!(schedule.state(&job(id)), Some(naive.states[at]));
            }
            let ready: Vec<&str> = naive.ready().into_iter().map(|at| ids[at].as_str()).collect();
            let now = schedule.ready();
            prop_assert_eq!(names(&now), ready);
            prop_assert_eq!(schedule.is_done(), naive.states.iter().all(|state| state.is_final()));
        }
    }
}
