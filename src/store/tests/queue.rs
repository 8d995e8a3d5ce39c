//! The queue: which run is next, which gives way, groups, repeats.

use super::*;
use crate::run::ArtifactRow;

#[test]
fn a_newer_push_supersedes_and_waits_for_the_active_run() {
    let f = fixture();
    let first = record(&f.store, "app", &["main"])[0];
    assert_eq!(
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id,
        first
    );
    let second = record(&f.store, "app", &["main"])[0];
    let third = record(&f.store, "app", &["main"])[0];
    let state = |id| f.store.run(id).unwrap().unwrap();
    assert_eq!(state(second).state, RunState::Superseded);
    assert_eq!(state(second).superseded_by, Some(third));
    assert_eq!(
        (state(first).state, state(first).stop_requested),
        (RunState::Active, Some(StopReason::Superseded))
    );
    assert_eq!(
        f.store.claim_next(ExecutorKind::Host).unwrap(),
        None,
        "the ref has an active run"
    );
    f.store.finish(first, &Outcome::Superseded).unwrap();
    assert_eq!(
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id,
        third
    );
}

#[test]
fn hooks_heard_in_the_wrong_order_do_not_bring_back_an_older_commit() {
    let f = fixture();
    let (first, first_run) = push_to("app", &["main"], "1");
    let (second, second_run) = push_to("app", &["main"], "2");
    let now: RefsNow = [(branch("main"), Some(second.refs[0].new_sha.clone()))].into();
    let record = |event: &PushEvent, runs: &[NewRun], now: &RefsNow| {
        let id = f
            .store
            .record_event(event, runs, now, policy::settle)
            .unwrap()
            .runs[0]
            .0;
        f.store.run(id).unwrap().unwrap()
    };
    let newer = record(&second, &second_run, &now);
    assert_eq!(newer.state, RunState::Pending);
    let older = record(&first, &first_run, &now);
    assert_eq!(
        (older.state, older.superseded_by),
        (RunState::Superseded, Some(newer.id))
    );
    assert_eq!(
        f.store.seen_refs(&repo("app")).unwrap()[0].sha,
        second.refs[0].new_sha
    );

    // Pushed back to the first commit, and forth again: pushes like any other.
    for (event, run) in [(&first, &first_run), (&second, &second_run)] {
        let back = PushEvent {
            id: EventId::new(),
            ..event.clone()
        };
        assert_eq!(record(&back, run, &RefsNow::new()).state, RunState::Pending);
    }
}

/// A push of one branch whose pipeline may name a group.
fn record_unexamined(f: &Fixture, name: &str) -> Run {
    let (event, mut runs) = push("app", &[name]);
    runs[0].unexamined = true;
    let id = f
        .store
        .record_event(&event, &runs, &RefsNow::new(), policy::settle)
        .unwrap()
        .runs[0]
        .0;
    f.store.run(id).unwrap().unwrap()
}

fn examine(f: &Fixture, run: &Run, group: Option<(&str, bool)>) {
    let group = group.map(|(name, supersede)| Group {
        name: name.into(),
        supersede,
    });
    f.store
        .examined(run, group.as_ref(), policy::settle)
        .unwrap();
}

#[test]
fn an_unexamined_run_is_neither_claimed_nor_superseded_and_holds_those_it_may_concern() {
    let f = fixture();
    let state = |run: &Run| f.store.run(run.id).unwrap().unwrap().state;
    let (first, second) = (record_unexamined(&f, "main"), record_unexamined(&f, "main"));
    let grouped = record_unexamined(&f, "deploy");
    examine(&f, &grouped, Some(("g", false)));
    let free = record(&f.store, "app", &["free"])[0];
    assert_eq!(
        (state(&first), state(&second)),
        (RunState::Pending, RunState::Pending)
    );
    // `grouped` may have to wait for the other two; the one without group on another ref need not.
    assert_eq!((claim(&f), claim(&f)), (Some(free), None));
    examine(&f, &second, None);
    assert_eq!(claim(&f), None, "an earlier run of its ref is not examined");
    examine(&f, &first, None);
    assert_eq!(
        (state(&first), state(&second)),
        (RunState::Superseded, RunState::Pending)
    );
    assert_eq!((claim(&f), claim(&f)), (Some(second.id), Some(grouped.id)));
    examine(&f, &second, Some(("late", true)));
    assert_eq!(
        f.store.run(second.id).unwrap().unwrap().group_name,
        None,
        "it was examined before"
    );
}

