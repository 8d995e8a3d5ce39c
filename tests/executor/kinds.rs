//! Repositories as people have them, pushed, whose runs need a container.

use quire_testkit::skipped;
use quire_types::run::RunState;

use super::attach::contained;

#[test]
fn a_link_to_the_dockerfile_of_the_repository_is_followed() {
    if skipped("docker") {
        return;
    }
    let forge = contained();
    let tree = forge.tree("app", "app");
    tree.write("Dockerfile", "FROM debian:trixie-slim\nENV DF=1\n");
    let pipeline = "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{: sh}] (sh \"env | grep ^DF=\")))\n";
    tree.write(".quire/ci.fnl", pipeline);
    std::os::unix::fs::symlink("../Dockerfile", tree.path.join(".quire/Dockerfile")).unwrap();
    tree.push_new("a link");
    let run = forge.end_of(forge.newest("app").id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert_eq!(run.state, RunState::Complete, "{run:?}\n{log}");
    assert!(log.contains("\nDF=1\n"), "{log}");
    forge.ssh_ok("repo rm app --yes");
    forge.ssh_ok("gc");
}

#[test]
fn a_step_may_kill_every_sleep_there_is() {
    if skipped("docker") {
        return;
    }
    let forge = contained();
    let pipeline = r#"(local ci (require :quire.ci))
(ci.image "debian:trixie-slim")
(ci.job :a [:quire/push]
  (fn [{: sh}]
    (sh "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = sleep ] && kill -9 ${p#/proc/}; done; true")
    (sh "echo after")))
"#;
    forge.tree_with("app", pipeline).push(&["main"]);
    let run = forge.end_of(forge.newest("app").id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert_eq!(run.state, RunState::Complete, "{run:?}\n{log}");
    assert!(log.contains("\nafter\n"), "{log}");
}
