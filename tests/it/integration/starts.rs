//! Runs that no push made: by hand, by a schedule, again for what failed; and the groups that runs wait in.

use std::fs;

use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::run::{FailureKind, JobState, RunState, StopReason, Trigger};

use super::gate;
use crate::QUIRE;

#[test]
fn a_run_by_hand_gets_its_parameters() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write("README", "no pipeline yet");
    tree.push_new("first");
    for (command, code, words) in [
        ("run start ap", 3, "did you mean `app`"),
        ("run start app --branch nope", 3, "has no refs/heads/nope"),
        ("run start app", 1, "has no pipeline"),
        ("run start app --param x", 2, "NAME=VALUE"),
        ("run start app --param x=1 --param x=2", 2, "given twice"),
        ("run start app --param '9=1'", 2, "a name has"),
    ] {
        let output = forge.ssh(command);
        assert!(
            output.status.code() == Some(code) && transcript(&output).contains(words),
            "{command}: {}",
            transcript(&output)
        );
    }
    // Without a job that people start: refused in a sentence that says what there is, at once.
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.job :pushed [:quire/push] (fn [{: sh}] (sh "true")))
"#,
    );
    tree.push_new("no job by hand");
    forge.wait_for_quiet();
    let refused = forge.ssh("run start app");
    let words = "no job of the pipeline waits for `quire/manual`: its jobs wait for `quire/push`";
    assert!(
        refused.status.code() == Some(1) && transcript(&refused).contains(words),
        "{}",
        transcript(&refused)
    );
    assert!(
        transcript(&refused).contains(&format!("run {}", forge.newest("app").name()))
            && transcript(&refused).contains(":quire/manual among")
    );
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.job :pushed [:quire/push] (fn [{: sh}] (sh "echo pushed")))
(ci.job :deploy [:quire/manual]
  (fn [{: sh : jobs}] (let [m (jobs :quire/manual)] (sh ["echo" m.params.to (. m :started-by) m.branch m.message (. m :started-at)]))))
(ci.job :other [:quire/manual] (fn [{: sh}] (sh "echo other")))
"#,
    );
    tree.push_new("second");
    forge.wait_for_quiet();
    forge.ssh_ok("run start app --param 'to=the moon' --param b=x=y --job deploy");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    assert_eq!(run.trigger, Trigger::Manual, "{run:?}");
    assert_eq!(run.source.as_str(), "quire/manual", "{run:?}");
    assert_eq!(run.params.as_ref().unwrap()["b"], "x=y");
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(
        log.contains("the moon laptop main second") && log.contains(&run.pushed_at_ms.to_string()),
        "{log}"
    );
    assert_eq!(
        forge.jobs(run.id).len(),
        1,
        "only the job that was asked for"
    );
    let shown = forge.ssh_ok(&format!("run show {}", run.id));
    assert!(
        shown.contains("to=the moon") && shown.contains("quire/manual"),
        "{shown}"
    );
    // Of a tag, whose name is a full one.
    tree.git_ok(&["tag", "v1"]);
    tree.push(&["v1"]);
    forge.ssh_ok("run start app --ref refs/tags/v1 --job other --rebuild");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!((run.state, run.rebuild), (RunState::Complete, true));
    let shown = forge.ssh_ok(&format!("run show {}", run.id));
    assert!(
        shown.contains("images are pulled and built afresh"),
        "{shown}"
    );
    forge.check_whole();
}

