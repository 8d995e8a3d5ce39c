//! A repository that is renamed while its run is active, while somebody pushes to it, and by a command or a server
//! that is killed at each step.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use quire_git::Git;
use quire_testkit::{TestForge, Tree, transcript, wait_for};
use quire_types::names::RepoName;
use quire_types::run::{FailureKind, RunState};

use super::containers::{Contained, endpoint, skipped};
use super::points::waits;
use super::{LEAVES_A_PROCESS, settled_well};
use crate::QUIRE;

/// Where a rename can be cut off once it is noted.
const POINTS: [&str; 6] = [
    "rename-intended",
    "rename-repository-moved",
    "rename-folder-moved",
    "rename-folders-moved",
    "rename-recorded",
    "rename-links-cleared",
];

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

/// A pipeline that says something, waits for the gate, says something more by a second command and keeps a file.
fn talks_and_waits(gate: &std::path::Path) -> String {
    let (started, go) = (gate.join("started"), gate.join("go"));
    let first = format!(
        "echo before; touch {}; while [ ! -e {} ]; do sleep 0.02; done",
        started.display(),
        go.display()
    );
    format!(
        r#"(local ci (require :quire.ci))
(ci.job :wait [:quire/push] (fn [{{: sh : artifact}}] (sh "{first}") (sh "mkdir -p in && echo kept > in/left && echo after") (sh ["cat" "left"] {{:cwd "in"}}) (artifact "in/left" {{:name "left"}})))
"#
    )
}

/// A run of `app` that goes on until there is a file `go` in the gate, and another branch's that waits for its turn.
fn held(forge: &TestForge) -> (Tree, PathBuf) {
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let tree = forge.tree_with("app", &talks_and_waits(&gate));
    tree.push(&["main"]);
    wait_for("the command", || {
        gate.join("started").exists().then_some(())
    });
    (tree, gate)
}

/// A rename by a command that is killed at a point.
fn killed_at(forge: &TestForge, point: &str) {
    let mut command = Command::new(forge.file("client/ssh"));
    let renamed = command
        .arg("repo rename app shop")
        .env("QUIRE_FAULT", point)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        renamed.status.signal(),
        Some(9),
        "{point}: {}",
        transcript(&renamed)
    );
}

/// Waits until `app` is `shop`, whoever makes it so.
#[track_caller]
fn wait_for_the_rename(forge: &TestForge) {
    let done = || {
        Git::new(&forge.paths).exists(&name("shop")).unwrap()
            && forge
                .store()
                .redirects()
                .list()
                .unwrap()
                .iter()
                .all(|former| !former.moving)
    };
    wait_for("the rename", || done().then_some(()));
}