#[test]
fn runs_of_a_group_go_one_after_the_other_in_their_order_also_after_a_crash() {
    let f = fixture();
    let runs: Vec<Run> = (0..4)
        .map(|n| record_unexamined(&f, &format!("b{n}")))
        .collect();
    // The clock is set back: the order is that of their entering all the same.
    f.clock.fetch_sub(7_200_000, Ordering::SeqCst);
    let late = record_unexamined(&f, "b4");
    for run in runs.iter().chain([&late]).rev() {
        examine(&f, run, Some(("deploy", false)));
    }
    assert_eq!((claim(&f), claim(&f)), (Some(runs[0].id), None));
    let others = record(&f.store, "other", &["main"])[0];
    f.store.note_blocked(Some("waits for a place")).unwrap();
    let waits = |id| f.store.run(id).unwrap().unwrap().message;
    assert_eq!(
        waits(others).as_deref(),
        Some("waits for a place"),
        "of another repository"
    );
    f.store.note_blocked(None).unwrap();
    assert_eq!(waits(others), None);
    f.store.request_cancel(others).unwrap();
    let message = f.store.run(runs[2].id).unwrap().unwrap().message.unwrap();
    assert_eq!(
        message,
        format!("waits for run {} of the same group, deploy", runs[1].id)
    );
    // quire is killed: the run comes back in its own place, before those that waited for it.
    let again = f
        .store
        .orphan(runs[0].id, "gone", true, policy::settle)
        .unwrap()
        .unwrap();
    assert_eq!((claim(&f), claim(&f)), (Some(again), None));
    f.store.finish(again, &Outcome::Complete).unwrap();
    assert!(f.store.request_cancel(runs[1].id).unwrap());
    for run in [&runs[2], &runs[3], &late] {
        assert_eq!((claim(&f), claim(&f)), (Some(run.id), None));
        assert_eq!(f.store.run(run.id).unwrap().unwrap().message, None);
        f.store.finish(run.id, &Outcome::Complete).unwrap();
    }
    assert!(!f.store.has_claimable().unwrap());
}

#[test]
fn a_group_that_supersedes_keeps_its_newest_push_only() {
    let f = fixture();
    let runs: Vec<Run> = (0..3)
        .map(|n| record_unexamined(&f, &format!("b{n}")))
        .collect();
    examine(&f, &runs[0], Some(("deploy", true)));
    assert_eq!(claim(&f), Some(runs[0].id));
    examine(&f, &runs[2], Some(("deploy", true)));
    let row = |run: &Run| f.store.run(run.id).unwrap().unwrap();
    assert_eq!(
        (row(&runs[0]).stop_requested, row(&runs[0]).superseded_by),
        (Some(StopReason::Superseded), Some(runs[2].id))
    );
    examine(&f, &runs[1], Some(("deploy", true)));
    assert_eq!(
        (row(&runs[1]).state, row(&runs[1]).superseded_by),
        (RunState::Superseded, Some(runs[2].id))
    );
    f.store.finish(runs[0].id, &Outcome::Superseded).unwrap();
    assert_eq!(claim(&f), Some(runs[2].id));
}

#[test]
fn what_a_person_or_a_schedule_started_replaces_nothing_and_is_not_replaced() {
    let f = fixture();
    let pushed = record(&f.store, "app", &["main"])[0];
    let start = |trigger, source: &str| {
        let run = NewRun {
            trigger,
            source: source.into(),
            ..NewRun::of_push(
                repo("app"),
                branch("main"),
                "1".repeat(40).parse().unwrap(),
                Millis(1),
            )
        };
        f.store.start_run(&run).unwrap()
    };
    let (manual, cron) = (
        start(Trigger::Manual, "quire/manual"),
        start(Trigger::Cron, "quire/cron/nightly"),
    );
    let newer = record(&f.store, "app", &["main"])[0];
    let state = |id| f.store.run(id).unwrap().unwrap().state;
    assert_eq!(
        (state(pushed), state(manual), state(cron)),
        (RunState::Superseded, RunState::Pending, RunState::Pending)
    );
    // One at a time, in their order.
    for id in [manual, cron, newer] {
        assert_eq!((claim(&f), claim(&f)), (Some(id), None));
        f.store.finish(id, &Outcome::Complete).unwrap();
    }
}