#[test]
fn a_retry_of_what_failed_runs_only_that() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let (counted, fixed) = (forge.file("counted"), forge.file("fixed"));
    tree.write(
        ".quire/ci.fnl",
        &format!(
            r#"(local ci (require :quire.ci))
(ci.job :build [:quire/push] (fn [{{: sh}}] (sh "echo x >> {counted}") {{:version "1.2"}}))
(ci.job :test [:build] (fn [{{: sh : jobs}}] (sh (.. "echo testing " (. (jobs :build) :version) "; test -e {fixed}"))))
(ci.job :ship [:test :build] (fn [{{: sh : jobs}}] (sh ["echo" "shipping" (. (jobs :build) :version)])))
"#,
            counted = counted.display(),
            fixed = fixed.display()
        ),
    );
    tree.push_new("first");
    let first = forge.end_of(forge.newest("app").id);
    assert_eq!(first.failure_kind, Some(FailureKind::Job), "{first:?}");
    forge.ssh_ok(&format!("run retry --failed {}", first.id));
    let second = forge.end_of(forge.newest("app").id);
    assert_eq!(second.state, RunState::Failed);
    assert_eq!(second.retry_of, Some(first.id));
    assert!(second.only_failed);
    fs::write(&fixed, "").unwrap();
    forge.ssh_ok(&format!("run retry --failed {}", second.id));
    let third = forge.end_of(forge.newest("app").id);
    assert_eq!(third.state, RunState::Complete, "{third:?}");
    assert_eq!(
        fs::read_to_string(&counted).unwrap(),
        "x\n",
        "built once for three runs"
    );
    let jobs = forge.jobs(third.id);
    let names: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(names, ["build", "test", "ship"]);
    assert!(jobs.iter().all(|job| job.state == JobState::Complete));
    assert_eq!(
        (jobs[0].reused_from, jobs[1].reused_from),
        (Some(first.id), None),
        "the run that really ran it"
    );
    let log = forge.ssh_ok(&format!("run logs {}", third.id));
    assert!(
        log.contains("testing 1.2") && log.contains("shipping 1.2"),
        "{log}"
    );
    assert!(
        forge
            .ssh_ok(&format!("run show {}", third.id))
            .contains(&format!("result of run {}", first.id))
    );
    assert!(
        forge
            .get(&format!("/runs/{}", third.id))
            .body
            .contains("result of")
    );
    let refused = forge.ssh(&format!("run retry --failed {}", third.id));
    assert!(
        refused.status.code() == Some(1)
            && transcript(&refused).contains("it has no failed jobs to retry"),
        "{}",
        transcript(&refused)
    );
    forge.check_whole();
}

#[test]
fn artifacts_come_with_reused_results_and_outlive_their_run() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), "{:keep {:runs 1}}").unwrap();
    forge.serve();
    let tree = forge.tree("app", "app");
    let fixed = forge.file("fixed");
    tree.write(
        ".quire/ci.fnl",
        &format!(
            r#"(local ci (require :quire.ci))
(ci.job :build [:quire/push] (fn [{{: sh : artifact}}]
  (sh "mkdir -p out/deep; echo built >out/deep/app; ln -s deep/app out/app; echo 1.2 >version")
  (artifact "out") (artifact "version")))
(ci.job :test [:build] (fn [{{: sh : artifact}}] (sh "echo tried >report") (artifact "report") (sh "test -e {}")))
"#,
            fixed.display()
        ),
    );
    tree.push_new("first");
    let first = forge.end_of(forge.newest("app").id);
    assert_eq!(first.failure_kind, Some(FailureKind::Job), "{first:?}");
    fs::write(&fixed, "").unwrap();
    forge.ssh_ok(&format!("run retry --failed {}", first.id));
    let second = forge.end_of(forge.newest("app").id);
    assert_eq!(second.state, RunState::Complete, "{second:?}");
    let listed = |run: &quire_types::run::Run| {
        let rows = forge.store().artifacts().list(run.id).unwrap();
        rows.into_iter()
            .map(|row| (row.name, row.job_id.to_string(), row.bytes))
            .collect::<Vec<_>>()
    };
    // What the job that failed had kept is the new one's own, under the same name.
    let expected = [
        ("out", "build", 6),
        ("report", "test", 6),
        ("version", "build", 4),
    ];
    let expected = expected.map(|(name, job, bytes)| (name.to_owned(), job.to_owned(), bytes));
    assert_eq!(listed(&second), expected);
    assert!(
        forge
            .get(&format!("/runs/{}", second.id))
            .body
            .contains("/artifacts/version")
    );
    forge.ssh_ok("gc");
    assert_eq!(
        forge.runs().iter().map(|run| run.id).collect::<Vec<_>>(),
        [second.id],
        "the first is gone"
    );
    assert!(!forge.paths.run_artifacts(&first.repo, first.id).exists());
    assert_eq!(listed(&second), expected);
    assert_eq!(
        forge.ssh_ok(&format!("run artifacts get {} version", second.id)),
        "1.2\n"
    );
    assert_eq!(
        fs::read_to_string(
            forge
                .paths
                .run_artifacts(&second.repo, second.id)
                .join("out/app")
        )
        .unwrap(),
        "built\n"
    );
    forge.check_whole();
}

