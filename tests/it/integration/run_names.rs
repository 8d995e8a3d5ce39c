//! Names of runs: numbers, subjects and the state of a canceled run, in commands, pages and the reply to a push.

use quire_testkit::{TestForge, stderr, stdout, transcript, wait_for};
use quire_types::run::RunState;

use super::{GREEN, gate, one};
use crate::QUIRE;

#[test]
fn a_run_has_a_number_and_a_subject_everywhere() {
    let forge = TestForge::start(QUIRE);
    let tally = forge.tree_with("tally", GREEN);
    let first = tally.push(&["main"]);
    assert!(first.contains("quire: run tally#1 queued  http"), "{first}");
    tally.commit("Count twice\n\nThe rest.");
    let second = tally.push(&["main"]);
    assert!(
        second.contains("quire: run tally#2 queued  http"),
        "{second}"
    );
    assert!(second.contains("  Count twice"), "{second}");
    forge.wait_for_quiet();
    let app = forge.tree_with("app", GREEN);
    let pushed = app.push(&["main"]);
    assert!(pushed.contains("quire: run app#1 queued"), "{pushed}");
    forge.wait_for_quiet();

    let list = forge.ssh_ok("run list");
    let row = list.lines().find(|line| line.starts_with("tally#2 "));
    let row = row.unwrap_or_else(|| panic!("{list}"));
    assert!(
        row.contains("complete") && row.contains("Count twice"),
        "{row}"
    );
    let id = forge.newest("tally").id.to_string();
    for name in ["#2", "tally#2", "tally@main", "tally#latest", &id[20..]] {
        let shown = forge.ssh_ok(&format!("run show '{name}'"));
        assert!(
            shown.contains(&id) && shown.contains("tally#2"),
            "{name}: {shown}"
        );
    }
    assert!(forge.ssh_ok("run show latest").contains("app#1"));
    let ambiguous = forge.ssh("run show 1");
    assert_eq!(
        ambiguous.status.code(),
        Some(2),
        "{}",
        transcript(&ambiguous)
    );
    insta::assert_snapshot!(stderr(&ambiguous), @r"
    quire: `#1` names more than one run
    quire: use one of `app#1`, `tally#1`
    ");
    let json: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok("run show tally#2 --json")).unwrap();
    assert_eq!(json["run"]["number"], 2);
    assert_eq!(json["run"]["subject"], "Count twice");

    let page = forge.get(&format!("/runs/{id}")).body;
    assert!(
        page.contains("#2</span>") && page.contains("Count twice"),
        "{page}"
    );
    let named = forge.get("/tally/-/runs/2");
    assert_eq!(
        named.header("location"),
        Some(format!("/runs/{id}").as_str())
    );
    let repo = forge.get("/tally").body;
    assert!(
        repo.contains("#2</span>") && repo.contains("Count twice"),
        "{repo}"
    );
}

#[test]
fn a_canceled_run_is_canceled_in_words_and_colour() {
    let forge = TestForge::start(QUIRE);
    let place = forge.file("gate");
    let tree = forge.tree_with("app", &one(&gate(&place)));
    tree.push(&["main"]);
    wait_for("the start of the run", || {
        place.join("started").exists().then_some(())
    });
    let report = forge.ssh_ok("run cancel app#1");
    assert_eq!(report, "run app#1 asked to stop\n");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!((run.state, run.failure_kind), (RunState::Canceled, None));
    let list = forge.ssh_ok("run list --state canceled");
    assert!(list.contains("app#1") && !list.contains("failed"), "{list}");
    let page = forge.get(&format!("/runs/{}", run.id)).body;
    assert!(
        page.contains("s-canceled") && !page.contains("s-failed"),
        "{page}"
    );
    let waited = forge.ssh("run wait app#1");
    assert!(
        stderr(&waited).contains("run app#1 canceled after"),
        "{}",
        transcript(&waited)
    );
    assert!(forge.get("/metrics").body.contains("state=\"canceled\"} 1"));
}

#[test]
fn what_does_not_exist_is_an_error_with_a_list() {
    let forge = TestForge::start(QUIRE);
    forge.tree_with("tally", GREEN).push(&["main"]);
    forge.wait_for_quiet();
    let texts = [
        "run list --repo nosuch",
        "run list --repo taly",
        "run list --state green",
        "schedule list --repo nosuch",
        "cache list --repo nosuch",
        "cache clear nosuch",
        "run show green",
        "run show nosuch#1",
        "run lits",
        "runs list",
        "git gc",
        "scp -t /tmp",
    ]
    .map(|command| {
        let output = forge.ssh(command);
        assert!(
            stdout(&output).is_empty() && !output.status.success(),
            "{}",
            transcript(&output)
        );
        format!(
            "$ {command} ({})\n{}",
            output.status.code().unwrap(),
            stderr(&output)
        )
    });
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn each_command_prints_its_help_over_ssh() {
    let forge = TestForge::start(QUIRE);
    let help = forge.ssh_ok("help");
    assert!(
        help.contains("git push -o OPTION") && help.contains("ci.wait"),
        "{help}"
    );
    assert_eq!(forge.ssh_ok("--help"), help);
    for command in [
        "repo",
        "repo list",
        "repo new",
        "repo rm",
        "repo rename",
        "run",
        "run list",
        "run show",
        "run logs",
        "run wait",
        "run cancel",
        "run retry",
        "run start",
        "run attach",
        "run artifacts",
        "run artifacts get",
        "schedule list",
        "cache clear",
        "key list",
        "login",
        "status",
        "gc",
    ] {
        let help = forge.ssh_ok(&format!("{command} --help"));
        assert!(
            help.contains(&format!("Usage: ssh git@host {command}")),
            "{command}: {help}"
        );
    }
}
