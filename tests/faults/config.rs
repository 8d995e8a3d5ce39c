//! A configuration file that is changed by a command that is killed, and on a full disk.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use quire_testkit::{TestForge, transcript};

use super::mounts::on_a_small_disk;
use super::settled_well;
use crate::QUIRE;

const FILE: &str = "; mine\n{:ci {:pids 77}}\n";

#[test]
fn a_command_that_is_killed_leaves_the_old_or_the_new_file() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), FILE).unwrap();
    forge.serve();
    let file = |forge: &TestForge| fs::read_to_string(forge.paths.config_fennel()).unwrap();
    let mut expected = FILE.to_owned();
    for (value, point, is_written) in [
        ("78", "operation-begun", false),
        ("78", "config-edited", false),
        ("78", "config-drafted", false),
        ("79", "config-written", true),
        ("80", "operation-acted", true),
    ] {
        let before = expected.clone();
        let killed = Command::new(forge.file("client/ssh"))
            .arg(format!("config set ci.pids {value}"))
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
        if is_written {
            expected = format!("; mine\n{{:ci {{:pids {value}}}}}\n");
        }
        assert_eq!(file(&forge), expected, "{point}");
        // The server, which was not told, starts with it and with no other.
        assert!(forge.stop().success());
        forge.serve();
        let shown = forge.ssh_ok("config show --set");
        let pids = expected
            .split(":pids ")
            .nth(1)
            .unwrap()
            .split('}')
            .next()
            .unwrap();
        let line = shown
            .lines()
            .find(|line| line.starts_with("ci.pids"))
            .unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(pids), "{point}");
        // The log says that it was begun, and it can be undone as far as it came.
        let log: serde_json::Value =
            serde_json::from_str(&forge.ssh_ok("log --json --limit 1")).unwrap();
        let row = &log["operations"][0];
        assert_eq!(row["state"], "begun", "{point}");
        let undone = forge.ssh(&format!("undo {}", row["id"]));
        assert_eq!(
            undone.status.success(),
            is_written,
            "{point}: {}",
            transcript(&undone)
        );
        expected = before;
        assert_eq!(file(&forge), expected, "{point}");
    }
    settled_well(&forge);
}

#[test]
fn a_full_disk_leaves_the_file_and_the_next_command_succeeds() {
    let test = "config::a_full_disk_leaves_the_file_and_the_next_command_succeeds";
    let Some(disk) = on_a_small_disk(test, 32) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(QUIRE, folder.path(), disk.join("data"));
    // Larger than what is left in the blocks of a full disk.
    let large = format!("{FILE}{}", "; a comment\n".repeat(4096));
    fs::write(forge.paths.config_fennel(), &large).unwrap();
    forge.serve();
    let mut ballast = File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[0xa5; 4096]).is_ok() {}
    let refused = forge.ssh("config set ci.pids 78");
    let text = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("so nothing was changed"), "{text}");
    assert_eq!(
        fs::read_to_string(forge.paths.config_fennel()).unwrap(),
        large
    );
    assert!(!forge.paths.data().join(".config.fnl.new").exists());
    drop(ballast);
    fs::remove_file(disk.join("ballast")).unwrap();
    forge.ssh_ok("config set ci.pids 78");
    let expected = large.replace("77", "78");
    assert_eq!(
        fs::read_to_string(forge.paths.config_fennel()).unwrap(),
        expected
    );
}
