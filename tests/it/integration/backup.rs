//! Backups through the real command, and restoring them into another folder.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use quire_testkit::{TestForge, Tree, files_below, git_in, text, transcript, wait_for};
use quire_types::run::RunState;
use tempfile::TempDir;

use super::{GREEN, gate, one};
use crate::QUIRE;

/// Restores a backup into a new folder, and returns what the command says.
struct Restored {
    folder: TempDir,
    output: Output,
}

impl Restored {
    fn new(backup: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = restore_into(&folder.path().join("data"), backup);
        Self { folder, output }
    }

    #[track_caller]
    fn ok(backup: &[u8]) -> Self {
        let restored = Self::new(backup);
        assert!(
            restored.output.status.success(),
            "{}",
            transcript(&restored.output)
        );
        restored
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A forge on the restored folder, not running.
    fn forge(&self) -> TestForge {
        TestForge::at(QUIRE, self.folder.path(), self.data())
    }
}

fn restore_into(data: &Path, backup: &[u8]) -> Output {
    let mut command = Command::new(QUIRE)
        .arg("restore")
        .env("QUIRE_DATA", data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = command.stdin.take().unwrap();
    let backup = backup.to_owned();
    let writer = std::thread::spawn(move || {
        // The command may end before it has read everything.
        let _ = input.write_all(&backup);
    });
    let output = command.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

#[track_caller]
fn backup(forge: &TestForge) -> Vec<u8> {
    let output = forge.ssh("backup");
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

fn refs(data: &Path, repo: &str) -> String {
    let output = Command::new("git")
        .arg("--git-dir")
        .arg(data.join("repos").join(format!("{repo}.git")))
        .args(["for-each-ref", "--format=%(refname) %(objectname)"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", transcript(&output));
    text(&output.stdout)
}

/// The files below a folder, by their path in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = files_below(folder)
        .into_iter()
        .map(|path| {
            (
                path.strip_prefix(folder).unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// A forge with a repository that has another name now, a run with a log and an artifact, a tag, and keys.
fn seeded() -> TestForge {
    let forge = TestForge::start(QUIRE);
    let pipeline = r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh : artifact}] (sh "echo all is well; echo made > out") (artifact "out")))"#;
    let tree = forge.tree_with("app", pipeline);
    tree.push(&["main"]);
    tree.git_ok(&["tag", "-a", "v1", "-m", "one"]);
    tree.push(&["v1"]);
    let other = forge.tree_with("work/tool", GREEN);
    other.push(&["main", "main:refs/heads/trunk"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rename app work/shop");
    fs::create_dir_all(forge.paths.host_keys()).unwrap();
    fs::write(forge.paths.host_keys().join("host"), "a private key\n").unwrap();
    fs::write(forge.paths.authorized_keys(), "a public key\n").unwrap();
    forge
}

#[test]
fn a_restored_appliance_is_the_same_and_holds_its_runs() {
    let forge = seeded();
    let restored = Restored::ok(&backup(&forge));
    let said = text(&restored.output.stdout);
    let (_, after) = said.split_once(", as they were at ").unwrap();
    let time = after.lines().next().unwrap();
    insta::assert_snapshot!(said.replace(time, "TIME"), @"
    restored 2 repositories and 4 runs, as they were at TIME
    quire was running when the backup was made, so what ran after it is not known: no run starts until you decide
    start quire, then use `reconcile --adopt` to cancel the runs that waited, or `reconcile --run` to run them
    ");
    let (old, new) = (forge.paths.data(), restored.data());
    for repo in ["work/shop", "work/tool", "app"] {
        assert_eq!(refs(&new, repo), refs(old, repo));
    }
    for file in ["authorized_keys", "ssh/host"] {
        assert_eq!(
            fs::read(new.join(file)).unwrap(),
            fs::read(old.join(file)).unwrap()
        );
    }
    for folder in ["runs", "artifacts"] {
        assert_eq!(contents(&new.join(folder)), contents(&old.join(folder)));
    }
    let mut again = restored.forge();
    again.serve();
    assert_eq!(
        again.ssh_ok("run list --json"),
        forge.ssh_ok("run list --json")
    );
    let tree = again.tree("clone", "app");
    tree.git_ok(&["pull", "-q", "origin", "main"]);
    let sha = tree.push_new("after the restore");
    assert_eq!(again.newest("work/shop").sha.as_str(), sha);
    assert_eq!(again.newest("work/shop").state, RunState::Pending);
    assert!(again.ssh_ok("status").contains("reconcile"));
    again.ssh_ok("reconcile --run");
    again.end_of(again.newest("work/shop").id);
    again.check_whole();
}

#[test]
fn a_backup_of_a_stopped_appliance_goes_on_without_a_question() {
    let mut forge = seeded();
    assert!(forge.stop().success());
    let restored = Restored::ok(&backup(&forge));
    let mut again = restored.forge();
    again.serve();
    let tree = again.tree("clone", "work/tool");
    tree.git_ok(&["pull", "-q", "origin", "main"]);
    tree.push_new("after the move");
    again.wait_for_quiet();
    assert_eq!(again.newest("work/tool").state, RunState::Complete);
}

#[test]
fn a_run_that_waited_in_a_backup_does_not_run_twice() {
    let forge = TestForge::start(QUIRE);
    let deploys = forge.file("deploys");
    let held = gate(&forge.file("gate"));
    let deploy = format!("{held}; echo deployed >> {}", deploys.display());
    forge.tree_with("app", &one(&deploy)).push(&["main"]);
    wait_for("the run to start", || {
        forge.file("gate/started").exists().then_some(())
    });
    let backup = backup(&forge);
    fs::write(forge.file("gate/go"), "").unwrap();
    forge.wait_for_quiet();
    let restored = Restored::ok(&backup);
    let mut again = restored.forge();
    again.serve();
    again.ssh_ok("reconcile --adopt");
    again.wait_for_quiet();
    assert_eq!(fs::read_to_string(&deploys).unwrap(), "deployed\n");
}

#[test]
fn a_backup_that_is_cut_or_damaged_restores_nothing() {
    let forge = seeded();
    let backup = backup(&forge);
    let mut said = Vec::new();
    for length in [
        0,
        10,
        backup.len() / 4,
        backup.len() / 2,
        backup.len() - 9,
        backup.len() - 1,
    ] {
        let restored = Restored::new(&backup[..length]);
        assert!(
            !restored.output.status.success(),
            "{length} of {}",
            backup.len()
        );
        assert_eq!(text(&restored.output.stdout), "");
        assert!(!restored.data().join("repos").exists(), "{length}");
        said.push(text(&restored.output.stderr));
    }
    let mut damaged = backup.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    let restored = Restored::new(&damaged);
    assert!(!restored.output.status.success());
    assert!(!restored.data().join("repos").exists());
    said.push(text(
        &Restored::new(b"PK\x03\x04 this is a zip").output.stderr,
    ));
    said.dedup();
    insta::assert_snapshot!(said.join(""), @"
    quire: this is not a backup of quire: it is not a tar archive compressed with zstd
    quire: the backup is incomplete: it was cut off before its end
    quire: use another backup, or copy this one again; nothing was restored
    quire: this is not a backup of quire: it is not a tar archive compressed with zstd
    ");
}

/// A backup with one entry changed.
fn repacked(backup: &[u8], name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(backup).unwrap());
    let mut packed = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path == Path::new(name) {
            content = change(content);
            header.set_size(content.len() as u64);
        }
        match entry.link_name().unwrap() {
            Some(target) => packed.append_link(&mut header, path, target).unwrap(),
            None => packed.append_data(&mut header, path, &content[..]).unwrap(),
        }
    }
    packed.into_inner().unwrap().finish().unwrap()
}

/// Of another format, or with a database that this version does not know.
#[test]
fn a_backup_of_a_newer_version_restores_nothing() {
    let backup = backup(&seeded());
    let of_newer_format = repacked(&backup, "quire-backup.json", |text| {
        let mut header: serde_json::Value = serde_json::from_slice(&text).unwrap();
        header["format"] = 99.into();
        header["quire"] = "7.0.0".into();
        serde_json::to_vec(&header).unwrap()
    });
    let with_newer_database = repacked(&backup, "quire.db", |content| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let database = rusqlite::Connection::open(file.path()).unwrap();
        database
            .pragma_update(None, "journal_mode", "delete")
            .unwrap();
        database.pragma_update(None, "user_version", 4711).unwrap();
        database.close().unwrap();
        fs::read(file.path()).unwrap()
    });
    let mut said = Vec::new();
    for newer in [of_newer_format, with_newer_database] {
        let restored = Restored::new(&newer);
        assert_eq!(restored.output.status.code(), Some(1));
        assert!(!restored.data().join("repos").exists());
        let text = text(&restored.output.stderr);
        let text = text.replace(restored.data().to_str().unwrap(), "DATA");
        let up_to = "versions up to ";
        said.push(match text.split_once(up_to) {
            Some((before, known)) => {
                let rest = known.trim_start_matches(|digit: char| digit.is_ascii_digit());
                format!("{before}{up_to}N{rest}")
            }
            None => text,
        });
    }
    insta::assert_snapshot!(said.join(""));
    // Repacking alone is no reason.
    Restored::ok(&repacked(&backup, "none", |content| content));
}

#[test]
fn a_folder_that_is_in_use_stays_as_it_is() {
    let forge = seeded();
    let backup = backup(&forge);
    let data = forge.file("other");
    fs::create_dir_all(data.join("lost+found")).unwrap();
    fs::write(data.join("notes"), "mine").unwrap();
    let output = restore_into(&data, &backup);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr).replace(data.to_str().unwrap(), "DATA");
    insta::assert_snapshot!(said, @"
    quire: DATA is not empty: it contains `notes`
    quire: restore into a new volume or an empty folder, before quire is started on it; nothing was changed
    ");
    assert_eq!(fs::read_to_string(data.join("notes")).unwrap(), "mine");
    fs::remove_file(data.join("notes")).unwrap();
    assert!(restore_into(&data, &backup).status.success());
}

#[test]
fn an_interrupted_restore_is_completed() {
    let forge = seeded();
    let backup = backup(&forge);
    let restored = Restored::ok(&backup);
    // As a restore leaves it that was killed while it moved the folders.
    let data = restored.data();
    let staging = data.join(".restore");
    fs::create_dir_all(staging.join("data")).unwrap();
    fs::rename(data.join("quire.db"), staging.join("data/quire.db")).unwrap();
    let marker = r#"{"repos":2,"runs":3,"created_at_ms":1,"quire":"0.2.0","while_running":false,"problems":[]}"#;
    fs::write(staging.join("verified"), marker).unwrap();
    let output = restore_into(&data, b"");
    assert!(output.status.success(), "{}", transcript(&output));
    assert!(data.join("quire.db").exists() && !staging.exists());
    // As a restore leaves it that was killed while it unpacked.
    let other = restored.folder.path().join("other");
    fs::create_dir_all(other.join(".restore/data/repos")).unwrap();
    let output = restore_into(&other, &backup);
    assert!(output.status.success(), "{}", transcript(&output));
    assert_eq!(refs(&other, "work/tool"), refs(&data, "work/tool"));
}

/// Ends the threads that push.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_during_32_parallel_pushes_has_every_object_of_its_refs() {
    let forge = TestForge::start(QUIRE);
    let trees: Vec<Tree> = (0..32)
        .map(|n| {
            let tree = forge.tree(&format!("tree-{n}"), &format!("app-{}", n % 4));
            tree.write("file", &n.to_string());
            tree.commit("first");
            tree.push(&[&format!("main:refs/heads/branch-{n}")]);
            tree
        })
        .collect();
    let stop = AtomicBool::new(false);
    let backups = std::thread::scope(|scope| {
        for (n, tree) in trees.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    // Git rejects the same pack from two pushes at once.
                    tree.write("file", &format!("{n} {count}"));
                    tree.commit("another");
                    tree.push(&[&format!("main:refs/heads/branch-{n}")]);
                }
            });
        }
        // Also if a backup fails.
        let _stop = StopOnDrop(&stop);
        [(); 3].map(|()| backup(&forge))
    });
    for backup in backups {
        let restored = Restored::ok(&backup);
        for repo in ["app-0", "app-1", "app-2", "app-3"] {
            assert_eq!(refs(&restored.data(), repo).lines().count(), 8);
            let bare = restored.data().join("repos").join(format!("{repo}.git"));
            git_in(&bare, &["rev-list", "--objects", "--all"]);
        }
    }
}

#[test]
fn a_damaged_repository_is_named_and_the_others_are_restored() {
    let forge = seeded();
    let objects = forge.paths.repos().join("work/tool.git/objects");
    let pack = files_below(&objects)
        .into_iter()
        .find(|name| name.to_string_lossy().ends_with(".pack"))
        .unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let restored = Restored::new(&backup(&forge));
    assert_eq!(restored.output.status.code(), Some(1));
    let said = transcript(&restored.output);
    assert!(
        said.contains("the repository work/tool is damaged: "),
        "{said}"
    );
    assert_eq!(
        refs(&restored.data(), "work/shop"),
        refs(forge.paths.data(), "work/shop")
    );
}

#[test]
fn scheduled_backups_are_proved_and_pruned() {
    let mut forge = seeded();
    assert!(forge.stop().success());
    let folder = forge.file("backups");
    fs::write(
        forge.paths.config_fennel(),
        format!(
            "{{:backup {{:to {:?} :every \"1d\" :keep 1}}}}",
            folder.display().to_string()
        ),
    )
    .unwrap();
    forge.serve();
    let made = |count: usize| {
        let files: Vec<PathBuf> = fs::read_dir(&folder)
            .ok()?
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(".tar.zst"))
            .collect();
        (files.len() == count).then_some(files)
    };
    let files = wait_for("a backup", || made(1));
    let restored = Restored::ok(&fs::read(&files[0]).unwrap());
    assert_eq!(
        refs(&restored.data(), "app"),
        refs(forge.paths.data(), "app")
    );
    wait_for("health to know", || {
        let health = forge.health();
        let message = health["parts"]["backup"]["message"].as_str()?.to_owned();
        message
            .starts_with("the newest proved backup is")
            .then_some(())
    });
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn a_removed_repository_is_restored_from_the_trash_of_a_backup() {
    let forge = seeded();
    let runs = forge.ssh_ok("run list --repo work/shop --json");
    let before = refs(forge.paths.data(), "work/shop");
    forge.ssh_ok("repo rm work/shop --yes");
    let with_trash = backup(&forge);
    let restored = Restored::ok(&with_trash);
    let mut again = restored.forge();
    again.serve();
    assert_eq!(
        again.ssh_ok("repo list --trash --json"),
        forge.ssh_ok("repo list --trash --json")
    );
    again.ssh_ok("repo restore work/shop");
    assert_eq!(refs(again.paths.data(), "work/shop"), before);
    assert_eq!(again.ssh_ok("run list --repo work/shop --json"), runs);
    let run = again.newest("work/shop");
    assert!(
        again
            .ssh_ok(&format!("run logs {}", run.id))
            .contains("all is well")
    );
    let artifact = again.ssh_ok(&format!("run artifacts get {} out", run.id));
    assert_eq!(artifact, "made\n");
    again.check_whole();

    // Without it on request, and what is said to be in it has to be there.
    let output = forge.ssh("backup --no-trash");
    assert!(output.status.success(), "{}", transcript(&output));
    let restored = Restored::ok(&output.stdout);
    for path in files_below(&restored.data()) {
        assert!(
            !path.display().to_string().contains("trash"),
            "{}",
            path.display()
        );
    }
    // A repository that is damaged in the trash is named.
    let packs = files_below(&forge.paths.trash()).into_iter();
    let pack = packs.filter(|path| path.extension().is_some_and(|kind| kind == "pack"));
    for path in pack {
        fs::write(path, "no pack").unwrap();
    }
    let restored = Restored::new(&backup(&forge));
    let said = transcript(&restored.output);
    assert!(
        said.contains("the repository work/shop in the trash is damaged"),
        "{said}"
    );
}