#[test]
fn runs_of_a_group_go_one_by_one_in_order_through_kill_9() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "3").serve();
    let tree = forge.tree("app", "app");
    let (folder, order) = (forge.file("gate"), forge.file("order"));
    let pipeline = |command: &str| {
        format!(
            "(local ci (require :quire.ci))\n(ci.group :deploy {{:supersede false}})\n(ci.job :go [:quire/push] (fn [{{: sh}}] (sh {command:?})))\n"
        )
    };
    let gated = format!(
        "{}; echo $QUIRE_BRANCH >> {}",
        gate(&folder),
        order.display()
    );
    tree.write(".quire/ci.fnl", &pipeline(&gated));
    tree.push_new("first");
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    for branch in ["b", "c", "d"] {
        tree.push(&[&format!("main:{branch}")]);
    }
    // Two pushes of one ref in a group that does not supersede: both run.
    tree.push_new("second");
    let runs = forge.runs();
    assert_eq!(runs.len(), 5, "{runs:?}");
    let waits = format!("waits for run {} of the same group, deploy", runs[1].id);
    wait_for("the reason", || {
        (forge.run(runs[2].id).message.as_deref() == Some(&waits)).then_some(())
    });
    assert_eq!(forge.run(runs[2].id).group_name.as_deref(), Some("deploy"));
    assert!(
        forge.runs()[1..]
            .iter()
            .all(|run| run.state == RunState::Pending)
    );
    forge.kill();
    fs::remove_file(folder.join("started")).unwrap();
    forge.serve();
    wait_for("the command again", || {
        folder.join("started").exists().then_some(())
    });
    fs::write(folder.join("go"), "").unwrap();
    forge.wait_for_quiet();
    // The one that was cut came back before those that had waited for it.
    assert_eq!(fs::read_to_string(&order).unwrap(), "main\nb\nc\nd\nmain\n");
    let complete = forge
        .runs()
        .iter()
        .filter(|run| run.state == RunState::Complete)
        .count();
    assert_eq!(complete, 5, "{:?}", forge.runs());
    forge.check_whole();
}

#[test]
fn a_group_that_supersedes_stops_the_active_run_of_another_ref() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let folder = forge.file("gate");
    let pipeline = |command: &str| {
        format!(
            "(local ci (require :quire.ci))\n(ci.group :deploy {{:supersede true}})\n(ci.job :go [:quire/push] (fn [{{: sh}}] (sh {command:?})))\n"
        )
    };
    tree.write(".quire/ci.fnl", &pipeline(&gate(&folder)));
    tree.push_new("first");
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    let first = forge.newest("app");
    tree.write(".quire/ci.fnl", &pipeline("echo second"));
    tree.commit("second");
    tree.push(&["main:other"]);
    let second = forge.newest("app");
    assert_eq!(forge.end_of(second.id).state, RunState::Complete);
    let first = forge.run(first.id);
    assert_eq!(first.state, RunState::Superseded);
    assert_eq!(first.superseded_by, Some(second.id));
    assert_eq!(first.stop_requested, Some(StopReason::Superseded));
    // A group that quire could not see is refused, not acted on by half.
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
((. ci (.. :gr :oup)) :deploy)
(ci.job :go [:quire/push] (fn [{: sh}] (sh "true")))
"#,
    );
    tree.push_new("third");
    let third = forge.end_of(forge.newest("app").id);
    assert_eq!(third.failure_kind, Some(FailureKind::Pipeline), "{third:?}");
    assert!(
        third
            .message
            .unwrap()
            .contains("write the word `group` in a file")
    );
    forge.check_whole();
}

