//! Retries and orphans.

use super::*;
use quire_types::run::RunArtifact;

#[test]
fn a_retry_supersedes_nothing() {
    let f = fixture();
    let old = record(&f.store, "app", &["main"])[0];
    f.store.runs().request_cancel(old).unwrap();
    let newest = record(&f.store, "app", &["main"])[0];
    let again = f
        .store
        .runs()
        .retry(old, RetryOptions::default(), supersede::superseded_runs)
        .unwrap();
    let state = |id| f.store.runs().get(id).unwrap().unwrap().state;
    assert_eq!(
        (state(newest), state(again.id)),
        (RunState::Pending, RunState::Pending)
    );
    assert_eq!(claimed(&f.store), newest);
}

#[test]
fn only_crashes_count_against_a_requeued_run() {
    let f = fixture();
    let mut run = record(&f.store, "app", &["main"])[0];
    let mut orphan = |message: &str| {
        f.store.queue().claim_next(&ExecutorName::HOST).unwrap();
        let runs = f.store.runs();
        let next = runs.orphan(run, message, true, supersede::superseded_runs);
        run = next.unwrap()?;
        Some(run)
    };
    for _ in 0..3 {
        assert!(orphan(STOPPED_WITH_QUIRE).is_some());
    }
    assert!(orphan("quire crashed").is_some());
    assert!(orphan(STOPPED_WITH_QUIRE).is_some());
    assert_eq!(orphan("quire crashed"), None);
}

#[test]
fn an_orphaned_run_still_builds_its_images_afresh() {
    let f = fixture();
    let (_, mut runs) = push("app", &["main"]);
    runs[0].rebuild = true;
    let queue = f.store.queue();
    let run = queue.enqueue(&runs[0], supersede::superseded_runs).unwrap();
    queue.claim_next(&ExecutorName::HOST).unwrap();
    let store = f.store.runs();
    let orphan = store.orphan(run, "quire crashed", true, supersede::superseded_runs);
    let next = orphan.unwrap().unwrap();
    assert!(store.get(next).unwrap().unwrap().rebuild);
}

#[test]
fn an_orphaned_run_is_requeued_once() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    f.store.queue().claim_next(&ExecutorName::HOST).unwrap();
    let again = f
        .store
        .runs()
        .orphan(run, "quire was stopped", true, supersede::superseded_runs)
        .unwrap()
        .unwrap();
    assert_eq!(f.store.runs().successor_of(run).unwrap(), Some(again));
    let row = f.store.runs().get(again).unwrap().unwrap();
    assert_eq!(
        (row.trigger, row.retry_of, row.state),
        (Trigger::Orphan, Some(run), RunState::Pending)
    );
    assert_eq!(claimed(&f.store), again);
    assert_eq!(
        f.store
            .runs()
            .orphan(again, "again", true, supersede::superseded_runs)
            .unwrap(),
        None
    );
    let retried = f
        .store
        .runs()
        .retry(run, RetryOptions::default(), supersede::superseded_runs)
        .unwrap();
    assert_eq!(retried.retry_of, Some(run));
    assert!(matches!(
        f.store.runs().retry(
            retried.id,
            RetryOptions::default(),
            supersede::superseded_runs
        ),
        Err(StoreError::NotFinished { .. })
    ));
}

