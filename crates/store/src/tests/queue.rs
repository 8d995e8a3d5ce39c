//! What is claimed and what supersedes.

use super::*;
use quire_pipeline::Group;

#[test]
fn a_newer_push_supersedes_and_waits_for_the_active_run() {
    let f = fixture();
    let first = record(&f.store, "app", &["main"])[0];
    assert_eq!(claimed(&f.store), first);
    let second = record(&f.store, "app", &["main"])[0];
    let third = record(&f.store, "app", &["main"])[0];
    let state = |id| f.store.runs().get(id).unwrap().unwrap();
    assert_eq!(state(second).state, RunState::Superseded);
    assert_eq!(state(second).superseded_by, Some(third));
    assert_eq!(
        (state(first).state, state(first).stop_requested),
        (RunState::Active, Some(StopReason::Superseded))
    );
    assert_eq!(
        f.store.queue().claim_next(&ExecutorName::HOST).unwrap(),
        None,
        "the ref has an active run"
    );
    f.store.runs().finish(first, &Outcome::Superseded).unwrap();
    assert_eq!(claimed(&f.store), third);
}

/// A push of one branch whose pipeline may name a group.
fn record_with_unknown_group(f: &Fixture, name: &str) -> Run {
    let (event, mut runs) = push("app", &[name]);
    runs[0].group_unknown = true;
    let id = record_event(&f.store, &event, &runs).runs[0].0;
    f.store.runs().get(id).unwrap().unwrap()
}

fn set_group(f: &Fixture, run: &Run, group: Option<(&str, bool)>) {
    let group = group.map(|(name, supersede)| Group {
        name: name.into(),
        supersede,
    });
    f.store
        .queue()
        .set_group(run, group.as_ref(), supersede::superseded_runs)
        .unwrap();
}

#[test]
fn a_run_of_unknown_group_is_not_claimed_or_superseded() {
    let f = fixture();
    let state = |run: &Run| f.store.runs().get(run.id).unwrap().unwrap().state;
    let (first, second) = (
        record_with_unknown_group(&f, "main"),
        record_with_unknown_group(&f, "main"),
    );
    let grouped = record_with_unknown_group(&f, "deploy");
    set_group(&f, &grouped, Some(("g", false)));
    let free = record(&f.store, "app", &["free"])[0];
    assert_eq!(
        (state(&first), state(&second)),
        (RunState::Pending, RunState::Pending)
    );
    // `grouped` may have to wait for the other two; the one without group on another ref need not.
    assert_eq!((claim(&f), claim(&f)), (Some(free), None));
    set_group(&f, &second, None);
    assert_eq!(claim(&f), None, "an earlier run of its ref is not examined");
    set_group(&f, &first, None);
    assert_eq!(
        (state(&first), state(&second)),
        (RunState::Superseded, RunState::Pending)
    );
    assert_eq!((claim(&f), claim(&f)), (Some(second.id), Some(grouped.id)));
    set_group(&f, &second, Some(("late", true)));
    assert_eq!(
        f.store.runs().get(second.id).unwrap().unwrap().group_name,
        None,
        "it was examined before"
    );
}

#[test]
fn runs_of_a_group_are_claimed_in_order_also_after_a_crash() {
    let f = fixture();
    let runs: Vec<Run> = (0..4)
        .map(|n| record_with_unknown_group(&f, &format!("b{n}")))
        .collect();
    // The clock is set back: the order is that of their entering all the same.
    f.clock.fetch_sub(7_200_000, Ordering::SeqCst);
    let late = record_with_unknown_group(&f, "b4");
    for run in runs.iter().chain([&late]).rev() {
        set_group(&f, run, Some(("deploy", false)));
    }
    assert_eq!((claim(&f), claim(&f)), (Some(runs[0].id), None));
    let others = record(&f.store, "other", &["main"])[0];
    f.store
        .queue()
        .set_block_reasons(Some("waits for a place"))
        .unwrap();
    let waits = |id| f.store.runs().get(id).unwrap().unwrap().message;
    assert_eq!(
        waits(others).as_deref(),
        Some("waits for a place"),
        "of another repository"
    );
    f.store.queue().set_block_reasons(None).unwrap();
    assert_eq!(waits(others), None);
    f.store.runs().request_cancel(others).unwrap();
    let message = f
        .store
        .runs()
        .get(runs[2].id)
        .unwrap()
        .unwrap()
        .message
        .unwrap();
    assert_eq!(
        message,
        format!("waits for run {} of the same group, deploy", runs[1].id)
    );
    // quire is killed: the run comes back in its own place, before those that waited for it.
    let again = f
        .store
        .runs()
        .orphan(runs[0].id, "gone", true, supersede::superseded_runs)
        .unwrap()
        .unwrap();
    assert_eq!((claim(&f), claim(&f)), (Some(again), None));
    f.store.runs().finish(again, &Outcome::Complete).unwrap();
    assert!(f.store.runs().request_cancel(runs[1].id).unwrap());
    for run in [&runs[2], &runs[3], &late] {
        assert_eq!((claim(&f), claim(&f)), (Some(run.id), None));
        assert_eq!(f.store.runs().get(run.id).unwrap().unwrap().message, None);
        f.store.runs().finish(run.id, &Outcome::Complete).unwrap();
    }
    assert!(!f.store.queue().has_claimable().unwrap());
}

#[test]
fn a_superseding_group_keeps_its_newest_push_only() {
    let f = fixture();
    let runs: Vec<Run> = (0..3)
        .map(|n| record_with_unknown_group(&f, &format!("b{n}")))
        .collect();
    set_group(&f, &runs[0], Some(("deploy", true)));
    assert_eq!(claim(&f), Some(runs[0].id));
    set_group(&f, &runs[2], Some(("deploy", true)));
    let row = |run: &Run| f.store.runs().get(run.id).unwrap().unwrap();
    assert_eq!(
        (row(&runs[0]).stop_requested, row(&runs[0]).superseded_by),
        (Some(StopReason::Superseded), Some(runs[2].id))
    );
    set_group(&f, &runs[1], Some(("deploy", true)));
    assert_eq!(
        (row(&runs[1]).state, row(&runs[1]).superseded_by),
        (RunState::Superseded, Some(runs[2].id))
    );
    f.store
        .runs()
        .finish(runs[0].id, &Outcome::Superseded)
        .unwrap();
    assert_eq!(claim(&f), Some(runs[2].id));
}

#[test]
fn manual_and_scheduled_runs_neither_supersede_nor_are_superseded() {
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
        f.store
            .queue()
            .enqueue(&run, supersede::superseded_runs)
            .unwrap()
    };
    let (manual, cron) = (
        start(Trigger::Manual, "quire/manual"),
        start(Trigger::Cron, "quire/cron/nightly"),
    );
    let newer = record(&f.store, "app", &["main"])[0];
    let state = |id| f.store.runs().get(id).unwrap().unwrap().state;
    assert_eq!(
        (state(pushed), state(manual), state(cron)),
        (RunState::Superseded, RunState::Pending, RunState::Pending)
    );
    // One at a time, in their order.
    for id in [manual, cron, newer] {
        assert_eq!((claim(&f), claim(&f)), (Some(id), None));
        f.store.runs().finish(id, &Outcome::Complete).unwrap();
    }
}
