//! The configuration: what is wrong has a place, and what can be reloaded is.

use std::fs;

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, stderr, stdout, transcript, wait_for};
use quire_types::run::RunState;

use super::{gate, one};
use crate::QUIRE;

#[test]
fn a_configuration_that_does_not_load_ends_with_78_and_its_place() {
    let mut forge = TestForge::new(QUIRE);
    for (text, place, why) in [
        (
            "{:http {:port 3000}\n :ci {:concurrent-runs",
            "config.fnl:2",
            "",
        ),
        (
            "{:http {:port 3000}\n :ci {:concurrent-runs :many}}",
            "config.fnl:2",
            "concurrent-runs",
        ),
        ("{:keep {:min-free \"a lot\"}}", "config.fnl:1", "min-free"),
        ("(os.exit 0)", "config.fnl:1", "os"),
        ("(while true nil)", "config.fnl", ""),
        ("7", "config.fnl", "table"),
    ] {
        fs::write(forge.paths.config_fennel(), text).unwrap();
        let refused = forge.serve_to_end();
        assert_eq!(
            refused.status.code(),
            Some(78),
            "{text}: {}",
            transcript(&refused)
        );
        assert!(
            transcript(&refused).contains(place) && transcript(&refused).contains(why),
            "{text}: {}",
            transcript(&refused)
        );
    }
    fs::write(forge.paths.config_lua(), "return {}").unwrap();
    let refused = forge.serve_to_end();
    assert!(
        refused.status.code() == Some(78)
            && transcript(&refused).contains("there are two configuration files"),
        "{}",
        transcript(&refused)
    );
    fs::remove_file(forge.paths.config_lua()).unwrap();
    fs::write(forge.paths.config_fennel(), "{}").unwrap();
    forge.set("QUIRE_CI_TIMEOUT", "soon");
    let refused = forge.serve_to_end();
    assert!(
        refused.status.code() == Some(78) && transcript(&refused).contains("QUIRE_CI_TIMEOUT"),
        "{}",
        transcript(&refused)
    );
    forge.unset("QUIRE_CI_TIMEOUT");
    // What is only not known is a warning.
    fs::write(forge.paths.config_fennel(), "{:ci {:concurent-runs 1}}").unwrap();
    forge.serve();
    forge.wait_for_log("concurrent-runs");
    let health = forge.health()["parts"]["config"].clone();
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(health["message"], "loaded; a key has no effect", "{health}");
    let page = forge.get("/-/health").body;
    assert!(
        page.contains("`ci.concurent-runs` is not a setting"),
        "{page}"
    );

    // A file that is wrong at a start: the last one that loaded is in force.
    fs::write(forge.paths.config_fennel(), "{:ci {:concurrent-runs 5}}").unwrap();
    assert!(forge.stop().success());
    forge.serve();
    fs::write(
        forge.paths.config_fennel(),
        "{:ci {:concurrent-runs :many}}",
    )
    .unwrap();
    assert!(forge.stop().success());
    forge.serve();
    forge.wait_for_log("config.fnl:1");
    let health = forge.health()["parts"]["config"].clone();
    assert_eq!(health["status"], "degraded", "{health}");
    let message = "the configuration does not load; the last one that loaded is in force";
    assert_eq!(health["message"], message, "{health}");
    let status = forge.ssh_ok("status");
    assert!(status.contains(message), "{status}");
}

#[test]
fn a_reload_takes_a_good_configuration_and_refuses_a_bad_one() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), "{:ci {:concurrent-runs 1}}").unwrap();
    forge.unset("QUIRE_CI_CONCURRENT_RUNS").serve();
    let (first, second) = (forge.file("first"), forge.file("second"));
    let tree = forge.tree_with("one", &one(&gate(&first)));
    tree.push(&["main"]);
    wait_for("the command", || {
        first.join("started").exists().then_some(())
    });
    let other = forge.tree_with("two", &one(&gate(&second)));
    other.push(&["main"]);
    let waiting = forge.newest("two");
    assert_eq!(waiting.state, RunState::Pending);

    let part = || forge.health()["parts"]["config"].clone();
    fs::write(forge.paths.config_fennel(), "{:ci {:concurrent-runs :two}}").unwrap();
    forge.signal(Signal::SIGHUP);
    let health = wait_for("health to tell", || {
        Some(part()).filter(|part| part["status"] == "degraded")
    });
    assert!(
        health["message"]
            .as_str()
            .unwrap()
            .contains("the previous one stays in force"),
        "{health}"
    );
    forge.wait_for_log("config.fnl:1");
    assert_eq!(forge.run(waiting.id).state, RunState::Pending);
    assert_eq!(forge.get("/healthz").status, 200);

    // Two at once now, and no pushes that create; the run in hand goes on.
    fs::write(
        forge.paths.config_fennel(),
        "{:ci {:concurrent-runs 2} :git {:push-to-create false}}",
    )
    .unwrap();
    forge.signal(Signal::SIGHUP);
    wait_for("health to tell", || {
        (part()["status"] == "ok").then_some(())
    });
    wait_for("the second run", || {
        second.join("started").exists().then_some(())
    });
    assert_eq!(forge.newest("one").state, RunState::Active);
    let third = forge.tree_with("three", super::GREEN);
    let refused = third.git(&["push", "origin", "main"]);
    assert!(
        !refused.status.success()
            && transcript(&refused).contains("pushes do not create repositories here"),
        "{}",
        transcript(&refused)
    );
    for folder in [first, second] {
        fs::write(folder.join("go"), "").unwrap();
    }
    forge.wait_for_quiet();
    assert!(
        forge
            .runs()
            .iter()
            .all(|run| run.state == RunState::Complete)
    );
    forge.check_whole();
}