#[test]
fn a_retry_of_failed_jobs_reuses_the_results_of_the_others() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let name = |text: &str| text.parse::<JobName>().unwrap();
    let jobs: Vec<(JobName, Vec<String>)> = [
        ("a", "quire/push"),
        ("b", "a"),
        ("nothing", "a"),
        ("c", "b"),
        ("d", "c"),
    ]
    .map(|(job, input)| (name(job), vec![input.to_owned()]))
    .into();
    let play = |run: RunId, ends: &[(&str, JobState)]| {
        f.store
            .queue()
            .claim_next(&ExecutorName::HOST)
            .unwrap()
            .unwrap();
        f.store.jobs().register(run, &jobs).unwrap();
        for (job, state) in ends {
            f.store.jobs().started(run, &name(job)).unwrap();
            let output = serde_json::json!(job);
            f.store
                .jobs()
                .finished(
                    run,
                    &name(job),
                    JobState::Active,
                    &JobResult {
                        output: Some(&output),
                        ..JobResult::of_state(*state)
                    },
                )
                .unwrap();
        }
        f.store
            .runs()
            .finish(run, &Outcome::Failed(FailureKind::Job, "no".into()))
            .unwrap();
    };
    play(
        run,
        &[
            ("a", JobState::Complete),
            ("nothing", JobState::Skipped),
            ("b", JobState::Failed),
        ],
    );
    let how = RetryOptions {
        only_failed: true,
        keep: false,
    };
    let second = f
        .store
        .runs()
        .retry(run, how, supersede::superseded_runs)
        .unwrap();
    let reused = |run| {
        f.store
            .jobs()
            .reused(run)
            .unwrap()
            .into_iter()
            .map(|job| (job.job_id.to_string(), job.reused_from))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        reused(second.id),
        [
            ("a".to_owned(), Some(run)),
            ("nothing".to_owned(), Some(run))
        ]
    );
    play(
        second.id,
        &[("b", JobState::Complete), ("c", JobState::Failed)],
    );
    // What was run in the first is named so in the third; what it was repeated for may be gone.
    let third = f
        .store
        .runs()
        .retry(second.id, how, supersede::superseded_runs)
        .unwrap();
    let expected = [
        ("a".to_owned(), Some(run)),
        ("b".to_owned(), Some(second.id)),
        ("nothing".to_owned(), Some(run)),
    ];
    assert_eq!(reused(third.id), expected);
    assert_eq!(
        f.store.jobs().reused(third.id).unwrap()[0].output,
        Some(serde_json::json!("a"))
    );
    // The whole again: nothing is used again.
    assert_eq!(
        reused(
            f.store
                .runs()
                .retry(
                    second.id,
                    RetryOptions::default(),
                    supersede::superseded_runs
                )
                .unwrap()
                .id
        ),
        []
    );
    // Cut by a crash, it goes on from the same results.
    f.store
        .queue()
        .claim_next(&ExecutorName::HOST)
        .unwrap()
        .unwrap();
    let again = f
        .store
        .runs()
        .orphan(third.id, "gone", true, supersede::superseded_runs)
        .unwrap()
        .unwrap();
    assert_eq!(reused(again), expected);
    assert_eq!(claim(&f), Some(again));
    f.store.runs().finish(again, &Outcome::Complete).unwrap();
    assert!(matches!(
        f.store.runs().retry(again, how, supersede::superseded_runs),
        Err(StoreError::NothingFailed(_))
    ));
}

