//! The life of a run.

use super::*;
use quire_types::run::RunSelector;

#[test]
fn a_run_does_not_finish_before_its_container_is_removed() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    assert!(
        f.store
            .runs()
            .container_created(run, "c1", "debian")
            .is_err(),
        "it is not active"
    );
    f.store.queue().claim_next(&ExecutorName::DOCKER).unwrap();
    f.store
        .runs()
        .container_created(run, "c1", "debian")
        .unwrap();
    f.store.runs().container_started(run).unwrap();
    assert!(f.store.runs().finish(run, &Outcome::Complete).is_err());
    f.clock.fetch_sub(3_600_000, Ordering::SeqCst);
    f.store.runs().container_ended(run).unwrap();
    f.store.runs().finish(run, &Outcome::Complete).unwrap();
    let row = f.store.runs().get(run).unwrap().unwrap();
    assert!(row.finished_at_ms >= row.started_at_ms && row.container_id.is_none());
    assert!(matches!(
        f.store.runs().finish(run, &Outcome::Complete),
        Err(StoreError::IllegalTransition { .. })
    ));
}

#[test]
fn a_branch_fails_until_a_later_run_of_it_is_complete() {
    let f = fixture();
    let failing = || -> Vec<String> {
        let runs = f.store.runs().failing(10).unwrap();
        runs.iter()
            .map(|run| format!("{} {}", run.repo, run.ref_name.short()))
            .collect()
    };
    let end = |repo: &str, name: &str, outcome: &Outcome| {
        record(&f.store, repo, &[name]);
        let run = claimed(&f.store);
        f.store.runs().finish(run, outcome).unwrap();
    };
    let failed = Outcome::Failed(FailureKind::Job, "job `a` failed".to_owned());
    end("app", "main", &failed);
    end("app", "feature", &failed);
    end("tools", "main", &Outcome::Complete);
    assert_eq!(failing(), ["app feature", "app main"]);
    end("app", "main", &failed);
    assert_eq!(
        failing(),
        ["app main", "app feature"],
        "once for each branch"
    );
    end("app", "main", &Outcome::Canceled);
    assert_eq!(
        failing(),
        ["app main", "app feature"],
        "canceled says nothing"
    );
    end("app", "feature", &Outcome::Complete);
    assert_eq!(failing(), ["app main"]);
    assert!(f.store.runs().failing(0).unwrap().is_empty());
}

/// What SQLite calls the two settings.
const FULL: i64 = 2;
const NORMAL: i64 = 1;

#[test]
fn claims_and_ends_of_runs_are_synced_and_what_is_between_is_not() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    assert_eq!(f.store.synchronous(), FULL, "a push");
    f.store.queue().claim_next(&ExecutorName::DOCKER).unwrap();
    assert_eq!(f.store.synchronous(), FULL, "a claim");
    let job: JobName = "a".parse().unwrap();
    let jobs = [(job.clone(), Vec::new())];
    f.store.jobs().register(run, &jobs).unwrap();
    f.store
        .runs()
        .container_created(run, "c1", "image")
        .unwrap();
    f.store.jobs().started(run, &job).unwrap();
    f.store.steps().started(run, 1, &job, "true").unwrap();
    assert_eq!(f.store.synchronous(), NORMAL, "a step");
    f.store.runs().container_ended(run).unwrap();
    assert_eq!(f.store.synchronous(), NORMAL, "a container");
    let outcome = Outcome::Failed(FailureKind::Timeout, "too long".into());
    f.store.runs().finish(run, &outcome).unwrap();
    assert_eq!(f.store.synchronous(), FULL, "an end");
}

#[test]
fn outputs_of_jobs_are_read_only_on_demand() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let a: JobName = "a".parse().unwrap();
    f.store.queue().claim_next(&ExecutorName::HOST).unwrap();
    f.store
        .jobs()
        .register(run, &[(a.clone(), vec!["quire/push".into()])])
        .unwrap();
    f.store.jobs().started(run, &a).unwrap();
    let output = serde_json::json!({"large": "x"});
    f.store
        .jobs()
        .finished(
            run,
            &a,
            JobState::Active,
            &JobResult {
                output: Some(&output),
                ..JobResult::of_state(JobState::Complete)
            },
        )
        .unwrap();
    let mut jobs = f.store.jobs().list(run).unwrap();
    assert_eq!(jobs[0].output.take(), Some(output));
    assert_eq!(f.store.jobs().list_without_outputs(run).unwrap(), jobs);
}

