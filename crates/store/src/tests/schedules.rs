//! Schedules.

use super::*;

#[test]
fn a_due_schedule_fires_once_and_is_deleted_with_its_repository() {
    let f = fixture();
    let (app, main, sha) = (repo("app"), branch("main"), "1".repeat(40).parse().unwrap());
    let set = |new: &[(&str, &str, i64)]| {
        let new: Vec<NewSchedule> = new
            .iter()
            .map(|(name, schedule, next_at)| NewSchedule {
                name: (*name).to_owned(),
                schedule: (*schedule).to_owned(),
                next_at: Millis(*next_at),
            })
            .collect();
        f.store
            .schedules()
            .replace(&app, &main, &sha, &new)
            .unwrap();
    };
    set(&[("a", "0 1 * * *", 100), ("b", "0 2 * * *", 200)]);
    // One that stays the same keeps its time, one that changed gets the new, one that is gone goes.
    set(&[("a", "0 1 * * *", 101), ("c", "0 3 * * *", 300)]);
    let listed = || {
        f.store
            .schedules()
            .list(None)
            .unwrap()
            .into_iter()
            .map(|row| (row.name, row.next_at_ms.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(), [("a".to_owned(), 100), ("c".to_owned(), 300)]);
    assert!(f.store.schedules().due(Millis(99)).unwrap().is_empty());
    let due = f.store.schedules().due(Millis(100)).unwrap().remove(0);
    let run = NewRun {
        trigger: Trigger::Cron,
        source: "quire/cron/a".into(),
        ..NewRun::of_push(
            app.clone(),
            main.clone(),
            "1".repeat(40).parse().unwrap(),
            Millis(100),
        )
    };
    assert!(
        f.store
            .schedules()
            .fire(&due, Millis(500), Some(&run), supersede::superseded_runs)
            .unwrap()
    );
    assert!(
        !f.store
            .schedules()
            .fire(&due, Millis(600), Some(&run), supersede::superseded_runs)
            .unwrap(),
        "it was moved on already"
    );
    let due = f
        .store
        .schedules()
        .due(Millis(500))
        .unwrap()
        .into_iter()
        .find(|row| row.name == "a")
        .unwrap();
    assert!(
        !f.store
            .schedules()
            .fire(&due, Millis(900), Some(&run), supersede::superseded_runs)
            .unwrap(),
        "its last run waits still"
    );
    assert_eq!(listed()[0].1, 900);
    assert_eq!(
        claim(&f).map(|run| f.store.runs().get(run).unwrap().unwrap().trigger),
        Some(Trigger::Cron)
    );
    f.store
        .schedules()
        .set_problem(&app, &main, &sha, "it is wrong")
        .unwrap();
    assert_eq!(
        f.store.schedules().list(Some(&app)).unwrap()[0]
            .problem
            .as_deref(),
        Some("it is wrong")
    );
    f.store
        .schedules()
        .forget_all_but(&[repo("other")], &["app"])
        .unwrap();
    assert!(!listed().is_empty(), "it cannot be looked at");
    f.store
        .schedules()
        .forget_all_but(&[repo("other")], &["ap", "app/x"])
        .unwrap();
    assert!(listed().is_empty());
    set(&[("a", "0 1 * * *", 100)]);
    f.store.repos().forget(&app).unwrap();
    assert!(listed().is_empty());
    assert_eq!(f.store.schedules().source(&app, &main).unwrap().read, None);
}
