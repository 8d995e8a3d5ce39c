//! `doctor` with runs in containers: the check uses the engine as a run does, and nothing of it stays there.

use quire_testkit::{TestForge, skipped};

use super::support::{endpoint, remove_images_and_networks};
use crate::QUIRE;

#[test]
fn a_container_is_tried_and_removed() {
    if skipped("docker") {
        return;
    }
    let mut forge = TestForge::new(QUIRE);
    forge
        .set("QUIRE_CI_EXECUTOR", "docker")
        .set("QUIRE_CI_ENGINE", &endpoint())
        .set("QUIRE_CI_NETWORK", "false")
        .set("QUIRE_CI_WARM", "0")
        .serve();
    let output = forge.ssh_ok("doctor");
    let instance = forge.store().instance().id().unwrap();
    let graded = |part: &str, grade: &str| {
        let mut lines = output.lines();
        lines.any(|line| line.starts_with(part) && line[part.len()..].trim().starts_with(grade))
    };
    for part in ["container", "memory limit", "clock"] {
        assert!(graded(part, "ok"), "{output}");
    }
    let left = super::images::docker(&[
        "ps",
        "--all",
        "--quiet",
        "--filter",
        &format!("label=io.quire.instance={instance}"),
    ]);
    assert_eq!(left.as_deref(), Ok(""), "containers stay");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(remove_images_and_networks(&instance));
}
