//! From a push to its run: green, red, broken, in both languages, and what the pusher may say.

use std::fs;

use quire_testkit::{TestForge, wait_for};
use quire_types::run::{FailureKind, JobState, RunState, Trigger};

use super::{GREEN, gate, one};
use crate::QUIRE;

#[test]
fn a_push_becomes_a_green_run_that_everybody_can_read() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("group/app", GREEN);
    let reply = tree.push(&["main"]);
    assert!(
        reply.contains("quire: created repository group/app"),
        "{reply}"
    );
    let run = forge.newest("group/app");
    let url = format!("http://localhost:{}/runs/{}", forge.port, run.id);
    assert!(
        reply.contains(&format!("remote: quire: run {} queued  {url}", run.name())),
        "{reply}"
    );

    // The rows.
    let run = forge.end_of(run.id);
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    assert_eq!(run.failure_kind, None, "{run:?}");
    assert_eq!(run.trigger, Trigger::Push, "{run:?}");
    assert_eq!(
        (run.ref_name.as_str(), run.pusher.as_deref()),
        ("refs/heads/main", Some("laptop"))
    );
    assert_eq!(run.sha.as_str(), tree.git_ok(&["rev-parse", "HEAD"]));
    assert!(
        run.previous_sha.is_none()
            && run.started_at_ms >= Some(run.queued_at_ms)
            && run.finished_at_ms >= run.started_at_ms
    );
    let (jobs, steps) = (forge.jobs(run.id), forge.steps(run.id));
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].job_id.as_str(), "test");
    assert_eq!(jobs[0].state, JobState::Complete);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].seq, 1);
    assert_eq!(steps[0].command.as_str(), "echo all is well");
    assert_eq!(steps[0].exit_code, Some(0));

    // The files.
    let log = fs::read_to_string(forge.run_folder(&run).join("jobs/test/1.log")).unwrap();
    assert!(
        log.ends_with(" stdout F all is well\n") && log.lines().count() == 1,
        "{log}"
    );
    assert!(
        fs::read_to_string(forge.run_folder(&run).join("run.log"))
            .unwrap()
            .contains("without isolation")
    );
    assert!(forge.spooled().is_empty());

    // The command line, the page, the stream.
    let printed = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(printed.contains("all is well\n"), "{printed}");
    let shown: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok(&format!("run show {} --json", run.id))).unwrap();
    assert_eq!(shown["run"]["state"], "complete");
    let page = forge.get(&format!("/runs/{}", run.id));
    assert!(
        page.status == 200 && page.body.contains("all is well") && page.body.contains("complete"),
        "{page:?}"
    );
    assert!(forge.get("/").body.contains("group/app"));
    let events = forge.events(&format!("/runs/{}/events", run.id));
    assert!(
        events
            .iter()
            .any(|(name, data)| name == "log" && data.contains("all is well")),
        "{events:?}"
    );
    forge.check_whole();
}

#[test]
fn a_follower_sees_a_run_from_its_first_line_to_its_end() {
    let forge = TestForge::start(QUIRE);
    let folder = forge.file("gate");
    let tree = forge.tree_with("app", &one(&format!("echo begun; {}", gate(&folder))));
    tree.push(&["main"]);
    let run = forge.newest("app");
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| forge.events(&format!("/runs/{}/events", run.id)));
        let follower = scope.spawn(|| forge.ssh(&format!("run logs --follow {}", run.id)));
        wait_for("the stream to be open", || {
            forge
                .get("/metrics")
                .body
                .lines()
                .any(|line| line.starts_with("quire_sse_clients") && line.ends_with(" 1"))
                .then_some(())
        });
        fs::write(folder.join("go"), "").unwrap();
        let events = stream.join().unwrap();
        let lines: String = events
            .iter()
            .filter(|(name, _)| name == "log")
            .map(|(_, data)| data.as_str())
            .collect();
        assert!(
            lines.matches("begun").count() == 1 && lines.matches("through").count() == 1,
            "{events:?}"
        );
        let output = follower.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("begun\nthrough\n"),
            "{text}"
        );
    });
}

#[test]
fn a_job_that_fails_says_which_command_and_where() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push]
  (fn [{: sh}]
    (sh "echo to be seen; exit 3")
    (sh "echo never")))
(ci.job :after [:test] (fn [{: sh}] (sh "echo never")))
"#,
    );
    tree.push_new("red");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::Job))
    );
    let message = run.message.clone().unwrap();
    assert!(
        message.contains("`test`") && message.contains("ci.fnl:4") && message.contains('3'),
        "{message}"
    );
    let states: Vec<_> = forge
        .jobs(run.id)
        .iter()
        .map(|job| (job.job_id.to_string(), job.state, job.exit_code))
        .collect();
    assert_eq!(
        states,
        [
            ("test".to_owned(), JobState::Failed, Some(3)),
            ("after".to_owned(), JobState::Skipped, None)
        ]
    );
    assert_eq!(forge.steps(run.id).len(), 1);
    let output = forge.ssh(&format!("run wait {}", run.id));
    assert_eq!(output.status.code(), Some(1));
    let page = forge.get(&format!("/runs/{}", run.id)).body;
    assert!(
        page.contains("to be seen") && page.contains("ci.fnl:4"),
        "{page}"
    );
    assert!(
        forge
            .ssh_ok(&format!("run logs {}", run.id))
            .contains("to be seen")
    );
    forge.check_whole();
}

