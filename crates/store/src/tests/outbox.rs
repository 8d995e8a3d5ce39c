//! The outbox: which ends are in it, and how targets come on.

use super::*;

/// The runs that a target has not passed.
fn ended(f: &Fixture, target: &str) -> Vec<EndedRun> {
    let entries = f.store.outbox().next(target, 100).unwrap().into_iter();
    let ended = |entry| match entry {
        OutboxEntry::Ended(ended) => Some(*ended),
        OutboxEntry::Pushed(_) | OutboxEntry::Reported { .. } => None,
    };
    entries.filter_map(ended).collect()
}

/// The same, as name of the ref and state.
fn waiting(f: &Fixture, target: &str) -> Vec<String> {
    let ended = ended(f, target);
    let line = |ended: &EndedRun| format!("{} {}", ended.run.ref_name.short(), ended.run.state);
    ended.iter().map(line).collect()
}

/// Claims the next run and ends it.
fn end_next(f: &Fixture, outcome: &Outcome) -> RunId {
    let run = claimed(&f.store);
    f.store.runs().finish(run, outcome).unwrap();
    run
}

fn failed() -> Outcome {
    Outcome::Failed(FailureKind::Job, "`make test` failed".to_owned())
}

#[test]
fn every_way_to_an_end_is_in_the_outbox_once() {
    let f = fixture();
    f.store.outbox().set_targets(&["hook"]).unwrap();
    record(&f.store, "app", &["complete"]);
    end_next(&f, &Outcome::Complete);
    record(&f.store, "app", &["failed"]);
    end_next(&f, &failed());
    let pending = record(&f.store, "app", &["canceled"])[0];
    assert!(f.store.runs().request_cancel(pending).unwrap());
    record(&f.store, "app", &["superseded"]);
    record(&f.store, "app", &["superseded"]);
    end_next(&f, &Outcome::Complete);
    record(&f.store, "app", &["stopped"]);
    let active = claimed(&f.store);
    assert!(f.store.runs().request_cancel(active).unwrap());
    let orphan = |run, requeue| {
        f.store
            .runs()
            .orphan(run, "quire crashed", requeue, supersede::superseded_runs)
            .unwrap()
    };
    orphan(active, true);
    record(&f.store, "app", &["orphaned"]);
    assert!(orphan(claimed(&f.store), true).is_some());
    end_next(&f, &Outcome::Complete);
    assert_eq!(
        waiting(&f, "hook"),
        [
            "complete complete",
            "failed failed",
            "canceled canceled",
            "superseded superseded",
            "superseded complete",
            "stopped canceled",
            "orphaned failed",
            "orphaned complete"
        ]
    );
    let requeued: Vec<bool> = ended(&f, "hook")[6..]
        .iter()
        .map(|ended| ended.requeued)
        .collect();
    assert_eq!(requeued, [true, false]);
}

#[test]
fn an_event_that_comes_too_late_is_in_the_outbox() {
    let f = fixture();
    f.store.outbox().set_targets(&["hook"]).unwrap();
    let (first, first_run) = push_to("app", &["main"], "1");
    let (second, second_run) = push_to("app", &["main"], "2");
    let now: CurrentRefs = [(branch("main"), Some(second.refs[0].new_sha.clone()))].into();
    for (event, runs) in [(&second, &second_run), (&first, &first_run)] {
        let (events, decide) = (f.store.events(), supersede::superseded_runs);
        events.record(event, runs, &now, decide).unwrap();
    }
    assert_eq!(waiting(&f, "hook"), ["main superseded"]);
}

