//! `doctor`: what it says of an appliance that works, and of one with faults.

use std::fs;

use quire_testkit::{HttpReceiver, TestForge, free_port, transcript, wait_for};

use super::GREEN;
use crate::QUIRE;

/// The findings by part, each with its grade and text.
fn findings(output: &str) -> Vec<(String, String, String)> {
    let listed: serde_json::Value = serde_json::from_str(output).unwrap();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = listed["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|one| (text(one, "part"), text(one, "grade"), text(one, "text")))
        .collect()
}

#[test]
fn an_appliance_that_works_passes_and_keeps_nothing_of_the_check() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.end_of(forge.newest("app").id);
    tree.write("overwritten", "something that only an undo keeps");
    tree.commit("overwritten");
    tree.push(&["-o", "ci.skip", "main"]);
    tree.push(&["-o", "ci.skip", "--force", "main~1:main"]);
    forge.ssh_ok("repo new gone");
    forge.ssh_ok("repo rm gone --yes");
    forge.wait_for_quiet();
    let found = findings(&forge.ssh_ok("doctor --json"));
    let of = |part: &str| {
        let finding = found.iter().find(|(name, ..)| name == part);
        let (_, grade, text) = finding.unwrap_or_else(|| panic!("{part}: {found:?}"));
        (grade.as_str(), text.as_str())
    };
    assert_eq!(of("database").0, "ok");
    assert!(of("database").1.contains("runs: 1, pushes: 3"), "{found:?}");
    assert_eq!(of("disk").0, "ok");
    for kind in ["repositories ", " of that for undo", "logs ", "trash "] {
        assert!(of("disk").1.contains(kind), "{kind}: {found:?}");
    }
    assert_eq!(
        of("repositories"),
        ("ok", "git finds nothing wrong with any of the 1")
    );
    assert_eq!(of("host").0, "ok");
    assert_eq!(of("clock").0, "ok");
    assert!(!forge.paths.runs_dir().join("quire-doctor").exists());
    assert!(!forge.paths.caches().join("quire-doctor/doctor").exists());
    assert_eq!(forge.runs().len(), 1, "the check is no run");
}

#[test]
fn what_does_not_work_is_named_with_what_to_do() {
    let mut forge = TestForge::new(QUIRE);
    forge
        .set("QUIRE_CI_EXECUTOR", "docker")
        .set("QUIRE_CI_ENGINE", "unix:///nonexistent/docker.sock");
    forge.serve();
    forge
        .tree_with("app", GREEN)
        .push(&["-o", "ci.skip", "main"]);
    let packs = forge
        .paths
        .repo(&"app".parse().unwrap())
        .join("objects/pack");
    for file in fs::read_dir(packs).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "pack")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let output = forge.ssh("doctor");
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |part: &str| {
        let mut lines = text.lines();
        lines
            .find(|line| line.starts_with(part))
            .unwrap_or_else(|| panic!("{part}: {text}"))
            .to_owned()
    };
    assert!(line("repositories").contains("failed"), "{text}");
    assert!(
        line("repositories").contains("app: git fsck reports"),
        "{text}"
    );
    assert!(line("container").contains("cannot be reached"), "{text}");
    assert!(line("container: ").contains(":ci {:engine"), "{text}");
}

/// What `quire init` writes, without which the server is no appliance.
const INIT_STATUS: &str = r#"{"pid": 1, "version": "0.2.0", "phase": "running", "started_at": 0, "children": {}, "keys": 0, "warnings": []}"#;

#[test]
fn the_first_start_of_a_volume_is_followed_by_one_check() {
    let mut forge = TestForge::new(QUIRE);
    forge
        .set("QUIRE_CI_EXECUTOR", "docker")
        .set("QUIRE_DOCTOR_AFTER", "0");
    let kept = forge.paths.data().join("doctor.json");
    // Without `quire init`, nothing is checked.
    forge.serve();
    let before = forge.health();
    assert_eq!(
        before["parts"]["doctor"]["message"],
        "never run; `doctor` over SSH checks everything"
    );
    forge.stop();
    assert!(!kept.exists());
    fs::write(forge.paths.init_status(), INIT_STATUS).unwrap();
    forge.serve();
    wait_for("the check", || kept.exists().then_some(()));
    let doctor = wait_for("the finding", || {
        let doctor = forge.health()["parts"]["doctor"].clone();
        (doctor["figure"]["failed"] == 2).then_some(doctor)
    });
    // A finding, and no state of the appliance.
    assert_eq!(doctor["status"], "ok");
    let message = doctor["message"].as_str().unwrap();
    assert!(
        message.starts_with("failed at 20") && message.contains(": keys, container;"),
        "{message}"
    );
    let page = forge.get("/-/health").body;
    assert!(page.contains("no SSH key may connect"), "{page}");
    let status = transcript(&forge.ssh("status"));
    assert!(
        status.contains("doctor: keys (at 20") && status.contains("set QUIRE_AUTHORIZED_KEYS"),
        "{status}"
    );
    // Once for a volume: the time of the result stays after another start, until `doctor` is run.
    let first = fs::read_to_string(&kept).unwrap();
    forge.stop();
    forge.serve();
    forge.wait_for_quiet();
    let status = transcript(&forge.ssh("status"));
    assert!(status.contains("doctor: keys (at 20"), "{status}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), first);
    fs::write(
        forge.paths.init_status(),
        INIT_STATUS.replace("\"keys\": 0", "\"keys\": 1"),
    )
    .unwrap();
    assert_eq!(forge.ssh("doctor").status.code(), Some(1));
    let status = transcript(&forge.ssh("status"));
    assert!(
        !status.contains("doctor: keys") && status.contains("doctor: container (at 20"),
        "{status}"
    );
}

#[test]
fn receivers_are_connected_to_and_get_nothing() {
    let receiver = HttpReceiver::start();
    let mut forge = TestForge::new(QUIRE);
    let closed = free_port();
    let config = format!(
        "{{:notify {{:allowed-networks [\"127.0.0.0/8\"]\n  :targets {{:ops {{:type :webhook :url \"{}\" :key {{:env \"HOOK_KEY\"}}}}\n  \
         :gone {{:type :webhook :url \"http://127.0.0.1:{closed}/\" :key {{:env \"HOOK_KEY\"}}}}}}}}}}",
        receiver.url("/hook")
    );
    fs::write(forge.paths.config_fennel(), config).unwrap();
    forge.set("HOOK_KEY", "a key that is long enough");
    forge.set("TZ", "Europe/Berln");
    forge.serve();
    let output = forge.ssh("doctor --json");
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    let found = findings(&String::from_utf8(output.stdout).unwrap());
    let of = |part: &str| {
        let mut found = found.iter().filter(|(name, ..)| name == part);
        let (_, grade, text) = found.next().unwrap_or_else(|| panic!("{part}"));
        assert_eq!(found.next(), None, "{part}");
        (grade.as_str(), text.as_str())
    };
    let (grade, text) = of("notifications");
    assert!(
        grade == "failed" && text.contains("target `gone`: cannot connect to 127.0.0.1:"),
        "{found:?}"
    );
    assert!(text.contains("config.fnl:3"), "the line to change: {text}");
    assert_eq!(of("time zone").0, "failed", "{found:?}");
    assert_eq!(receiver.connections(), 1);
    assert_eq!(receiver.requests().len(), 0, "nothing is sent");
}