#[test]
fn a_broken_pipeline_is_a_failed_run_with_its_place() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    for (pipeline, line) in [
        (
            r#"(local ci (require :quire.ci))

(ci.job :test [:quire/push] (fn [{: sh}] (sh "true"))"#,
            3,
        ),
        (
            "(local ci (require :quire.ci))\n(ci.job :a [:b] (fn []))\n(ci.job :b [:a] (fn []))\n",
            2,
        ),
        (
            "(local ci (require :quire.ci))\n\n\n(error \"on purpose\")\n",
            4,
        ),
    ] {
        tree.write(".quire/ci.fnl", pipeline);
        tree.push_new("broken");
        let run = forge.end_of(forge.newest("app").id);
        assert_eq!(
            (run.state, run.failure_kind),
            (RunState::Failed, Some(FailureKind::Pipeline)),
            "{run:?}"
        );
        let place = format!(".quire/ci.fnl:{line}");
        let message = run.message.clone().unwrap();
        assert!(message.contains(&place), "{message}");
        assert!(
            forge
                .ssh_ok(&format!("run logs {}", run.id))
                .contains(&place)
        );
        assert!(
            fs::read_to_string(forge.run_folder(&run).join("run.log"))
                .unwrap()
                .contains(&place)
        );
        assert!(
            forge
                .get(&format!("/runs/{}", run.id))
                .body
                .contains(&place)
        );
    }
    // Both files at once, and one that is no text.
    tree.write(".quire/ci.fnl", GREEN);
    tree.write(".quire/ci.lua", "local ci = require 'quire.ci'\n");
    tree.push_new("two");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.failure_kind, Some(FailureKind::Pipeline));
    assert!(run.message.unwrap().contains("there are two pipelines"));
    fs::remove_file(tree.path.join(".quire/ci.lua")).unwrap();
    fs::write(tree.path.join(".quire/ci.fnl"), [0xff, 0, 0xfe]).unwrap();
    tree.push_new("no text");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.failure_kind, Some(FailureKind::Pipeline), "{run:?}");
    forge.check_whole();
}

#[test]
fn lua_does_the_same_and_a_commit_without_pipeline_makes_no_run() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write("README", "nothing to run");
    let commit = tree.commit("no pipeline");
    let reply = tree.push(&["main"]);
    assert!(!reply.contains("run"), "{reply}");
    assert!(forge.runs().is_empty() && forge.spooled().is_empty());
    assert_eq!(
        forge
            .store()
            .seen_refs()
            .list(&"app".parse().unwrap())
            .unwrap()[0]
            .sha
            .as_str(),
        commit
    );

    tree.write(
        ".quire/ci.lua",
        "local ci = require 'quire.ci'\nci.job('test', {'quire/push'}, function(t) t.sh('echo of lua') t.log(t.jobs('quire/push').branch) end)\n",
    );
    tree.push_new("lua");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(
        log.contains("of lua") && log.contains("test: main"),
        "{log}"
    );
    assert_eq!(run.previous_sha.unwrap().as_str(), commit);
}

#[test]
fn push_options_and_words_in_the_message() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.job :base [:quire/push] (fn [{: sh}] (sh "echo base")))
(ci.job :wanted [:base] (fn [{: sh}] (sh "echo wanted")))
(ci.job :other [:quire/push] (fn [{: sh}] (sh "exit 1")))
"#,
    );
    tree.commit("first");
    let reply = tree.push(&["-o", "ci.skip", "main"]);
    assert!(!reply.contains("queued"), "{reply}");
    assert!(forge.runs().is_empty());

    tree.commit("nothing to see [skip ci]");
    let reply = tree.push(&["main"]);
    assert!(
        reply.contains("quire: main: the commit message says [skip ci]"),
        "{reply}"
    );
    assert!(forge.runs().is_empty());

    // One job with its ancestors; the pusher waits for it and reads its log and outcome.
    tree.commit("second");
    let reply = tree.push(&["-o", "ci.job=wanted", "-o", "ci.wait", "main"]);
    let run = forge.newest("app");
    assert_eq!(
        (run.state, run.only_job.as_deref()),
        (RunState::Complete, Some("wanted")),
        "{run:?}"
    );
    let jobs: Vec<String> = forge
        .jobs(run.id)
        .iter()
        .map(|job| job.job_id.to_string())
        .collect();
    assert_eq!(jobs, ["base", "wanted"]);
    assert!(
        reply.contains("remote: base")
            && reply.contains("remote: wanted")
            && reply.contains("complete"),
        "{reply}"
    );

    // A job that is not there, and options that are not known.
    tree.commit("third");
    let reply = tree.push(&[
        "-o",
        "ci.job=wnated",
        "-o",
        "ci.wiat",
        "-o",
        "topic=x",
        "main",
    ]);
    assert!(
        reply.contains("push option `ci.wiat` is not known") && !reply.contains("topic"),
        "{reply}"
    );
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.failure_kind, Some(FailureKind::Pipeline));
    assert!(
        run.message.as_deref().unwrap().contains("wnated"),
        "{run:?}"
    );
    forge.check_whole();
}