#[test]
fn a_retry_replaces_nothing() {
    let f = fixture();
    let old = record(&f.store, "app", &["main"])[0];
    f.store.request_cancel(old).unwrap();
    let newest = record(&f.store, "app", &["main"])[0];
    let again = f.store.retry(old, Repeat::default()).unwrap();
    let state = |id| f.store.run(id).unwrap().unwrap().state;
    assert_eq!(
        (state(newest), state(again.id)),
        (RunState::Pending, RunState::Pending)
    );
    assert_eq!(
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id,
        newest
    );
}

#[test]
fn an_orphan_is_queued_again_once() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    f.store.claim_next(ExecutorKind::Host).unwrap();
    let again = f
        .store
        .orphan(run, "quire was stopped", true, policy::settle)
        .unwrap()
        .unwrap();
    assert_eq!(f.store.successor_of(run).unwrap(), Some(again));
    let row = f.store.run(again).unwrap().unwrap();
    assert_eq!(
        (row.trigger, row.retry_of, row.state),
        (Trigger::Orphan, Some(run), RunState::Pending)
    );
    assert_eq!(
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id,
        again
    );
    assert_eq!(
        f.store
            .orphan(again, "again", true, policy::settle)
            .unwrap(),
        None
    );
    let retried = f.store.retry(run, Repeat::default()).unwrap();
    assert_eq!(retried.retry_of, Some(run));
    assert!(matches!(
        f.store.retry(retried.id, Repeat::default()),
        Err(StoreError::NotEnded { .. })
    ));
}

