//! A disk that is full, at a push, under a run and at each border of one; that turns read-only; that is slow.
//!
//! The data lie on a small tmpfs in a mount namespace of the test's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::run::{Run, RunState};

use super::mounts::{Ballast, Disk, is_root, on_a_small_disk, within};
use super::{refs, settled_well};
use crate::QUIRE;

/// A forge whose data lie on the disk.
fn forge_on(disk: &Path) -> (tempfile::TempDir, TestForge) {
    let folder = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(QUIRE, folder.path(), disk.join("data"));
    forge.serve();
    (folder, forge)
}

/// Sends an object of zeros, and does something when a third of it is sent.
fn upload(forge: &TestForge, size: usize, meanwhile: impl FnOnce()) -> String {
    let mut session = forge
        .quire(&["exec"])
        .env("SSH_ORIGINAL_COMMAND", "git-lfs-transfer app upload")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = session.stdin.take().unwrap();
    let line = |text: &str| format!("{:04x}{text}\n", text.len() + 5);
    let head = [
        line(&format!("put-object {ZEROS}")),
        line(&format!("size={size}")),
    ];
    write!(input, "{}0001", head.concat()).unwrap();
    let packet = [b"8004".to_vec(), vec![0; 0x8000]].concat();
    let count = size / 0x8000;
    for _ in 0..count / 3 {
        input.write_all(&packet).unwrap();
    }
    meanwhile();
    for _ in count / 3..count {
        input.write_all(&packet).unwrap();
    }
    input.write_all(b"0000").unwrap();
    drop(input);
    let ended = session.wait_with_output().unwrap();
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// `head -c 6291456 /dev/zero | sha256sum`
const ZEROS: &str = "b69dae56a14d1a8314ed40664c4033ea0a550eea2673e04df42a66ac6b9faf2c";

#[test]
fn a_full_disk_at_an_upload_of_git_lfs() {
    let Some(disk) = on_a_small_disk("disk::a_full_disk_at_an_upload_of_git_lfs", 32) else {
        return;
    };
    let (_folder, forge) = forge_on(&disk);
    forge
        .tree_with("app", super::LEAVES_A_PROCESS)
        .push(&["main"]);
    forge.wait_for_quiet();
    let lfs = forge.paths.repos().join("app.git/lfs");
    let mut ballast = None;
    let answer = upload(&forge, 6 << 20, || ballast = Some(Ballast::all(&disk)));
    assert!(
        answer.contains("status 507") && answer.contains("the disk is full; nothing was stored"),
        "{answer}"
    );
    assert_eq!(fs::read_dir(lfs.join("tmp")).unwrap().count(), 0);
    fs::remove_file(disk.join("ballast")).unwrap();
    drop(ballast);
    let answer = upload(&forge, 6 << 20, || {});
    assert!(answer.contains("status 200"), "{answer}");
}

#[test]
fn a_full_disk_at_a_push() {
    let Some(disk) = on_a_small_disk("disk::a_full_disk_at_a_push", 16) else {
        return;
    };
    let (_folder, mut forge) = forge_on(&disk);
    let tree = forge.tree_with("app", super::LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let mut ballast = Ballast::all(&disk);
    let (mut refused, mut warned, mut accepted) = (0, 0, Vec::new());
    // From no space at all, page by page, to enough: each push is refused, or it counts.
    while accepted.len() < warned + 3 {
        let commit = tree.commit("more");
        let branch = format!("main:b{}", refused + accepted.len());
        let pushed = tree.git(&["push", "origin", &branch]);
        let reply = transcript(&pushed);
        if pushed.status.success() {
            accepted.push(commit);
            warned += usize::from(
                reply.contains("quire: warning: push accepted, but its event could not be written"),
            );
        } else {
            refused += 1;
            assert!(
                [
                    "No space left on device",
                    "unable to write",
                    "couldn't write",
                    "Out of diskspace"
                ]
                .iter()
                .any(|why| reply.contains(why)),
                "{reply}"
            );
        }
        assert_eq!(
            forge.get("/healthz").json()["version"],
            env!("CARGO_PKG_VERSION"),
            "health answers"
        );
        // One that gets as far as its ref, or is taken without its event, leaves its pack: in time each is to find more.
        ballast.give(1 + (refused + accepted.len()) as u64 / 10);
        assert!(
            ballast.size > 0,
            "no push was taken with all the space in the world: {reply}"
        );
    }
    println!(
        "{refused} refused, {} accepted, of which {warned} without event",
        accepted.len()
    );
    assert!(refused > 0);
    // Space again: what was taken has its run, after a start at the latest.
    ballast.give(u64::MAX / Ballast::PAGE);
    wait_for("the spool to be taken", || {
        forge.spooled().is_empty().then_some(())
    });
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    forge.serve();
    wait_for("the missing runs", || {
        (forge.runs().len() > accepted.len()).then_some(())
    });
    settled_well(&forge);
    let runs = forge.runs();
    for commit in &accepted {
        assert!(
            runs.iter()
                .any(|run| run.sha.as_str() == commit && run.state == RunState::Complete),
            "{commit}: {runs:?}"
        );
    }
    assert_eq!(
        refs(&forge).len(),
        accepted.len() + 1,
        "no ref of a push that was refused"
    );
    tree.push_new("as ever");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
}

#[test]
fn a_full_disk_under_a_run() {
    let Some(disk) = on_a_small_disk("disk::a_full_disk_under_a_run", 32) else {
        return;
    };
    let (_folder, forge) = forge_on(&disk);
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let tree = forge.tree("app", "app");
    let (started, go) = (gate.join("started"), gate.join("go"));
    let script = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.01; done; head -c 40000000 /dev/zero | tr '\\\\0' x | fold -w 99; touch {}",
        started.display(),
        go.display(),
        gate.join("done").display()
    );
    tree.write(
        ".quire/ci.fnl",
        &format!(
            r#"(local ci (require :quire.ci))
(ci.job :loud [:quire/push] (fn [{{: sh}}] (sh "{script}")))
"#
        ),
    );
    tree.push_new("loud");
    let run = forge.newest("app");
    wait_for("the command", || started.exists().then_some(()));
    // Its log needs more than there is.
    fs::write(&go, "").unwrap();
    wait_for("its end, or the disk's", || {
        (gate.join("done").exists() || forge.run(run.id).state.is_final()).then_some(())
    });
    assert_eq!(
        forge.get("/healthz").json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    // The log is what filled it; a person makes room.
    let log = forge.run_folder(&run).join("jobs/loud/1.log");
    println!(
        "the log has {} bytes, the run is {}",
        fs::metadata(&log).map_or(0, |log| log.len()),
        forge.run(run.id).state
    );
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    let run = forge.end_of(run.id);
    println!("{run:?}");
    tree.write(".quire/ci.fnl", super::LEAVES_A_PROCESS);
    tree.push_new("as ever");
    settled_well(&forge);
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[test]
fn a_full_disk_at_each_border_of_a_run() {
    let Some(disk) = on_a_small_disk("disk::a_full_disk_at_each_border_of_a_run", 16) else {
        return;
    };
    for (nth, (point, _)) in super::points::SERVER_POINTS.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let data = disk.join(format!("data-{nth}"));
        let mut forge = TestForge::at(QUIRE, folder.path(), data.clone());
        forge.stop_once_at(point).serve();
        let tree = forge.tree_with("app", super::LEAVES_A_PROCESS);
        tree.push(&["main"]);
        wait_for(point, || is_stopped(forge.pid()).then_some(()));
        let mut ballast = Ballast::all(&disk);
        forge.signal(Signal::SIGCONT);
        // Until it has noticed: the run has ended all the same, or something says that it cannot.
        let noticed = || {
            let ended = forge.runs().first().is_some_and(|run| run.state.is_final());
            ended || forge.log().contains("full") || forge.log().contains("No space left")
        };
        wait_for("it to notice", || noticed().then_some(()));
        assert_eq!(
            forge.get("/healthz").json()["version"],
            env!("CARGO_PKG_VERSION"),
            "health answers"
        );
        ballast.give(u64::MAX / Ballast::PAGE);
        super::settled(&forge);
        let bug = |run: &Run| {
            run.message
                .as_deref()
                .is_some_and(|message| message.contains("internal error"))
        };
        assert!(
            !forge.runs().iter().any(bug),
            "a full disk is no bug: {:?}",
            forge.runs()
        );
        println!(
            "{point}: {:?}",
            forge
                .runs()
                .iter()
                .map(|run| (run.state, run.message.clone()))
                .collect::<Vec<_>>()
        );
        tree.push_new("as ever");
        assert_eq!(
            forge.end_of(forge.newest("app").id).state,
            RunState::Complete
        );
        assert!(forge.stop().success());
        fs::remove_dir_all(data).unwrap();
    }
}

#[test]
fn a_disk_that_turns_read_only() {
    if !is_root() {
        return;
    }
    let Some(folder) = within("disk::a_disk_that_turns_read_only") else {
        return;
    };
    let disk = Disk::new(&folder, "errors=remount-ro");
    let outside = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(QUIRE, outside.path(), disk.folder.join("data"));
    forge.serve();
    let (tree, gate) = super::points::held(&forge);
    disk.fail();
    let refused = tree.git(&["push", "origin", "main:other"]);
    assert!(
        !refused.status.success()
            && transcript(&refused).contains("unable to create temporary object directory"),
        "{}",
        transcript(&refused)
    );
    tree.git_ok(&["ls-remote", "origin"]);
    let tells = || {
        Some(forge.health()["parts"]["disk"].clone()).filter(|part| {
            part["message"]
                == "the volume cannot be written: read-only filesystem or storage medium"
        })
    };
    wait_for("health to tell", || {
        tells().filter(|part| part["status"] == "down")
    });
    assert_eq!(
        (forge.get("/readyz").status, forge.get("/").status),
        (503, 200)
    );
    fs::write(gate.join("go"), "").unwrap();
    // It ends in time although it may not be able to write, and a sound disk is all it needs.
    assert!(forge.stop().success(), "{}", forge.log());
    super::power::end_all(&forge);
    disk.unmount();
    disk.repair();
    disk.mount();
    forge.serve();
    settled_well(&forge);
    assert!(forge.stop().success());
    drop(forge);
    disk.unmount();
}

#[test]
fn a_disk_that_takes_half_a_second_to_sync() {
    let forge = TestForge::start(QUIRE);
    let trees: Vec<_> = (0..3)
        .map(|at| forge.tree_with(&format!("app-{at}"), super::LEAVES_A_PROCESS))
        .collect();
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "signal=none",
        "-e",
        "trace=fsync,fdatasync",
    ]);
    strace.args([
        "-e",
        "inject=fsync,fdatasync:delay_enter=500000",
        "-p",
        &forge.pid().to_string(),
    ]);
    let mut strace = strace.spawn().unwrap();
    wait_for("the tracer", || {
        let status = fs::read_to_string(format!("/proc/{}/status", forge.pid())).unwrap();
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    for tree in &trees {
        tree.push(&["main"]);
        tree.push_new("second");
        assert_eq!(forge.get("/healthz").status, 200);
    }
    wait_for("the runs", || {
        (forge.runs().len() == 2 * trees.len()).then_some(())
    });
    forge.wait_for_quiet();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(strace.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    strace.wait().unwrap();
    settled_well(&forge);
}
