//! Killed while the group of a run is found out, and as a schedule comes due.

use std::os::unix::process::ExitStatusExt;

use quire_testkit::{TestForge, wait_for};
use quire_types::run::{RunState, Trigger};

use crate::QUIRE;

fn killed(forge: &mut TestForge) {
    let status = forge.ended();
    assert_eq!(status.signal(), Some(9), "{status}: {}", forge.log());
}

#[test]
fn while_the_group_of_a_run_is_found_out() {
    let mut forge = TestForge::new(QUIRE);
    forge.kill_once_at("runner-before-examined").serve();
    let order = forge.file("order");
    let pipeline = format!(
        r#"(local ci (require :quire.ci))
(ci.group :deploy {{:supersede false}})
(ci.job :go [:quire/push] (fn [{{: sh}}] (sh "echo $QUIRE_BRANCH >> {}")))
"#,
        order.display()
    );
    let tree = forge.tree_with("app", &pipeline);
    tree.push(&["main"]);
    killed(&mut forge);
    // Pushed while the server is away: it waits behind the one whose group is still unknown.
    tree.push(&["main:second"]);
    assert!(
        forge
            .runs()
            .iter()
            .all(|run| run.group_unknown && run.state == RunState::Pending)
    );
    forge.serve();
    wait_for("both runs", || (forge.runs().len() == 2).then_some(()));
    forge.wait_for_quiet();
    let runs = forge.runs();
    assert!(
        runs.iter()
            .all(|run| run.state == RunState::Complete
                && run.group_name.as_deref() == Some("deploy")),
        "{runs:?}"
    );
    assert_eq!(std::fs::read_to_string(&order).unwrap(), "main\nsecond\n");
    forge.check_whole();
}

#[test]
fn as_a_schedule_comes_due() {
    for point in ["schedule-before-fire", "schedule-fired"] {
        let mut forge = TestForge::start(QUIRE);
        let tree = forge.tree_with(
            "app",
            r#"(local ci (require :quire.ci))
(ci.cron :tidy "17 3 * * *")
(ci.job :go [:quire/cron/tidy] (fn [{: sh}] (sh "echo tidy")))
(ci.job :push [:quire/push] (fn [{: sh}] (sh "true")))
"#,
        );
        tree.push(&["main"]);
        wait_for("the schedule", || {
            (!forge.store().schedules().list(None).unwrap().is_empty()).then_some(())
        });
        forge.wait_for_quiet();
        assert!(forge.stop().success());
        let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
        assert_eq!(
            database
                .execute("UPDATE schedules SET next_at_ms = 1700000000000", [])
                .unwrap(),
            1
        );
        drop(database);
        forge.kill_once_at(point).spawn();
        killed(&mut forge);
        forge.serve();
        let cron = || {
            forge
                .runs()
                .into_iter()
                .filter(|run| run.trigger == Trigger::Cron)
                .collect::<Vec<_>>()
        };
        wait_for("its run", || cron().pop());
        // Read again, and looked at again whether it is due.
        tree.push_new("next");
        forge.wait_for_quiet();
        let runs = cron();
        // A run that was active when the server was killed is queued again, as any other.
        let complete = runs
            .iter()
            .filter(|run| run.state == RunState::Complete)
            .count();
        assert_eq!((runs.len(), complete), (1, 1), "{point}: {runs:?}");
        forge.check_whole();
    }
}

#[test]
fn while_artifacts_are_brought_to_a_repeated_run() {
    let mut forge = TestForge::start(QUIRE);
    let fixed = forge.file("fixed");
    let tree = forge.tree_with(
        "app",
        &format!(
            r#"(local ci (require :quire.ci))
(ci.job :build [:quire/push] (fn [{{: sh : artifact}}] (sh "echo built >app") (artifact "app")))
(ci.job :test [:build] (fn [{{: sh}}] (sh "test -e {}")))
"#,
            fixed.display()
        ),
    );
    tree.push(&["main"]);
    let first = forge.end_of(forge.newest("app").id);
    std::fs::write(&fixed, "").unwrap();
    assert!(forge.stop().success());
    forge.kill_once_at("runner-artifacts-brought").serve();
    forge.ssh_ok(&format!("run retry --failed {}", first.id));
    killed(&mut forge);
    // Its files are there and nobody is shown them.
    let cut = forge.newest("app");
    assert!(
        forge
            .paths
            .run_artifacts(&cut.repo, cut.id)
            .join("app")
            .exists()
    );
    assert!(forge.store().artifacts().list(cut.id).unwrap().is_empty());
    forge.serve();
    wait_for("its second try", || (forge.runs().len() == 3).then_some(()));
    forge.wait_for_quiet();
    let last = forge.newest("app");
    assert_eq!(last.state, RunState::Complete, "{last:?}");
    assert_eq!(last.trigger, Trigger::Orphan, "{last:?}");
    assert_eq!(last.retry_of, Some(cut.id), "{last:?}");
    assert_eq!(
        forge.ssh_ok(&format!("run artifacts get {}", last.id)),
        "built\n"
    );
    forge.check_whole();
}