#[test]
fn each_target_has_a_position_of_its_own() {
    let f = fixture();
    let outbox = f.store.outbox();
    outbox.set_targets(&["hook"]).unwrap();
    for name in ["one", "two", "three"] {
        record(&f.store, "app", &[name]);
        end_next(&f, &Outcome::Complete);
    }
    // A target that is added now is told of nothing that has ended before.
    outbox.set_targets(&["hook", "mail"]).unwrap();
    assert_eq!(waiting(&f, "mail"), Vec::<String>::new());
    let seqs: Vec<i64> = ended(&f, "hook").iter().map(|e| e.seq).collect();
    assert!(outbox.failed("hook", "refused", Millis(5)).unwrap());
    assert!(outbox.failed("hook", "refused", Millis(9)).unwrap());
    let hook = outbox.target("hook").unwrap().unwrap();
    assert_eq!(
        (hook.waiting, hook.failures, hook.next_attempt_ms),
        (6, 2, Some(Millis(9))),
        "each run and its push"
    );
    assert!(outbox.delivered("hook", seqs[0]).unwrap());
    assert!(!outbox.delivered("hook", seqs[0]).unwrap());
    let hook = outbox.target("hook").unwrap().unwrap();
    assert_eq!((hook.waiting, hook.failures, hook.problem), (4, 0, None));
    assert_eq!(outbox.prune().unwrap(), 2);
    assert!(outbox.given_up("hook", seqs[1]).unwrap());
    assert_eq!(outbox.target("hook").unwrap().unwrap().given_up, 1);
    assert_eq!(waiting(&f, "hook"), ["three complete"]);
    // Removed and added again, it begins at the end, and an answer to an earlier attempt changes nothing.
    outbox.set_targets(&["mail"]).unwrap();
    assert!(!outbox.failed("hook", "refused", Millis(9)).unwrap());
    assert_eq!(outbox.prune().unwrap(), 4);
    outbox.set_targets(&["hook", "mail"]).unwrap();
    assert!(!outbox.skipped("hook", seqs[1]).unwrap());
    record(&f.store, "app", &["four"]);
    end_next(&f, &Outcome::Complete);
    assert_eq!(waiting(&f, "hook"), ["four complete"]);
    assert_eq!(waiting(&f, "mail"), ["four complete"]);
    outbox.set_targets(&[]).unwrap();
    assert_eq!(outbox.prune().unwrap(), 2);
}

#[test]
fn a_refusal_allows_the_next_attempt_at_once() {
    let f = fixture();
    let outbox = f.store.outbox();
    outbox.set_targets(&["mail"]).unwrap();
    record(&f.store, "app", &["one"]);
    end_next(&f, &Outcome::Complete);
    let seq = ended(&f, "mail")[0].seq;
    assert!(outbox.failed("mail", "away", Millis(9)).unwrap());
    assert!(outbox.refused("mail", seq, "no such user").unwrap());
    assert!(!outbox.refused("mail", seq, "again").unwrap());
    let mail = outbox.target("mail").unwrap().unwrap();
    assert_eq!((mail.waiting, mail.failures, mail.given_up), (0, 2, 1));
    assert_eq!(
        (mail.next_attempt_ms, mail.problem.as_deref()),
        (None, Some("no such user"))
    );
}

#[test]
fn retention_leaves_the_runs_of_the_outbox_alone() {
    let f = fixture();
    f.store.outbox().set_targets(&["hook"]).unwrap();
    record(&f.store, "app", &["main"]);
    let run = end_next(&f, &failed());
    let remove = || {
        let files = RemovedFiles {
            logs: true,
            artifacts: true,
        };
        f.store.retention().mark_removed(&[run], files).unwrap()
    };
    assert!(remove().is_empty());
    let seq = ended(&f, "hook")[0].seq;
    f.store.outbox().skipped("hook", seq).unwrap();
    f.store.outbox().prune().unwrap();
    assert_eq!(remove(), [run]);
    // With its repository, a run leaves the outbox as well.
    record(&f.store, "app", &["other"]);
    end_next(&f, &failed());
    f.store.repos().forget(&repo("app")).unwrap();
    assert_eq!(waiting(&f, "hook"), Vec::<String>::new());
}

#[test]
fn failures_in_a_row_are_those_of_one_ref_and_source() {
    let f = fixture();
    f.store.outbox().set_targets(&["hook"]).unwrap();
    let outcome = |name: &str, source: &str, outcome: Outcome| {
        let (event, mut runs) = push("app", &[name]);
        runs[0].source = source.to_owned();
        record_event(&f.store, &event, &runs);
        f.clock.fetch_add(1000, Ordering::Relaxed);
        end_next(&f, &outcome);
        let streak = ended(&f, "hook").last().unwrap().streak;
        let ago = streak
            .last_ended
            .map(|at| Millis(f.clock.load(Ordering::Relaxed)).since(at));
        (streak.failures, ago)
    };
    let (pushed, nightly) = ("quire/push", "quire/cron/nightly");
    assert_eq!(outcome("main", pushed, failed()), (0, None));
    assert_eq!(outcome("main", pushed, failed()), (1, Some(1000)));
    assert_eq!(outcome("main", nightly, failed()), (0, None));
    assert_eq!(outcome("other", pushed, failed()), (0, None));
    assert_eq!(
        outcome("main", pushed, Outcome::Superseded),
        (2, Some(3000))
    );
    assert_eq!(outcome("main", pushed, Outcome::Complete), (2, Some(4000)));
    assert_eq!(outcome("main", pushed, Outcome::Complete), (0, None));
    assert_eq!(outcome("main", nightly, failed()), (1, Some(5000)));
    // An orphaned run that goes on as another one is no failure.
    record(&f.store, "app", &["main"]);
    let (run, decide) = (claimed(&f.store), supersede::superseded_runs);
    f.store
        .runs()
        .orphan(run, STOPPED_WITH_QUIRE, true, decide)
        .unwrap();
    end_next(&f, &Outcome::Complete);
    let last = ended(&f, "hook").pop().unwrap();
    assert_eq!(last.streak, FailureStreak::default());
}

