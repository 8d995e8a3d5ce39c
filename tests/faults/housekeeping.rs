//! Killed while it removes old runs: what was begun is finished by the next round, and nothing is left.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use quire_testkit::{TestForge, files_below};
use quire_types::run::RunState;

use crate::QUIRE;

const LINE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;

/// Every run folder has a row that does not say its files are gone, and every such row of an ended run has its folder.
fn check_rows_and_files(forge: &TestForge, point: &str) {
    let runs = forge.runs();
    for run in runs.iter().filter(|run| run.state == RunState::Complete) {
        let there = !files_below(&forge.run_folder(run)).is_empty();
        assert_eq!(there, run.logs_removed_at_ms.is_none(), "{point}: {run:?}");
    }
    let folders = fs::read_dir(forge.paths.runs_dir().join("app"))
        .unwrap()
        .count();
    assert_eq!(
        folders,
        runs.iter()
            .filter(|run| run.logs_removed_at_ms.is_none())
            .count(),
        "{point}"
    );
}

#[test]
fn the_server_killed_while_old_runs_go() {
    for (point, kept) in [
        ("housekeeping-noted", ":runs 2"),
        ("housekeeping-files-gone", ":runs 2"),
        ("housekeeping-noted", ":logs 150"),
    ] {
        let mut forge = TestForge::new(QUIRE);
        fs::write(forge.paths.config_fennel(), format!("{{:keep {{{kept}}}}}")).unwrap();
        forge.kill_once_at(point).serve();
        let tree = forge.tree_with("app", LINE);
        for _ in 0..6 {
            tree.push_new("next");
            forge.wait_for_quiet();
        }
        assert!(
            !forge.ssh("gc").status.success(),
            "{point}: nobody is left to answer"
        );
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{status}: {}", forge.log());
        assert!(forge.came_to_fault_point(), "{point}");
        forge.serve();
        let printed = forge.ssh_ok("gc");
        println!("{point}, {kept}: {printed}");
        check_rows_and_files(&forge, point);
        assert_eq!(
            forge.runs().len(),
            if kept == ":runs 2" { 2 } else { 6 },
            "{point}: {printed}"
        );
        assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
        forge.check_whole();
        tree.push_new("as ever");
        forge.wait_for_quiet();
    }
}
