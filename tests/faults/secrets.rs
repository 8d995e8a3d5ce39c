//! Keys and secrets that are changed while the disk is full, and by commands that are killed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use quire_testkit::{TestForge, generate_key, stdout, transcript};

use super::mounts::on_a_small_disk;
use crate::QUIRE;

/// Runs a command on the machine itself, with this on its standard input, and killed at a point.
fn quire(forge: &TestForge, words: &[&str], input: &str, point: &str) -> Output {
    let mut command = forge.quire(words);
    command.env("QUIRE_FAULT", point).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The length of the value of the secret, as a run sees it.
#[track_caller]
fn length_in_a_run(forge: &TestForge, repo: &str) -> usize {
    let pipeline = "(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: secret}] {:length (length (secret :token))}))\n";
    forge.tree_with(repo, pipeline).push(&["main"]);
    let run = forge.end_of(forge.newest(repo).id);
    let job = forge.jobs(run.id).remove(0);
    let output = job.output.unwrap_or_else(|| panic!("{:?}", job.message));
    usize::try_from(output["length"].as_u64().unwrap()).unwrap()
}

#[test]
fn a_killed_command_leaves_the_old_or_the_new_secret() {
    let forge = TestForge::start(QUIRE);
    // The first one makes the key as well.
    let killed = quire(
        &forge,
        &["secret", "set", "token"],
        &"a".repeat(20),
        "secret-key-ready",
    );
    assert_eq!(killed.status.code(), None, "{}", transcript(&killed));
    assert!(forge.paths.secrets_key().exists());
    assert!(forge.store().secrets().list().unwrap().is_empty());
    let set = quire(&forge, &["secret", "set", "token"], &"a".repeat(20), "");
    assert!(set.status.success(), "{}", transcript(&set));
    let mut length = 20;
    assert_eq!(length_in_a_run(&forge, "first"), length);
    for (index, (words, point)) in [
        (&["secret", "set", "token"][..], "secret-key-ready"),
        (&["secret", "set", "token"], "secret-stored"),
        (&["secret", "rotate-key"], "secret-key-added"),
        (&["secret", "rotate-key"], "secret-values-rotated"),
    ]
    .into_iter()
    .enumerate()
    {
        let value = "b".repeat(30 + index);
        let killed = quire(&forge, words, &value, point);
        assert_eq!(killed.status.code(), None, "{}", transcript(&killed));
        if point == "secret-stored" {
            length = value.len();
        }
        assert_eq!(
            length_in_a_run(&forge, &format!("r{index}")),
            length,
            "{point}"
        );
        // What was begun can be done.
        let rotated = quire(&forge, &["secret", "rotate-key"], "", "");
        assert!(rotated.status.success(), "{}", transcript(&rotated));
        let keys = fs::read_to_string(forge.paths.secrets_key()).unwrap();
        assert_eq!(keys.lines().count(), 2, "one key and a comment: {point}");
    }
    assert_eq!(length_in_a_run(&forge, "last"), length);
}

/// Takes all the space of a disk.
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("ballast")).unwrap();
    while file.write_all(&[0xa5; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_changes_neither_keys_nor_secrets() {
    let test = "secrets::a_full_disk_changes_neither_keys_nor_secrets";
    let Some(disk) = on_a_small_disk(test, 32) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(QUIRE, folder.path(), disk.join("data"));
    forge.serve();
    let [first, other, second] =
        ["first", "other", "second"].map(|name| generate_key(&forge.file(name), name));
    for (words, input) in [
        (&["key", "add"][..], first.as_str()),
        (&["key", "add"], other.as_str()),
        (&["secret", "set", "token"], "hunter22hunter22"),
    ] {
        let done = quire(&forge, words, input, "");
        assert!(done.status.success(), "{}", transcript(&done));
    }
    let state = || {
        let keys = fs::read_to_string(forge.paths.authorized_keys()).unwrap();
        let key = fs::read_to_string(forge.paths.secrets_key()).unwrap();
        (keys, key, forge.store().secrets().list().unwrap())
    };
    let before = state();
    fill(&disk);
    let large = "x".repeat(1 << 20);
    for (words, input) in [
        (&["key", "add"][..], second.as_str()),
        (&["key", "rm", "first", "--yes"], ""),
        (&["secret", "set", "token"], &large),
        (&["secret", "set", "other"], &large),
        (&["secret", "rotate-key"], ""),
    ] {
        let refused = quire(&forge, words, input, "");
        assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
        assert_eq!(stdout(&refused), "");
        assert_eq!(state(), before, "{words:?}");
    }
    fs::remove_file(disk.join("ballast")).unwrap();
    let done = quire(&forge, &["secret", "set", "other"], &large, "");
    assert!(done.status.success(), "{}", transcript(&done));
}