#[test]
fn a_run_of_a_schedule_has_the_ends_of_three_days_before_it() {
    const HOUR: i64 = 3_600_000;
    let f = fixture();
    f.store.outbox().set_targets(&["hook"]).unwrap();
    let mut ends = Vec::new();
    for (source, outcome) in [
        ("quire/cron/nightly", failed()),
        ("quire/cron/nightly", Outcome::Complete),
        ("quire/cron/other", failed()),
        ("quire/cron/nightly", Outcome::Superseded),
        ("quire/cron/nightly", failed()),
        ("quire/push", failed()),
        ("quire/cron/nightly", Outcome::Complete),
    ] {
        let (event, mut runs) = push("app", &["main"]);
        runs[0].source = source.to_owned();
        record_event(&f.store, &event, &runs);
        f.clock.fetch_add(15 * HOUR, Ordering::Relaxed);
        end_next(&f, &outcome);
        let last = ended(&f, "hook").pop().unwrap();
        let now = f.clock.load(Ordering::Relaxed);
        let ago = |end: &RecentEnd| (end.failed, Millis(now).since(end.at) / 3_600_000);
        ends.push(last.recent.iter().map(ago).collect::<Vec<_>>());
    }
    assert_eq!(
        ends,
        [
            vec![],
            vec![(true, 15)],
            vec![],
            vec![(false, 30), (true, 45)],
            vec![(false, 45), (true, 60)],
            vec![],
            vec![(true, 30)],
        ]
    );
}

#[test]
fn refs_that_are_pushed_are_in_the_outbox_in_their_order() {
    let f = fixture();
    f.store.outbox().set_targets(&["hook"]).unwrap();
    let pushed = || -> Vec<String> {
        let entries = f.store.outbox().next("hook", 100).unwrap();
        let line = |entry: &OutboxEntry| match entry {
            OutboxEntry::Ended(ended) => format!("run of {}", ended.run.ref_name.short()),
            OutboxEntry::Pushed(pushed) => {
                format!("{} {}", pushed.position, pushed.ref_name)
            }
            OutboxEntry::Reported { report, .. } => format!("{} {}", report.part, report.phase),
        };
        let lines = entries.iter().map(line).collect();
        let last = entries.last().map_or(0, OutboxEntry::seq);
        f.store.outbox().skipped("hook", last).unwrap();
        lines
    };
    record(&f.store, "app", &["main", "side"]);
    end_next(&f, &Outcome::Complete);
    assert_eq!(
        pushed(),
        ["0 refs/heads/main", "1 refs/heads/side", "run of main"]
    );
    let update = push("app", &["x"]).0.refs.remove(0);
    let with = |names: &[&str], event_type, options: &[&str]| {
        let (mut event, _) = push("app", &["x"]);
        event.event_type = event_type;
        event.options = options.iter().map(|&option| option.to_owned()).collect();
        event.refs = names
            .iter()
            .map(|name| RefUpdate {
                ref_name: name.parse().unwrap(),
                ..update.clone()
            })
            .collect();
        record_event(&f.store, &event, &[]);
        // A push that is recorded twice is told once.
        record_event(&f.store, &event, &[]);
        pushed()
    };
    let tags = ["refs/tags/a", "refs/tags/b", "refs/tags/c", "refs/heads/m"];
    assert_eq!(with(&tags, EventType::Push, &["ci.skip"]).len(), 4);
    // Of many tags at once none is told, and neither are other refs.
    let more = [&tags[..], &["refs/tags/d", "refs/notes/ci"]].concat();
    assert_eq!(with(&more, EventType::Push, &[]), ["3 refs/heads/m"]);
    // What a comparison of refs found is told, but not what it took as it stands.
    let found = ["refs/heads/found"];
    assert_eq!(
        with(&found, EventType::Reconcile, &[]),
        ["0 refs/heads/found"]
    );
    let taken = ["refs/heads/taken"];
    assert_eq!(
        with(&taken, EventType::Reconcile, &["ci.skip"]),
        Vec::<String>::new()
    );
    // The event of what was found comes later.
    assert_eq!(with(&found, EventType::Push, &[]), Vec::<String>::new());
}