#[test]
fn a_retry_of_what_failed_uses_the_results_of_what_passed() {
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
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap();
        f.store.register_jobs(run, &jobs).unwrap();
        for (job, state) in ends {
            f.store.job_started(run, &name(job)).unwrap();
            let output = serde_json::json!(job);
            f.store
                .job_ended(
                    run,
                    &name(job),
                    JobState::Active,
                    &JobResult {
                        output: Some(&output),
                        ..JobResult::plain(*state)
                    },
                )
                .unwrap();
        }
        f.store
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
    let how = Repeat {
        only_failed: true,
        keep: false,
    };
    let second = f.store.retry(run, how).unwrap();
    let reused = |run| {
        f.store
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
    let third = f.store.retry(second.id, how).unwrap();
    let expected = [
        ("a".to_owned(), Some(run)),
        ("b".to_owned(), Some(second.id)),
        ("nothing".to_owned(), Some(run)),
    ];
    assert_eq!(reused(third.id), expected);
    assert_eq!(
        f.store.reused(third.id).unwrap()[0].output,
        Some(serde_json::json!("a"))
    );
    // The whole again: nothing is used again.
    assert_eq!(
        reused(f.store.retry(second.id, Repeat::default()).unwrap().id),
        []
    );
    // Cut by a crash, it goes on from the same results.
    f.store.claim_next(ExecutorKind::Host).unwrap().unwrap();
    let again = f
        .store
        .orphan(third.id, "gone", true, policy::settle)
        .unwrap()
        .unwrap();
    assert_eq!(reused(again), expected);
    assert_eq!(claim(&f), Some(again));
    f.store.finish(again, &Outcome::Complete).unwrap();
    assert!(matches!(
        f.store.retry(again, how),
        Err(StoreError::NothingFailed(_))
    ));
}

#[test]
fn what_the_queue_asks_is_answered_by_indexes() {
    let f = fixture();
    let connection = rusqlite::Connection::open(f.folder.path().join("quire.db")).unwrap();
    for sql in crate::store::queue::asked() {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let plan: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let whole = |line: &&String| {
            line.starts_with("SCAN") && line.contains("runs") && !line.contains("USING")
        };
        assert_eq!(plan.iter().find(whole), None, "{sql}\n{plan:#?}");
    }
}

#[test]
fn artifacts_of_used_results_are_found_where_they_lie_and_a_job_whose_are_gone_is_run_again() {
    let f = fixture();
    let name = |text: &str| text.parse::<JobName>().unwrap();
    let jobs: Vec<(JobName, Vec<String>)> = [("a", "quire/push"), ("b", "a")]
        .map(|(job, input)| (name(job), vec![input.to_owned()]))
        .into();
    let kept = |run_id| ArtifactRow {
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
            .finish(run, &Outcome::Failed(FailureKind::Job, "no".into()))
            .unwrap()
    };
    let again = |run| {
        f.store
            .retry(
                run,
                Repeat {
                    only_failed: true,
                    keep: false,
                },
            )
            .unwrap()
            .id
    };
    let used = |run| f.store.reused(run).unwrap().len();
    let held = |run| {
        f.store
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
        f.store.note_removed(&[run], both).unwrap().len() + f.store.remove_runs(&[run]).unwrap()
    };

    let first = record(&f.store, "app", &["main"])[0];
    assert_eq!(claim(&f), Some(first));
    f.store.register_jobs(first, &jobs).unwrap();
    f.store.job_started(first, &name("a")).unwrap();
    f.store.artifact_kept(&kept(first)).unwrap();
    f.store
        .job_ended(
            first,
            &name("a"),
            JobState::Active,
            &JobResult::plain(JobState::Complete),
        )
        .unwrap();
    end(first);
    // One that ended before it began has none of its own; what it would have used counts.
    let second = again(first);
    assert!(f.store.request_cancel(second).unwrap());
    let third = again(second);
    assert_eq!((used(third), held(third)), (1, vec![(first, 7)]));
    assert_eq!(
        (remove(first), remove(second)),
        (0, 0),
        "a living run needs them"
    );
    assert_eq!(claim(&f), Some(third));
    f.store.artifacts_kept(&[kept(third)]).unwrap();
    f.store.register_jobs(third, &jobs).unwrap();
    // Cut off and queued again, it still finds them.
    let cut = f
        .store
        .orphan(third, "gone", true, policy::settle)
        .unwrap()
        .unwrap();
    assert_eq!(held(cut), [(third, 7)]);
    assert!(f.store.request_cancel(cut).unwrap());
    // Those that had them first go; the one that used the result has them.
    assert_eq!((remove(first), remove(second)), (2, 2));
    let fourth = again(third);
    assert_eq!((used(fourth), held(fourth)), (1, vec![(third, 7)]));
    // Cut off before it had them: they still lie with the one before it.
    assert_eq!(claim(&f), Some(fourth));
    let cut = f
        .store
        .orphan(fourth, "gone", true, policy::settle)
        .unwrap()
        .unwrap();
    assert_eq!((held(cut), remove(third)), (vec![(third, 7)], 0));
    assert!(f.store.request_cancel(cut).unwrap());
    // Nowhere any more, by the note or with the rows: then the result does not count either.
    f.store
        .note_removed(
            &[third],
            RemovedFiles {
                logs: false,
                artifacts: true,
            },
        )
        .unwrap();
    let fifth = again(fourth);
    assert_eq!((used(fifth), held(fifth)), (0, vec![]));
    assert!(f.store.request_cancel(fifth).unwrap());
    assert_eq!(remove(third), 2);
    assert_eq!(used(again(fourth)), 0);
}

#[test]
fn a_result_without_artifacts_is_used_again_also_when_its_run_is_gone() {
    let f = fixture();
    let (a, b): (JobName, JobName) = ("a".parse().unwrap(), "b".parse().unwrap());
    let jobs = [
        (a.clone(), vec!["quire/push".to_owned()]),
        (b, vec!["a".to_owned()]),
    ];
    let play = |run| {
        assert_eq!(claim(&f), Some(run));
        f.store.register_jobs(run, &jobs).unwrap();
        if f.store.reused(run).unwrap().is_empty() {
            f.store.job_started(run, &a).unwrap();
            f.store
                .job_ended(
                    run,
                    &a,
                    JobState::Active,
                    &JobResult::plain(JobState::Complete),
                )
                .unwrap();
        }
        f.store
            .finish(run, &Outcome::Failed(FailureKind::Job, "no".into()))
            .unwrap();
    };
    let again = |run| {
        f.store
            .retry(
                run,
                Repeat {
                    only_failed: true,
                    keep: false,
                },
            )
            .unwrap()
            .id
    };
    let first = record(&f.store, "app", &["main"])[0];
    play(first);
    let second = again(first);
    play(second);
    f.store
        .note_removed(
            &[first],
            RemovedFiles {
                logs: true,
                artifacts: true,
            },
        )
        .unwrap();
    assert_eq!(f.store.remove_runs(&[first]).unwrap(), 1);
    assert_eq!(f.store.reused(again(second)).unwrap().len(), 1);
}
