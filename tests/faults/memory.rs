//! Little memory, as a container has it: a cgroup that bounds the server with its drivers and commands.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_testkit::{TestForge, wait_for, wait_until};
use quire_types::names::RunId;
use quire_types::run::RunState;

use super::mounts::is_root;
use super::settled_well;
use crate::QUIRE;

const LIMIT: u64 = 64 << 20;

/// A cgroup with a limit on memory and no swap, of whichever version the machine has; it goes when it is dropped.
struct Cgroup {
    folder: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    fn new(limit: u64) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let name = format!("quire-test-{}", std::process::id());
        let folder = if is_v2 {
            root.join(name)
        } else {
            root.join("memory").join(name)
        };
        if is_v2 {
            // Says it again where it is so already.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        }
        fs::create_dir(&folder).unwrap_or_else(|error| {
            panic!("no cgroup can be made at {}: {error}", folder.display())
        });
        let group = Self { folder, is_v2 };
        let (most, swap, none) = if is_v2 {
            ("memory.max", "memory.swap.max", "0".to_owned())
        } else {
            (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                limit.to_string(),
            )
        };
        fs::write(group.folder.join(most), limit.to_string()).unwrap();
        // Missing where the kernel does not account for swap.
        let _ = fs::write(group.folder.join(swap), none);
        group
    }

    fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    fn number(&self, file: &str, key: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        let found = text.lines().find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        });
        found.unwrap_or_else(|| panic!("{file} has no {key}: {text}"))
    }

    /// How many processes the kernel has killed for want of memory.
    fn kills(&self) -> u64 {
        self.number(
            if self.is_v2 {
                "memory.events"
            } else {
                "memory.oom_control"
            },
            "oom_kill",
        )
    }

    /// What cannot be dropped and read again: all but the page cache, which grows to whatever limit there is.
    fn anonymous(&self) -> u64 {
        self.number("memory.stat", if self.is_v2 { "anon" } else { "total_rss" })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes may be just about to end.
        let gone = wait_until(Duration::from_secs(10), || {
            fs::remove_dir(&self.folder).is_ok().then_some(())
        });
        assert!(
            gone.is_some() || std::thread::panicking(),
            "{} stays",
            self.folder.display()
        );
    }
}

/// Somebody who follows a run; what comes is read where `reads` says so.
fn follow(forge: &TestForge, id: RunId, reads: bool) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", forge.port)).unwrap();
    write!(
        &stream,
        "GET /runs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    if reads {
        let mut reader = stream.try_clone().unwrap();
        // It ends with the connection.
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    }
    stream
}

#[test]
fn a_job_that_prints_a_gigabyte_in_a_cgroup_of_64_mebibytes() {
    if !is_root() {
        return;
    }
    let group = Cgroup::new(LIMIT);
    let mut forge = TestForge::new(QUIRE);
    // Threads that the machine has many processors for would take the memory that is to be short.
    forge
        .set("TOKIO_WORKER_THREADS", "2")
        .start_within(&group.processes());
    forge.serve();
    let script = "head -c 1000000000 /dev/zero | tr '\\\\0' x | fold -w 127";
    let pipeline = format!(
        r#"(local ci (require :quire.ci))
(ci.job :loud [:quire/push] (fn [{{: sh}}] (sh "{script}")))
"#
    );
    let tree = forge.tree_with("app", &pipeline);
    // Alone, and with people who follow it: some read, some do not.
    for followers in [0, 8] {
        tree.push_new("more");
        let id = forge.newest("app").id;
        let people: Vec<TcpStream> = (0..followers)
            .map(|nth| follow(&forge, id, nth % 2 == 0))
            .collect();
        let mut most = 0;
        let ended = wait_until(Duration::from_secs(240), || {
            most = most.max(group.anonymous());
            let inside = fs::read_to_string(group.processes()).unwrap();
            assert!(
                inside.lines().any(|pid| pid == forge.pid().to_string()),
                "the server has left its cgroup, or is dead: {}",
                forge.log()
            );
            Some(forge.run(id)).filter(|run| run.state.is_final())
        });
        let ended = ended.unwrap_or_else(|| panic!("it never ended: {}", forge.log()));
        println!(
            "{followers} followers: {} MiB at most beside the page cache",
            most >> 20
        );
        assert_eq!(
            (ended.state, group.kills()),
            (RunState::Complete, 0),
            "{ended:?}\n{}",
            forge.log()
        );
        drop(people);
        wait_for("it to answer", || {
            forge
                .try_get("/healthz")
                .filter(|answer| answer.status == 200)
        });
    }
    settled_well(&forge);
    assert!(forge.stop().success());
}
