//! Single settings that are set by a command, and reloads.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, stderr, transcript, wait_for};
use serde_json::Value;

use crate::QUIRE;

const FILE: &str = "; my appliance\n{:ci {:pids 77 ; few\n      :memory \"1g\"}}\n";

fn appliance() -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), FILE).unwrap();
    forge.serve();
    forge
}

fn file(forge: &TestForge) -> String {
    fs::read_to_string(forge.paths.config_fennel()).unwrap()
}

/// The setting, as `config show --json` has it.
fn shown(forge: &TestForge, name: &str) -> Value {
    let all: Value = serde_json::from_str(&forge.ssh_ok("config show --json")).unwrap();
    let mut all = all["settings"].as_array().unwrap().iter();
    all.find(|one| one["setting"] == name)
        .cloned()
        .unwrap_or_default()
}

fn newest(forge: &TestForge) -> Value {
    let log: Value = serde_json::from_str(&forge.ssh_ok("log --json --limit 1")).unwrap();
    log["operations"][0].clone()
}

#[track_caller]
fn refused(forge: &TestForge, command: &str, code: i32, words: &str) {
    let output = forge.ssh(command);
    let text = transcript(&output);
    assert_eq!(output.status.code(), Some(code), "{command}: {text}");
    assert!(text.contains(words), "{command}: {text}");
}

#[test]
fn a_setting_is_set_in_the_file_and_is_in_force() {
    let forge = appliance();
    let path = forge.paths.config_fennel().display().to_string();
    assert_eq!(
        forge.ssh_ok("config set ci.pids 78"),
        format!("set ci.pids to 78 in {path}; it was 77\nit is in force\n")
    );
    assert_eq!(file(&forge), FILE.replace("77", "78"));
    assert_eq!(shown(&forge, "ci.pids")["value"], "78");
    let operation = newest(&forge);
    assert_eq!(
        (
            &operation["kind"],
            &operation["before"],
            &operation["after"]
        ),
        (&"config-set".into(), &"77".into(), &"78".into())
    );
    // The same again is no operation.
    assert!(
        forge
            .ssh_ok("config set ci.pids 78")
            .contains("is set to that already")
    );
    assert_eq!(newest(&forge)["id"], operation["id"]);
    // What is new is added, and what is removed has its default.
    forge.ssh_ok("config set keep.logs 10g");
    assert!(
        file(&forge).ends_with("\n :keep {:logs \"10g\"}}\n"),
        "{}",
        file(&forge)
    );
    let before = file(&forge);
    forge.ssh_ok("config unset ci.memory");
    assert!(!file(&forge).contains("memory"));
    assert_eq!(shown(&forge, "ci.memory")["origin"], "default");
    // And all of it is undone.
    let unset = newest(&forge);
    forge.ssh_ok(&format!("undo {}", unset["id"]));
    assert_eq!(shown(&forge, "ci.memory")["value"], "1g");
    assert_eq!(file(&forge).lines().next(), before.lines().next());
    forge.ssh_ok(&format!("undo {}", operation["id"]));
    assert_eq!(shown(&forge, "ci.pids")["value"], "77");
    let text = file(&forge);
    assert!(
        text.contains(":pids 77") && text.contains("; few\n"),
        "{text}"
    );
    forge.ssh_ok("config set ci.pids 79");
    let undone = newest(&forge)["id"].as_i64().unwrap() - 1;
    refused(
        &forge,
        &format!("undo {undone}"),
        1,
        "was changed again since",
    );
}

#[test]
fn what_needs_a_restart_and_what_is_overridden_says_so() {
    let mut forge = TestForge::new(QUIRE);
    forge.serve();
    // The first setting makes the file.
    let set = forge.ssh_ok("config set ssh.port 2300");
    assert!(set.contains("it is in force"), "{set}");
    assert_eq!(file(&forge), "{:ssh {:port 2300}}\n");
    let mode = fs::metadata(forge.paths.config_fennel())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let set = forge.ssh_ok("config set ci.pull missing");
    assert!(
        set.contains("it takes effect when quire is restarted"),
        "{set}"
    );
    let pull = shown(&forge, "ci.pull");
    assert_eq!(
        (&pull["origin"], &pull["pending"]),
        (&"default".into(), &"missing".into())
    );
    assert!(
        forge
            .ssh_ok("config show")
            .contains("missing after a restart")
    );
    let set = forge.ssh_ok("config set ci.concurrent-runs 7");
    assert!(
        set.contains("as long as the variable QUIRE_CI_CONCURRENT_RUNS"),
        "{set}"
    );
    let set: Value =
        serde_json::from_str(&forge.ssh_ok("config set ci.pull always --json")).unwrap();
    assert_eq!(
        (&set["needs_restart"], &set["in_force"]),
        (&true.into(), &false.into())
    );
    assert!(forge.stop().success());
    let set = forge.ssh_ok("config set ci.pids 5");
    assert!(set.contains("it takes effect when it starts"), "{set}");
    forge.serve();
    assert_eq!(shown(&forge, "ci.pids")["value"], "5");
    assert_eq!(shown(&forge, "ci.pull")["pending"], Value::Null);
}

