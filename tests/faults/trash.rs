//! A repository that is removed and restored by a command or a server that is killed at each step.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use quire_git::Git;
use quire_testkit::{TestForge, Tree, files_below, transcript, wait_for};
use quire_types::names::RepoName;
use quire_types::run::{Run, RunState};

use super::settled_well;
use crate::QUIRE;

/// Where a removal can be cut off.
const REMOVAL: [&str; 7] = [
    "trash-entry-made",
    "trash-intended",
    "trash-repository-moved",
    "trash-rows-moved",
    "trash-folder-moved",
    "trash-folders-moved",
    "trash-complete",
];

/// Where a restore can be cut off once it is intended.
const RESTORE: [&str; 5] = [
    "restore-intended",
    "restore-rows-moved",
    "restore-folder-moved",
    "restore-folders-moved",
    "restore-repository-moved",
];

const KEEPS: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh : artifact}] (sh "echo hello; echo made > out") (artifact "out")))
"#;

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

/// A repository `app` with two branches, two runs, and a former name.
fn seeded(forge: &TestForge) -> Tree {
    let tree = forge.tree_with("former", KEEPS);
    tree.push(&["main", "main:topic"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rename former app");
    tree.git_ok(&["remote", "set-url", "origin", "ssh://git@forge/app"]);
    tree
}

/// A command that is killed at a point.
fn killed_at(forge: &TestForge, command: &str, point: &str) {
    let killed = Command::new(forge.file("client/ssh"))
        .arg(command)
        .env("QUIRE_FAULT", point)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        killed.status.signal(),
        Some(9),
        "{point}: {}",
        transcript(&killed)
    );
}

/// Waits until nothing is under way in the trash.
#[track_caller]
fn wait_for_trash(forge: &TestForge) {
    let git = Git::new(&forge.paths);
    wait_for("the trash", || {
        (!git.has_unfinished_trash().unwrap()).then_some(())
    });
}

fn exists(forge: &TestForge) -> bool {
    Git::new(&forge.paths).exists(&name("app")).unwrap()
}

fn in_trash(forge: &TestForge) -> usize {
    Git::new(&forge.paths).trash_entries().unwrap().len()
}

/// What has to hold when `app` is there: its refs, its runs with logs and artifacts, its former name, and nothing in the trash.
#[track_caller]
fn check_repository(forge: &TestForge, runs: &[Run], point: &str) {
    assert!(exists(forge), "{point}");
    assert_eq!(forge.runs_of("app"), runs, "{point}");
    for run in runs {
        assert_eq!(run.state, RunState::Complete, "{point}");
        let log = forge.ssh_ok(&format!("run logs {}", run.id));
        assert!(log.contains("hello"), "{point}: {log}");
        let artifact = forge.ssh_ok(&format!("run artifacts get {} out", run.id));
        assert_eq!(artifact, "made\n", "{point}");
    }
    wait_for("the redirect", || {
        (Git::new(&forge.paths).resolve(&name("former")) == name("app")).then_some(())
    });
    assert_eq!(in_trash(forge), 0, "{point}");
    for root in [forge.paths.trash_runs(""), forge.paths.trash_artifacts("")] {
        assert!(files_below(&root).is_empty(), "{point}: {}", root.display());
    }
    settled_well(forge);
}

/// What has to hold when `app` is in the trash: nothing of it is elsewhere.
#[track_caller]
fn check_trash(forge: &TestForge, point: &str) {
    assert_eq!((exists(forge), in_trash(forge)), (false, 1), "{point}");
    assert_eq!(forge.runs(), [], "{point}");
    for root in [forge.paths.runs_dir(), forge.paths.artifacts()] {
        assert!(!root.join("app").exists(), "{point}");
    }
    for path in ["app", "former"] {
        let path = forge.paths.repo(&name(path));
        wait_for("the names to be free", || {
            path.symlink_metadata().is_err().then_some(())
        });
    }
    settled_well(forge);
}

#[test]
fn removed_by_a_command_that_is_killed_at_each_point() {
    let forge = TestForge::start(QUIRE);
    seeded(&forge);
    let runs = forge.runs_of("app");
    for point in REMOVAL {
        killed_at(&forge, "repo rm app --yes", point);
        wait_for_trash(&forge);
        if exists(&forge) {
            assert!(["trash-entry-made", "trash-intended"].contains(&point));
        } else {
            check_trash(&forge, point);
            forge.ssh_ok("repo restore app");
        }
        check_repository(&forge, &runs, point);
    }
}

#[test]
fn restored_by_a_command_that_is_killed_at_each_point() {
    let forge = TestForge::start(QUIRE);
    seeded(&forge);
    let runs = forge.runs_of("app");
    for point in RESTORE {
        forge.ssh_ok("repo rm app --yes");
        check_trash(&forge, point);
        killed_at(&forge, "repo restore app", point);
        wait_for_trash(&forge);
        check_repository(&forge, &runs, point);
    }
    // Before it is intended, nothing has happened.
    forge.ssh_ok("repo rm app --yes");
    killed_at(&forge, "repo restore app", "restore-reserved");
    assert_eq!(in_trash(&forge), 1);
    forge.ssh_ok("repo restore app");
    check_repository(&forge, &runs, "restore-reserved");
}

#[test]
fn completed_by_a_server_that_is_killed_at_each_point() {
    for (command, first, points) in [
        ("repo rm app --yes", "trash-repository-moved", &REMOVAL[3..]),
        ("repo restore app", "restore-intended", &RESTORE[1..]),
    ] {
        for point in points {
            let mut forge = TestForge::start(QUIRE);
            seeded(&forge);
            let runs = forge.runs_of("app");
            if command == "repo restore app" {
                forge.ssh_ok("repo rm app --yes");
            }
            assert!(forge.stop().success());
            killed_at(&forge, command, first);
            forge.set("QUIRE_FAULT", point).spawn();
            let status = forge.ended();
            assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
            forge.unset("QUIRE_FAULT").serve();
            wait_for_trash(&forge);
            if command == "repo rm app --yes" {
                check_trash(&forge, point);
                forge.ssh_ok("repo restore app");
            }
            check_repository(&forge, &runs, point);
        }
    }
}

#[test]
fn a_push_to_the_name_of_a_repository_that_is_half_removed() {
    for point in ["trash-repository-moved", "trash-rows-moved"] {
        let mut forge = TestForge::start(QUIRE);
        let tree = seeded(&forge);
        let old = forge.runs_of("app");
        assert!(forge.stop().success());
        killed_at(&forge, "repo rm app --yes", point);
        // The name is not free before everything has left it.
        let refused = tree.git(&["push", "-q", "origin", "main:new"]);
        assert!(
            !refused.status.success()
                && transcript(&refused).contains("`app` is being renamed or removed"),
            "{point}: {}",
            transcript(&refused)
        );
        forge.serve();
        wait_for_trash(&forge);
        assert!(tree.push(&["main:new"]).contains("created repository app"));
        forge.wait_for_quiet();
        let runs = forge.runs_of("app");
        assert_eq!(runs.len(), 1, "{point}");
        forge.ssh_ok("repo restore app --as before");
        assert_eq!(forge.runs_of("app"), runs, "{point}");
        let ids = |runs: &[Run]| runs.iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(ids(&forge.runs_of("before")), ids(&old), "{point}");
        settled_well(&forge);
    }
}

#[test]
fn deleted_by_a_command_that_is_killed() {
    let forge = TestForge::start(QUIRE);
    seeded(&forge);
    forge.ssh_ok("repo rm app --yes");
    killed_at(&forge, "repo rm app --trash --yes", "trash-deleting");
    wait_for_trash(&forge);
    assert_eq!(in_trash(&forge), 0);
    for folder in [
        forge.paths.trash(),
        forge.paths.runs_dir(),
        forge.paths.artifacts(),
    ] {
        assert!(files_below(&folder).is_empty(), "{}", folder.display());
    }
    assert_eq!(forge.ssh_ok("repo list --trash"), "the trash is empty\n");
    settled_well(&forge);
}

#[test]
fn rows_that_cannot_be_moved_leave_the_repository() {
    let forge = TestForge::start(QUIRE);
    seeded(&forge);
    let runs = forge.runs_of("app");
    let refused = |words: &str| {
        let failed = forge.ssh("repo rm app --yes");
        let text = transcript(&failed);
        assert_eq!(failed.status.code(), Some(1), "{text}");
        assert!(text.contains(words), "{text}");
    };
    // No entry can be made.
    fs::remove_dir_all(forge.paths.trash()).ok();
    fs::write(forge.paths.trash(), "in the way").unwrap();
    refused("cannot create");
    fs::remove_file(forge.paths.trash()).unwrap();
    check_repository(&forge, &runs, "no trash");
    // A row refers to the runs that are to be moved.
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    let run = runs[0].id.to_string();
    database
        .execute_batch(&format!(
            "CREATE TABLE in_the_way (run_id TEXT REFERENCES runs (id)); INSERT INTO in_the_way VALUES ('{run}');"
        ))
        .unwrap();
    refused("the database failed to");
    check_repository(&forge, &runs, "rows in use");
    database.execute_batch("DROP TABLE in_the_way").unwrap();
    forge.ssh_ok("repo rm app --yes");
    check_trash(&forge, "nothing in the way");
}