/// What has to hold after a rename of `app` to `shop`, once all runs have ended.
#[track_caller]
fn renamed_well(forge: &TestForge, runs: usize) {
    settled_well(forge);
    assert_eq!(forge.runs_of("app"), [], "runs by the old name");
    assert_eq!(
        forge.runs_of("shop").len(),
        runs,
        "{:?}\n{}",
        forge.runs(),
        forge.log()
    );
    wait_for("the links to go", || {
        forge
            .store()
            .redirects()
            .stale_links()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    for root in [forge.paths.runs_dir(), forge.paths.artifacts()] {
        assert!(
            root.join("app").symlink_metadata().is_err(),
            "{} has a folder of the old name",
            root.display()
        );
    }
    let place = forge.paths.repo(&name("app")).symlink_metadata().unwrap();
    assert!(place.is_symlink());
    assert_eq!(Git::new(&forge.paths).list().unwrap().repos, [name("shop")]);
    for run in forge
        .runs_of("shop")
        .iter()
        .filter(|run| run.state == RunState::Complete)
    {
        let log = forge.ssh_ok(&format!("run logs {}", run.id));
        assert!(
            log.contains("before") && log.contains("after") && log.contains("kept"),
            "{log}"
        );
        assert_eq!(
            forge.ssh_ok(&format!("run artifacts get {} left", run.id)),
            "kept\n"
        );
        assert_eq!(forge.get(&format!("/runs/{}/log.txt", run.id)).status, 200);
    }
}

#[test]
fn under_an_active_run() {
    let forge = TestForge::start(QUIRE);
    let (tree, gate) = held(&forge);
    tree.push(&["main:other", "main:third"]);
    let runs = forge.runs_of("app");
    let (first, last) = (runs[0].id, runs[2].id);
    std::thread::scope(|scope| {
        // A person at the terminal and one in the browser follow it from before to after.
        let following = scope.spawn(|| forge.ssh_ok(&format!("run logs --follow {first}")));
        let watching = scope.spawn(|| forge.events(&format!("/runs/{first}/events")));
        assert!(
            forge
                .ssh_ok("repo rename app shop")
                .starts_with("renamed app to shop")
        );
        assert_eq!(forge.run(last).repo, name("shop"));
        assert_eq!(
            forge.store().runs().active_of(&name("shop")).unwrap().len(),
            2,
            "nothing was stopped"
        );
        tree.commit("more");
        let pushed = tree.push(&["main:fourth"]);
        assert!(
            pushed.contains("quire: app is now shop; git remote set-url origin"),
            "{pushed}"
        );
        fs::write(gate.join("go"), "").unwrap();
        let followed = following.join().unwrap();
        let lines: Vec<&str> = followed
            .lines()
            .filter(|line| ["before", "after", "kept"].contains(line))
            .collect();
        assert_eq!(lines, ["before", "after", "kept"], "{followed}");
        let watched: String = watching
            .join()
            .unwrap()
            .into_iter()
            .filter(|(event, _)| event == "log")
            .map(|(_, data)| data)
            .collect();
        for line in ["before", "after", "kept"] {
            assert_eq!(
                watched.matches(&format!(",\"{line}\"]")).count(),
                1,
                "{line}: {watched}"
            );
        }
    });
    forge.wait_for_quiet();
    renamed_well(&forge, 4);
    assert!(
        forge
            .runs()
            .iter()
            .all(|run| run.state == RunState::Complete),
        "{:?}",
        forge.runs()
    );
}

#[test]
fn by_a_command_that_is_killed_at_each_point() {
    for point in POINTS {
        let forge = TestForge::start(QUIRE);
        let (tree, gate) = held(&forge);
        tree.push(&["main:other"]);
        killed_at(&forge, point);
        wait_for_the_rename(&forge);
        tree.commit("more");
        tree.push(&["main:third"]);
        fs::write(gate.join("go"), "").unwrap();
        forge.wait_for_quiet();
        renamed_well(&forge, 3);
        assert!(
            forge
                .runs()
                .iter()
                .all(|run| run.state == RunState::Complete),
            "{point}: {:?}",
            forge.runs()
        );
    }
}

#[test]
fn by_a_command_that_is_killed_before_it_is_noted() {
    let mut forge = TestForge::start(QUIRE);
    let (tree, gate) = held(&forge);
    killed_at(&forge, "rename-reserved");
    assert!(Git::new(&forge.paths).exists(&name("app")).unwrap());
    let refused = tree.git(&["push", "-q", "ssh://git@forge/shop", "main"]);
    assert!(
        !refused.status.success()
            && transcript(&refused).contains("`shop` is being renamed or removed"),
        "{}",
        transcript(&refused)
    );
    fs::write(gate.join("go"), "").unwrap();
    forge.wait_for_quiet();
    // Nothing is left of it at the next start, and it may be tried again.
    assert!(forge.stop().success());
    forge.serve();
    assert!(forge.paths.repo(&name("shop")).symlink_metadata().is_err());
    forge.ssh_ok("repo rename app shop");
    renamed_well(&forge, 1);
}

#[test]
fn finished_by_a_server_that_is_killed_at_each_point() {
    for point in &POINTS[1..] {
        let mut forge = TestForge::new(QUIRE);
        forge.set("QUIRE_FAULT", point).serve();
        let (tree, gate) = held(&forge);
        killed_at(&forge, "rename-intended");
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        // Git goes on meanwhile, by the old name; what was cut has its second try.
        tree.commit("more");
        tree.push(&["main:other"]);
        fs::write(gate.join("go"), "").unwrap();
        forge.unset("QUIRE_FAULT").serve();
        forge.wait_for_quiet();
        renamed_well(&forge, 3);
        let cut = forge
            .runs()
            .iter()
            .filter(|run| run.failure_kind == Some(FailureKind::Orphaned))
            .count();
        assert_eq!(cut, 1, "{point}: {:?}", forge.runs());
    }
}

#[test]
fn while_the_server_is_away() {
    let mut forge = TestForge::start(QUIRE);
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    fs::write(gate.join("go"), "").unwrap();
    let tree = forge.tree_with("app", &talks_and_waits(&gate));
    tree.push(&["main", "main:refs/tags/v1"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    // An event of the old name lies in the spool, and one comes through the link.
    tree.push(&["main:before"]);
    killed_at(&forge, "rename-repository-moved");
    tree.push(&["main:after"]);
    forge.serve();
    forge.wait_for_quiet();
    renamed_well(&forge, 4);
}

#[test]
fn during_a_push() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    // A hook of git's that waits in the middle of the push: its objects lie in quarantine then.
    // The hook can write only where the session of the push can.
    let (began, go) = (forge.paths.spool().join(".began"), forge.file("go"));
    let hook = forge.paths.hooks().join("pre-receive");
    let script = format!(
        "#!/bin/sh\ncat >/dev/null\ntouch {}\nwhile [ ! -e {} ]; do sleep 0.02; done\n",
        began.display(),
        go.display()
    );
    // It is a link to the program.
    fs::remove_file(&hook).unwrap();
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let sha = tree.commit("more");
    let pushing = tree
        .command(&["push", "origin", "main"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the push", || began.exists().then_some(()));
    fs::remove_file(&began).unwrap();
    forge.ssh_ok("repo rename app work/shop");
    forge.ssh_ok("repo rename work/shop shop");
    fs::write(&go, "").unwrap();
    let pushed = pushing.wait_with_output().unwrap();
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    let run = wait_for("its run", || {
        forge
            .runs_of("shop")
            .into_iter()
            .find(|run| run.sha.as_str() == sha)
    });
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    settled_well(&forge);
    assert_eq!(forge.runs().len(), 2);
}

/// A command in a container that goes on until somebody makes a file there.
const CONTAINED: &str = r#"(local ci (require :quire.ci))
(ci.job :wait [:quire/push] (fn [{: sh : artifact}] (sh "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done") (sh "echo kept > left; echo after; cat left") (artifact "left")))
"#;

/// A run of `app` in a container, that has begun.
fn contained() -> (Contained, Tree) {
    let mut contained = Contained::new(&endpoint());
    contained.forge.serve();
    let forge = &contained.forge;
    let tree = forge.tree_with("app", CONTAINED);
    tree.push(&["main"]);
    let log = forge
        .run_folder(&forge.newest("app"))
        .join("jobs/wait/1.log");
    wait_for("the command", || {
        fs::read_to_string(&log)
            .ok()
            .filter(|log| log.contains("before"))
    });
    (contained, tree)
}

#[test]
fn under_an_active_run_in_a_container() {
    if skipped() {
        return;
    }
    let (contained, tree) = contained();
    let forge = &contained.forge;
    forge.ssh_ok("repo rename app shop");
    let run = forge.newest("shop");
    tree.git_ok(&["fetch", "-q", "origin"]);
    forge.ssh_ok(&format!("run attach {} touch /tmp/go", run.id));
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    renamed_well(forge, 1);
    contained.nothing_left();
}

#[test]
fn cut_off_with_the_server_under_an_active_run_in_a_container() {
    if skipped() {
        return;
    }
    let (mut contained, _tree) = contained();
    contained.forge.kill();
    killed_at(&contained.forge, "rename-folder-moved");
    contained.forge.serve();
    wait_for_the_rename(&contained.forge);
    // The second try is held like the first.
    let forge = &contained.forge;
    let again = wait_for("the second try", || {
        forge
            .runs_of("shop")
            .into_iter()
            .find(|run| run.retry_of.is_some())
    });
    wait_for("its container", || {
        forge
            .ssh(&format!("run attach {} touch /tmp/go", again.id))
            .status
            .success()
            .then_some(())
    });
    assert_eq!(forge.end_of(again.id).state, RunState::Complete);
    renamed_well(forge, 2);
    contained.nothing_left();
}

#[test]
fn removed_under_an_active_run_in_a_container() {
    if skipped() {
        return;
    }
    let (contained, tree) = contained();
    let forge = &contained.forge;
    tree.push(&["main:other"]);
    forge.ssh_ok("repo rm app --yes");
    for root in [forge.paths.runs_dir(), forge.paths.artifacts()] {
        assert!(!root.join("app").exists());
    }
    assert!(!forge.paths.repo(&name("app")).exists());
    wait_for("its runs to go", || forge.runs().is_empty().then_some(()));
    super::settled(forge);
    contained.nothing_left();
}

#[test]
fn removed_while_a_run_goes_on_by_the_name_it_had() {
    let forge = TestForge::start(QUIRE);
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let tree = forge.tree_with("app", &waits(&gate));
    tree.push(&["main"]);
    wait_for("the command", || {
        gate.join("started").exists().then_some(())
    });
    forge.ssh_ok("repo rename app shop");
    forge.ssh_ok("repo rm shop --yes");
    wait_for("its runs to go", || forge.runs().is_empty().then_some(()));
    for path in [
        forge.paths.repo(&name("app")),
        forge.paths.runs_dir().join("app"),
        forge.paths.runs_dir().join("shop"),
    ] {
        wait_for("all of it to go", || {
            path.symlink_metadata().is_err().then_some(())
        });
    }
    // The old name is free again.
    fs::write(gate.join("go"), "").unwrap();
    assert!(tree.push(&["main"]).contains("created repository app"));
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    settled_well(&forge);
}