#[test]
fn jobs_and_steps_finish_with_their_run() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let (a, b): (JobName, JobName) = ("a".parse().unwrap(), "b".parse().unwrap());
    f.store.queue().claim_next(&ExecutorName::HOST).unwrap();
    f.store
        .jobs()
        .register(
            run,
            &[
                (a.clone(), vec!["quire/push".into()]),
                (b.clone(), vec!["a".into()]),
            ],
        )
        .unwrap();
    assert!(
        f.store
            .steps()
            .started(run, 1, &"c".parse().unwrap(), "true")
            .is_err(),
        "no such job"
    );
    f.store.jobs().started(run, &a).unwrap();
    assert!(f.store.jobs().started(run, &a).is_err());
    f.store.steps().started(run, 1, &a, "true").unwrap();
    f.store.steps().finished(run, 1, Some(0)).unwrap();
    assert!(f.store.steps().finished(run, 1, Some(1)).is_err());
    f.store.steps().started(run, 2, &a, "sleep").unwrap();
    f.store
        .runs()
        .finish(
            run,
            &Outcome::Failed(FailureKind::Timeout, "too long".into()),
        )
        .unwrap();
    let jobs = f.store.jobs().list(run).unwrap();
    assert_eq!(
        (jobs[0].state, jobs[1].state),
        (JobState::Aborted, JobState::Skipped)
    );
    assert!(
        f.store
            .steps()
            .list(run)
            .unwrap()
            .iter()
            .all(|step| step.finished_at_ms.is_some())
    );
    let since = |after, also: &[u32]| {
        f.store
            .steps()
            .list_since(run, after, also)
            .unwrap()
            .iter()
            .map(|step| step.seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (
            since(0, &[]),
            since(1, &[]),
            since(1, &[1, 2, 7]),
            since(2, &[2, 1])
        ),
        (vec![1, 2], vec![2], vec![1, 2], vec![1, 2])
    );
    assert_eq!((since(2, &[]), since(u32::MAX, &[2])), (vec![], vec![2]));
    f.store.repos().forget(&repo("app")).unwrap();
    assert!(
        f.store.jobs().list(run).unwrap().is_empty()
            && f.store.steps().list(run).unwrap().is_empty()
    );
}

#[test]
fn a_selector_finds_its_run() {
    let f = fixture();
    let app = record(&f.store, "app", &["a", "b"]);
    let tally = record(&f.store, "tally", &["a"]);
    let resolve = |text: &str| {
        let selector: RunSelector = text.parse().unwrap();
        f.store.runs().resolve(&selector)
    };
    let id = app[0].to_string();
    for (text, run) in [
        ("app#1", app[0]),
        ("app#2", app[1]),
        ("tally#1", tally[0]),
        ("#2", app[1]),
        ("2", app[1]),
        ("latest", tally[0]),
        ("app#latest", app[1]),
        ("app@a", app[0]),
        ("app@refs/heads/b", app[1]),
        (id.as_str(), app[0]),
        (&id[..35], app[0]),
        (&id[20..], app[0]),
        (&id.to_uppercase(), app[0]),
    ] {
        assert_eq!(resolve(text).unwrap(), run, "{text}");
    }
    for (text, names) in [
        ("#1", vec!["tally#1", "app#1"]),
        (&id[..6], vec!["tally#1", "app#2", "app#1"]),
    ] {
        match resolve(text) {
            Err(StoreError::AmbiguousRun { candidates, .. }) => {
                let found: Vec<String> = candidates.iter().map(ToString::to_string).collect();
                assert_eq!(found, names, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in [
        "app#3",
        "#9",
        "none#1",
        "none#latest",
        "app@c",
        "none@a",
        "0000",
        "ffff",
    ] {
        assert!(
            matches!(resolve(text), Err(StoreError::NoSuchRun(_))),
            "{text}"
        );
    }
}

#[test]
fn numbers_go_on_after_a_rename_and_after_retention() {
    let f = fixture();
    record(&f.store, "app", &["a", "b"]);
    let number = |run: RunId| f.store.runs().get(run).unwrap().unwrap().name().to_string();
    let redirects = f.store.redirects();
    assert!(redirects.begin_rename(&repo("app"), &repo("shop")).unwrap());
    redirects
        .finish_rename(&repo("app"), &repo("shop"))
        .unwrap();
    let third = record(&f.store, "shop", &["a"]);
    assert_eq!(number(third[0]), "shop#3");
    f.store.repos().forget(&repo("shop")).unwrap();
    let fourth = record(&f.store, "shop", &["a"]);
    assert_eq!(number(fourth[0]), "shop#4", "a number is not used again");
    let first = record(&f.store, "app", &["a"]);
    assert_eq!(
        number(first[0]),
        "app#1",
        "another repository of the old name"
    );
}