#[test]
fn what_cannot_be_set_is_refused_and_changes_nothing() {
    let forge = appliance();
    for (command, code, words) in [
        (
            "config set ci.pids many",
            2,
            "`ci.pids` must be a whole number, 1 or more, not \"many\"",
        ),
        ("config set ci.pdis 7", 3, "did you mean `ci.pids`?"),
        ("config set secrets.token x", 3, "changed in the file"),
        ("config unset http.port", 1, "is not set in"),
        ("config set ci.pids -1", 2, "must be a whole number"),
    ] {
        refused(&forge, command, code, words);
        assert_eq!(file(&forge), FILE, "{command}");
    }
    let computed = "(local few 77)\n{:ci {:pids few}\n :keep (if true {:days 3} {})}\n";
    fs::write(forge.paths.config_fennel(), computed).unwrap();
    refused(
        &forge,
        "config set keep.days 4",
        1,
        "config.fnl:3:2 is written in a way",
    );
    refused(
        &forge,
        "config set keep.days 4",
        1,
        "write `:days 4` in the table `:keep` there",
    );
    forge.ssh_ok("config set ci.pids 4");
    assert_eq!(file(&forge), computed.replace(":pids few", ":pids 4"));
    fs::write(forge.paths.config_fennel(), "{:ci").unwrap();
    refused(&forge, "config set ci.pids 4", 1, "config.fnl:1");
    fs::remove_file(forge.paths.config_fennel()).unwrap();
    fs::write(forge.paths.config_lua(), "return {ci = {pids = 1}}\n").unwrap();
    refused(
        &forge,
        "config set ci.pids 4",
        1,
        "write `[\"pids\"] = 4` in the table `ci` there",
    );
    // A link is not replaced by a file.
    fs::remove_file(forge.paths.config_lua()).unwrap();
    let target = forge.file("elsewhere.fnl");
    fs::write(&target, FILE).unwrap();
    std::os::unix::fs::symlink(&target, forge.paths.config_fennel()).unwrap();
    refused(&forge, "config set ci.pids 4", 1, "is not a regular file");
    assert_eq!(fs::read_to_string(&target).unwrap(), FILE);
}

#[test]
fn a_reload_says_what_changed_and_what_does_not_load() {
    let forge = appliance();
    let text = "{:ci {:pids 78 :pull \"missing\" :pdis 1} :hooks {:deploy {:repo \"app\" :secret {:env \"HOOK\"}}}
 :notify {:targets {:ops {:type :ntfy :url \"https://ntfy.example.org/secret-topic\"}}}
 :mirrors {:repos {:app {:nas {:url \"ssh://git@nas.example.org/app\"}}}}}";
    fs::write(forge.paths.config_fennel(), text).unwrap();
    let said = forge.ssh_ok("reload");
    let lines: Vec<Vec<&str>> = said
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert!(
        said.contains("`ci.pdis` is not a setting and is ignored (did you mean `pids`?)"),
        "{said}"
    );
    for line in [
        ["ci.pids", "77", "78", "now"],
        ["ci.pull", "daily", "missing", "after a restart"],
        [
            "hooks.deploy",
            "-",
            "starts app, secret environment variable HOOK",
            "now",
        ],
        [
            "notify.targets.ops",
            "-",
            "ntfy https://ntfy.example.org",
            "now",
        ],
        [
            "mirrors.repos.app.nas",
            "-",
            "ssh://git@nas.example.org/app",
            "now",
        ],
    ] {
        assert!(lines.iter().any(|found| found == &line), "{line:?}\n{said}");
    }
    assert_eq!(newest(&forge)["kind"], "config-reload");
    assert!(forge.ssh_ok("reload").contains("no setting has changed"));
    // A file that does not load leaves what is in force.
    fs::write(forge.paths.config_fennel(), "{:ci {:pids :many}}").unwrap();
    refused(
        &forge,
        "reload",
        1,
        "config.fnl:1:7: `ci.pids` must be a whole number, 1 or more",
    );
    assert_eq!(shown(&forge, "ci.pids")["value"], "78");
    let failed = newest(&forge);
    assert_eq!(
        (&failed["kind"], &failed["state"]),
        (&"config-reload".into(), &"failed".into())
    );
    // A signal reloads as well, and is in the log without a name.
    fs::write(forge.paths.config_fennel(), FILE).unwrap();
    forge.signal(Signal::SIGHUP);
    let by_signal = wait_for("the reload", || {
        Some(newest(&forge)).filter(|found| found["state"] == "done")
    });
    assert_eq!(
        (&by_signal["actor"], &by_signal["channel"]),
        (&Value::Null, &"server".into())
    );
    let refused = forge.ssh(&format!("undo {}", by_signal["id"]));
    assert!(
        stderr(&refused).contains("is not kept"),
        "{}",
        transcript(&refused)
    );
}
