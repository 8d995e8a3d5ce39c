//! Two appliances on one engine: what one does to its own, the other never feels.

use quire_types::run::{FailureKind, RunState};

use super::containers::{Contained, endpoint, skipped};
use super::engine::{LONG, WELL, begun};
use super::settled_well;

#[test]
fn an_appliance_that_crashes_cleans_up_and_leaves_touches_no_other() {
    if skipped() {
        return;
    }
    let mut all = [Contained::new(&endpoint()), Contained::new(&endpoint())];
    let mut runs = Vec::new();
    for contained in &mut all {
        contained.forge.set("QUIRE_CI_NETWORK", "true").serve();
        contained.forge.tree_with("app", LONG).push(&["main"]);
        runs.push(begun(contained));
    }
    let [one, other] = &mut all;
    let theirs = other.containers();
    assert_eq!(theirs.len(), 1);
    // A crash, and what is put right after it.
    one.forge.kill();
    one.forge.serve();
    let cut = one.forge.end_of(runs[0].id);
    assert_eq!(cut.failure_kind, Some(FailureKind::Orphaned), "{cut:?}");
    assert_eq!(other.containers(), theirs);
    // A cancelled run, and an appliance that is taken down.
    let again = one.forge.newest("app");
    one.forge.store().runs().request_cancel(again.id).unwrap();
    one.forge.end_of(again.id);
    one.wait_for_removal(again.id);
    assert!(one.forge.stop().success());
    one.nothing_left();
    assert_eq!(other.containers(), theirs);
    assert_eq!(other.forge.run(runs[1].id).state, RunState::Active);
    // Its network serves on.
    other
        .forge
        .store()
        .runs()
        .request_cancel(runs[1].id)
        .unwrap();
    other.forge.end_of(runs[1].id);
    let tree = other.forge.tree("again", "app");
    tree.write(".quire/ci.fnl", WELL);
    tree.commit("well");
    tree.push(&["--force", "main"]);
    settled_well(&other.forge);
    for run in [runs[1].id, other.forge.newest("app").id] {
        other.wait_for_removal(run);
    }
    assert!(other.forge.stop().success());
    other.nothing_left();
}