#[test]
fn what_is_in_force_is_shown_with_where_it_comes_from() {
    let mut forge = TestForge::new(QUIRE);
    let early = forge.ssh("config show");
    assert_eq!(early.status.code(), Some(1), "{}", transcript(&early));
    let text = "{:ci {:pids 77 :memory \"1g\"} :secrets {:token {:env \"TOKEN\"}}}";
    fs::write(forge.paths.config_fennel(), text).unwrap();
    forge
        .set("QUIRE_CI_MEMORY", "2g")
        .set("TOKEN", "hunter22hunter22");
    forge.serve();
    let shown = forge.ssh_ok("config show --set");
    let line = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let file = forge.paths.config_fennel().display().to_string();
    assert_eq!(line("ci.pids"), format!("ci.pids 77 {file}"));
    assert!(line("ci.memory").ends_with(" QUIRE_CI_MEMORY"), "{shown}");
    assert_eq!(
        line("secrets.token"),
        format!("secrets.token environment variable TOKEN {file}")
    );
    assert!(!shown.contains("default") && !shown.contains("hunter22"));
    // A change is shown when it is in force.
    fs::write(forge.paths.config_fennel(), "{:ci {:pids 78}}").unwrap();
    forge.signal(Signal::SIGHUP);
    wait_for("the change", || {
        let shown = forge.ssh_ok("config show --json");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let pids = |setting: &serde_json::Value| {
            setting["setting"] == "ci.pids" && setting["value"] == "78"
        };
        let settings = shown["settings"].as_array().unwrap();
        settings.iter().any(pids).then_some(())
    });
}

#[test]
fn a_file_is_checked_in_the_words_of_a_start() {
    let forge = TestForge::new(QUIRE);
    for text in [
        "{:http {:port 3000}\n :ci {:concurrent-runs",
        "{:http {:port 3000}\n :ci {:concurrent-runs :many}}",
        "(os.exit 0)",
        "7",
    ] {
        let checked = forge.ssh_with("config check", text.as_bytes());
        assert_eq!(checked.status.code(), Some(1), "{}", transcript(&checked));
        fs::write(forge.paths.config_fennel(), text).unwrap();
        let refused = transcript(&forge.serve_to_end());
        // The start names the file with its folder.
        let folder = format!("{}/", forge.paths.data().display());
        for line in stderr(&checked).lines() {
            assert!(
                refused.replace(&folder, "").contains(line),
                "{line}\n{refused}"
            );
        }
        assert!(stderr(&checked).starts_with("quire: config.fnl"));
    }
    let valid = forge.ssh_with("config check", b"{:ci {:pids 77}}");
    assert_eq!(stdout(&valid), "the configuration is valid");
    let unknown = forge.ssh_with("config check", b"{:ci {:pdis 77}}");
    assert_eq!(unknown.status.code(), Some(0), "{}", transcript(&unknown));
    assert!(
        stderr(&unknown).contains("pids"),
        "{}",
        transcript(&unknown)
    );
    let lua = forge.ssh_with("config check --lua", b"return {ci = {pids = 77}}");
    assert_eq!(lua.status.code(), Some(0), "{}", transcript(&lua));
}

/// Settings that this version does not know have no effect. A value that it cannot read keeps the settings as they were; each is named once,
/// with its place.
#[test]
fn a_configuration_of_a_newer_version_leaves_the_appliance_at_work() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), "{:ci {:pids 77}}").unwrap();
    forge.serve();
    let newer = "{:ci {:pids {:day 100 :night 200}\n      :scheduler :fair}\n :tenants {:a {:repos [\"a/*\"]}}}";
    fs::write(forge.paths.config_fennel(), newer).unwrap();
    let checked = forge.ssh_with("config check", newer.as_bytes());
    assert_eq!(checked.status.code(), Some(1));
    let said = [transcript(&checked), transcript(&forge.ssh("reload"))];
    insta::assert_snapshot!(
        said.join("---\n")
            .replace(forge.paths.data().to_str().unwrap(), "DATA")
    );
    assert!(forge.stop().success());
    forge.serve();
    let health = forge.health()["parts"]["config"].clone();
    assert_eq!(health["status"], "degraded", "{health}");
    forge.tree_with("app", super::GREEN).push(&["main"]);
    let run = forge.newest("app");
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    let pids = || {
        let shown = forge.ssh_ok("config show --set");
        let line = shown.lines().find(|line| line.starts_with("ci.pids"));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.unwrap().to_owned()
    };
    assert_eq!(pids(), "77");
    // Without the value that cannot be read, the rest is in force.
    let newer = newer.replace("{:day 100 :night 200}", "88");
    fs::write(forge.paths.config_fennel(), newer).unwrap();
    let said = transcript(&forge.ssh("reload"));
    insta::assert_snapshot!(said.replace(forge.paths.data().to_str().unwrap(), "DATA"));
    assert_eq!(pids(), "88");
    assert_eq!(forge.health()["parts"]["config"]["status"], "ok");
}
