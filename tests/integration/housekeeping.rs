//! What looks after the volume: the floor of the disk, retention, git's maintenance.

use std::fs;

use nix::sys::signal::Signal;
use quire::run::RunState;
use quire::space::free_bytes;

use super::GREEN;
use super::forge::{TestForge, said, wait_for};

/// Says what is kept in the forge's configuration, and has a running server read it again.
fn keep(forge: &TestForge, keep: &str) {
    fs::write(forge.paths.config_fennel(), format!("{{:keep {keep}}}")).unwrap();
}

#[test]
fn below_the_floor_runs_wait_then_pushes_are_refused() {
    let mut forge = TestForge::new();
    forge.unset("QUIRE_KEEP_MIN_FREE");
    let free = free_bytes(forge.paths.data()).unwrap();
    keep(&forge, &format!("{{:min-free {}}}", free / 3 * 4));
    forge.serve();
    let tree = forge.tree_with("app", GREEN);
    // Taken, and its run waits where everybody can see why.
    tree.push(&["main"]);
    let run = forge.newest("app");
    let message = wait_for("a word on why it waits", || forge.run(run.id).message);
    assert!(message.starts_with("waits: the disk is nearly full: "), "{message}");
    let health = wait_for("the health to say so", || Some(forge.health()).filter(|health| health["parts"]["disk"]["status"] == "degraded"));
    assert!(health["parts"]["disk"]["message"].as_str().unwrap().contains("runs wait"), "{health}");
    assert_eq!(forge.run(run.id).state, RunState::Pending);
    // Room again: it starts by itself.
    keep(&forge, "{:min-free 0}");
    forge.signal(Signal::SIGHUP);
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);

    // Further down: refused in one sentence, before git writes anything, also while the server is away.
    keep(&forge, "{:min-free \"4000t\"}");
    forge.signal(Signal::SIGHUP);
    wait_for("the push path to be told", || fs::read_to_string(forge.paths.min_free()).is_ok_and(|text| text.len() > 10).then_some(()));
    wait_for("the health to say so", || (forge.health()["parts"]["disk"]["status"] == "down").then_some(()));
    assert_eq!(forge.get("/readyz").status, 503, "a push leads to nothing now");
    let repos = forge.paths.repos();
    let objects = || super::forge::files_below(&repos).len();
    let (before, commit) = (objects(), tree.commit("more"));
    for attempt in ["with a server", "without"] {
        for target in ["origin", "ssh://git@forge/never-seen"] {
            let pushed = tree.git(&["push", target, "main"]);
            let told = said(&pushed);
            assert!(!pushed.status.success() && told.contains("quire: the disk is nearly full: "), "{attempt}: {told}");
            assert!(told.contains("`quire gc`"), "{told}");
        }
        assert_eq!(objects(), before, "git wrote nothing");
        assert_eq!(tree.git_ok(&["ls-remote", "origin", "main"]).split_whitespace().next(), Some(run.sha.as_str()), "a fetch works");
        if attempt == "with a server" {
            assert!(forge.stop().success());
        }
    }
    keep(&forge, "{:min-free 0}");
    forge.serve();
    tree.push(&["main"]);
    assert_eq!(forge.newest("app").sha.as_str(), commit);
    forge.wait_for_quiet();
}
