//! The configuration: what is wrong has a place, and what can be reloaded is.

use std::fs;

use nix::sys::signal::Signal;
use quire::run::RunState;

use super::forge::{TestForge, said, wait_for};
use super::{gate, one};

#[test]
fn a_configuration_that_does_not_load_ends_with_78_and_its_place() {
    let mut forge = TestForge::new();
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
            said(&refused)
        );
        assert!(
            said(&refused).contains(place) && said(&refused).contains(why),
            "{text}: {}",
            said(&refused)
        );
    }
    fs::write(forge.paths.config_lua(), "return {}").unwrap();
    let refused = forge.serve_to_end();
    assert!(
        refused.status.code() == Some(78) && said(&refused).contains("two configurations"),
        "{}",
        said(&refused)
    );
    fs::remove_file(forge.paths.config_lua()).unwrap();
    fs::write(forge.paths.config_fennel(), "{}").unwrap();
    forge.set("QUIRE_CI_TIMEOUT", "soon");
    let refused = forge.serve_to_end();
    assert!(
        refused.status.code() == Some(78) && said(&refused).contains("QUIRE_CI_TIMEOUT"),
        "{}",
        said(&refused)
    );
    forge.unset("QUIRE_CI_TIMEOUT");
    // What is only not known is a warning.
    fs::write(forge.paths.config_fennel(), "{:ci {:concurent-runs 1}}").unwrap();
    forge.serve();
    forge.wait_for_log("concurrent-runs");
}

#[test]
fn a_reload_takes_a_good_configuration_and_refuses_a_bad_one() {
    let mut forge = TestForge::new();
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
    let told = wait_for("health to tell", || {
        Some(part()).filter(|part| part["status"] == "degraded")
    });
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("the old one is in force"),
        "{told}"
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
        !refused.status.success() && said(&refused).contains("pushing creates none here"),
        "{}",
        said(&refused)
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
