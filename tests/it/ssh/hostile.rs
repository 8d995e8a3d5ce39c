//! The border of a session: a table of commands that no session has, and what each of them leaves behind, which is nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quire_testkit::{TestForge, stderr, stdout, transcript};

use crate::QUIRE;

/// One command a line, as a string of JSON.
const COMMANDS: &str = include_str!("hostile_commands.jsonl");
/// How many there are at least.
const MIN_COMMANDS: usize = 200;

/// Every file and folder below a folder, with the content of files.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder {
                folders.push(entry.path());
            }
            let content = fs::read(entry.path()).ok().filter(|_| !is_folder);
            found.insert(entry.path(), content);
        }
    }
    found
}

#[test]
fn each_of_a_table_of_hostile_commands_does_nothing() {
    let commands: Vec<String> = COMMANDS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(commands.len() >= MIN_COMMANDS, "{}", commands.len());
    let forge = TestForge::new(QUIRE);
    forge.ssh_ok("repo new app");
    let folder = forge.file("");
    let before = everything(&folder);
    for command in &commands {
        let output = forge.ssh(command);
        assert_eq!(
            output.status.code(),
            Some(128),
            "{command:?}: {}",
            transcript(&output)
        );
        assert_eq!(stdout(&output), "", "{command:?}");
        let reply = stderr(&output);
        assert!(
            (1..=2).contains(&reply.lines().count()) && reply.starts_with("quire: "),
            "{command:?}: {reply}"
        );
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(reply.chars().all(is_plain), "{command:?}: {reply:?}");
        assert!(reply.len() < 2000, "{command:?}: {}", reply.len());
    }
    let after = everything(&folder);
    let changed: Vec<_> = after
        .iter()
        .filter(|(path, content)| before.get(*path) != Some(content))
        .map(|(path, _)| path)
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(before.len(), after.len());
}