#[test]
fn runs_of_other_repositories_do_not_wait_for_evaluations_that_take_long() {
    let forge = TestForge::start(QUIRE);
    let grouped = |rest: &str| {
        format!(
            "(local ci (require :quire.ci))\n(ci.group :deploy)\n(ci.job :go [:quire/push] (fn [{{: sh}}] (sh \"true\")))\n{rest}\n"
        )
    };
    let unknown = || {
        let runs = forge.runs();
        let of_slow = runs.iter().filter(|run| run.repo.as_str() == "slow");
        of_slow.filter(|run| run.group_unknown).count()
    };
    let slow = forge.tree("slow", "slow");
    for number in 0..4 {
        slow.write(
            ".quire/ci.fnl",
            &grouped(&format!("(while true (tostring {number}))")),
        );
        slow.commit(&format!("slow {number}"));
        slow.push(&[&format!("main:slow-{number}")]);
    }
    forge
        .tree_with("quick", &grouped("; quick"))
        .push(&["main"]);
    let run = forge.end_of(forge.newest("quick").id);
    assert_eq!(run.state, RunState::Complete, "{:?}", run.message);
    assert!(unknown() > 0, "{:?}", forge.runs());
}

/// Sets the time at which a schedule comes due next.
fn due_at(forge: &TestForge, millis: i64) {
    let connection = rusqlite::Connection::open(forge.paths.database()).unwrap();
    connection
        .busy_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    assert_eq!(
        connection
            .execute("UPDATE schedules SET next_at_ms = ?1", [millis])
            .unwrap(),
        1
    );
}

#[test]
fn a_schedule_that_was_missed_comes_due_once() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let pipeline = |extra: &str| {
        format!(
            r#"(local ci (require :quire.ci))
{extra}
(ci.job :test [:quire/push] (fn [{{: sh}}] (sh "echo pushed")))
(ci.job :tidy [:quire/cron/nightly]
  (fn [{{: sh : jobs}}] (let [c (jobs :quire/cron/nightly)] (sh ["echo" "tidying" c.name c.branch (. c :scheduled-at)]))))
"#
        )
    };
    tree.write(
        ".quire/ci.fnl",
        &pipeline(r#"(ci.cron :nightly "17 3 * * *")"#),
    );
    tree.push_new("first");
    let listed = wait_for("the schedule", || {
        Some(forge.ssh_ok("schedule list")).filter(|text| text.contains("nightly"))
    });
    assert!(listed.contains("17 3 * * *"), "{listed}");
    forge.wait_for_quiet();
    let cron_runs = |forge: &TestForge| {
        forge
            .runs()
            .into_iter()
            .filter(|run| run.trigger == Trigger::Cron)
            .collect::<Vec<_>>()
    };
    assert!(cron_runs(&forge).is_empty());

    // Down for a hundred nights.
    assert!(forge.stop().success());
    due_at(&forge, 1_700_000_000_000);
    forge.serve();
    let run = wait_for("its run", || cron_runs(&forge).pop());
    let run = forge.end_of(run.id);
    assert_eq!(
        (run.state, run.source.as_str()),
        (RunState::Complete, "quire/cron/nightly"),
        "{run:?}"
    );
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(
        log.contains("tidying nightly main 2023-11-14T22:13:20"),
        "{log}"
    );
    let next = forge.store().schedules().list(None).unwrap()[0].next_at_ms;
    let now = quire_types::clock::Clock::system().now();
    assert!(next > now && next.since(now) <= 25 * 3_600_000, "{next}");
    assert_eq!(cron_runs(&forge).len(), 1);

    // A time that a wrong clock reckoned is reckoned again; one that was only set back a little is not.
    due_at(&forge, now.plus(400 * 86_400_000).0);
    assert!(forge.stop().success());
    forge.serve();
    wait_for("the time to be corrected", || {
        (forge.store().schedules().list(None).unwrap()[0].next_at_ms == next).then_some(())
    });

    // A broken pipeline keeps the schedules that there were, and says so.
    tree.write(".quire/ci.fnl", "(cron");
    tree.push_new("broken");
    wait_for("the problem", || {
        forge.store().schedules().list(None).unwrap()[0]
            .problem
            .clone()
    });
    assert!(
        forge
            .ssh_ok("schedule list")
            .contains("from an older commit")
    );
    // Gone from the pipeline, gone from the list.
    tree.write(".quire/ci.fnl", super::GREEN);
    tree.push_new("gone");
    wait_for("it to be gone", || {
        forge
            .store()
            .schedules()
            .list(None)
            .unwrap()
            .is_empty()
            .then_some(())
    });
    assert_eq!(forge.ssh_ok("schedule list"), "no schedules\n");
    forge.wait_for_quiet();
    assert_eq!(cron_runs(&forge).len(), 1);
    forge.check_whole();
}