#[test]
fn artifacts_of_reused_results_are_found_or_the_job_runs_again() {
    let f = fixture();
    let name = |text: &str| text.parse::<JobName>().unwrap();
    let jobs: Vec<(JobName, Vec<String>)> = [("a", "quire/push"), ("b", "a")]
        .map(|(job, input)| (name(job), vec![input.to_owned()]))
        .into();
    let kept = |run_id| RunArtifact {
        run_id,
        name: "out".into(),
        job_id: name("a"),
        is_folder: false,
        files: 1,
        bytes: 7,
        created_at_ms: Millis(1),
    };
    let end = |run| {
        f.store
            .runs()
            .finish(run, &Outcome::Failed(FailureKind::Job, "no".into()))
            .unwrap()
    };
    let again = |run| retry_failed(&f.store, run);
    let used = |run| f.store.jobs().reused(run).unwrap().len();
    let held = |run| {
        f.store
            .jobs()
            .reused_artifacts(run)
            .unwrap()
            .into_iter()
            .map(|row| (row.run_id, row.bytes))
            .collect::<Vec<_>>()
    };
    let both = RemovedFiles {
        logs: true,
        artifacts: true,
    };
    let remove = |run| {
        f.store.outbox().prune().unwrap();
        f.store
            .retention()
            .mark_removed(&[run], both)
            .unwrap()
            .len()
            + f.store.retention().remove_runs(&[run]).unwrap()
    };

    let first = record(&f.store, "app", &["main"])[0];
    assert_eq!(claim(&f), Some(first));
    f.store.jobs().register(first, &jobs).unwrap();
    f.store.jobs().started(first, &name("a")).unwrap();
    f.store.artifacts().record(&kept(first)).unwrap();
    f.store
        .jobs()
        .finished(
            first,
            &name("a"),
            JobState::Active,
            &JobResult::of_state(JobState::Complete),
        )
        .unwrap();
    end(first);
    // One that ended before it began has none of its own; what it would have used counts.
    let second = again(first);
    assert!(f.store.runs().request_cancel(second).unwrap());
    let third = again(second);
    assert_eq!((used(third), held(third)), (1, vec![(first, 7)]));
    assert_eq!(
        (remove(first), remove(second)),
        (0, 0),
        "a living run needs them"
    );
    assert_eq!(claim(&f), Some(third));
    f.store.artifacts().record_all(&[kept(third)]).unwrap();
    f.store.jobs().register(third, &jobs).unwrap();
    // Cut off and queued again, it still finds them.
    let cut = f
        .store
        .runs()
        .orphan(third, "gone", true, supersede::superseded_runs)
        .unwrap()
        .unwrap();
    assert_eq!(held(cut), [(third, 7)]);
    assert!(f.store.runs().request_cancel(cut).unwrap());
    // Those that had them first go; the one that used the result has them.
    assert_eq!((remove(first), remove(second)), (2, 2));
    let fourth = again(third);
    assert_eq!((used(fourth), held(fourth)), (1, vec![(third, 7)]));
    // Cut off before it had them: they still lie with the one before it.
    assert_eq!(claim(&f), Some(fourth));
    let cut = f
        .store
        .runs()
        .orphan(fourth, "gone", true, supersede::superseded_runs)
        .unwrap()
        .unwrap();
    assert_eq!((held(cut), remove(third)), (vec![(third, 7)], 0));
    assert!(f.store.runs().request_cancel(cut).unwrap());
    // Nowhere any more, by the note or with the rows: then the result does not count either.
    f.store.outbox().prune().unwrap();
    f.store
        .retention()
        .mark_removed(
            &[third],
            RemovedFiles {
                logs: false,
                artifacts: true,
            },
        )
        .unwrap();
    let fifth = again(fourth);
    assert_eq!((used(fifth), held(fifth)), (0, vec![]));
    assert!(f.store.runs().request_cancel(fifth).unwrap());
    assert_eq!(remove(third), 2);
    assert_eq!(used(again(fourth)), 0);
}

#[test]
fn a_result_without_artifacts_outlives_its_run() {
    let f = fixture();
    let (a, b): (JobName, JobName) = ("a".parse().unwrap(), "b".parse().unwrap());
    let jobs = [
        (a.clone(), vec!["quire/push".to_owned()]),
        (b, vec!["a".to_owned()]),
    ];
    let play = |run| {
        assert_eq!(claim(&f), Some(run));
        f.store.jobs().register(run, &jobs).unwrap();
        if f.store.jobs().reused(run).unwrap().is_empty() {
            f.store.jobs().started(run, &a).unwrap();
            f.store
                .jobs()
                .finished(
                    run,
                    &a,
                    JobState::Active,
                    &JobResult::of_state(JobState::Complete),
                )
                .unwrap();
        }
        f.store
            .runs()
            .finish(run, &Outcome::Failed(FailureKind::Job, "no".into()))
            .unwrap();
    };
    let again = |run| retry_failed(&f.store, run);
    let first = record(&f.store, "app", &["main"])[0];
    play(first);
    let second = again(first);
    play(second);
    f.store.outbox().prune().unwrap();
    f.store
        .retention()
        .mark_removed(
            &[first],
            RemovedFiles {
                logs: true,
                artifacts: true,
            },
        )
        .unwrap();
    assert_eq!(f.store.retention().remove_runs(&[first]).unwrap(), 1);
    assert_eq!(f.store.jobs().reused(again(second)).unwrap().len(), 1);
}
