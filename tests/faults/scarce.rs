//! Little memory, no file descriptors, more runs than anybody waits for, a clock that jumps, and a
//! repository that goes while its run is active.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::names::RunId;
use quire_types::run::{FailureKind, RunState};
use rusqlite::params;

use super::mounts::run;
use super::points::{held, waits};
use super::{LEAVES_A_PROCESS, settled, settled_well};
use crate::QUIRE;

fn limit(forge: &TestForge, resource: &str) {
    run("prlimit", &["--pid", &forge.pid().to_string(), resource]);
}

#[test]
fn a_job_that_prints_a_gigabyte_to_a_server_with_64_mebibytes() {
    let mut forge = TestForge::new(QUIRE);
    // Threads that the machine has many processors for would take the memory that is to be short.
    forge.set("TOKIO_WORKER_THREADS", "2").serve();
    limit(&forge, "--data=67108864");
    let script = "head -c 1000000000 /dev/zero | tr '\\\\0' x | fold -w 127";
    let pipeline = format!(
        r#"(local ci (require :quire.ci))
(ci.job :loud [:quire/push] (fn [{{: sh}}] (sh "{script}")))
"#
    );
    forge.tree_with("app", &pipeline).push(&["main"]);
    let id = forge.newest("app").id;
    // Somebody follows it, and reads nothing.
    let follower = TcpStream::connect(("127.0.0.1", forge.port)).unwrap();
    std::io::Write::write_all(
        &mut &follower,
        format!("GET /runs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let ended = quire_testkit::wait_until(Duration::from_secs(180), || {
        Some(forge.run(id)).filter(|run| run.state.is_final())
    });
    let ended = ended.unwrap_or_else(|| panic!("it never ended: {}", forge.log()));
    assert_eq!(
        ended.state,
        RunState::Complete,
        "{ended:?}\n{}",
        forge.log()
    );
    drop(follower);
    let log = fs::read(forge.run_folder(&ended).join("jobs/loud/1.log")).unwrap();
    assert!(
        String::from_utf8_lossy(&log[log.len() - 500..])
            .contains("the log of this run has reached its limit of 256 MiB")
    );
    let status = fs::read_to_string(format!("/proc/{}/status", forge.pid())).unwrap();
    println!(
        "{}",
        status
            .lines()
            .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmData"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    settled_well(&forge);
}

#[test]
fn no_file_descriptors() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", forge.pid()))
            .unwrap()
            .count()
    };
    for more in [0, 1, 2, 4, 8] {
        let all = open();
        limit(&forge, &format!("--nofile={}:", all + more));
        // Clients that come and stay take what is left.
        let idle: Vec<TcpStream> = (0..16)
            .map(|_| TcpStream::connect(("127.0.0.1", forge.port)).unwrap())
            .collect();
        let commit = tree.push_new(&format!("with {more} more"));
        // It is refused for a while, or its run ends in words: that is up to what was missing.
        let ended = quire_testkit::wait_until(Duration::from_secs(4), || {
            forge
                .runs()
                .into_iter()
                .find(|run| run.sha.as_str() == commit && run.state.is_final())
        });
        drop(idle);
        limit(&forge, "--nofile=1024:");
        wait_for("it to answer again", || {
            forge
                .try_get("/healthz")
                .filter(|answer| answer.status == 200)
        });
        let run = wait_for("the run", || {
            forge
                .runs()
                .into_iter()
                .find(|run| run.sha.as_str() == commit && run.state.is_final())
        });
        println!(
            "{more} more: {}meanwhile, {} {:?}",
            if ended.is_some() { "" } else { "nothing " },
            run.state,
            run.message
        );
    }
    tree.push_new("as ever");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    settled(&forge);
}

#[test]
fn ten_thousand_runs_wait_at_the_start() {
    const RUNS: usize = 10_000;
    let mut forge = TestForge::new(QUIRE);
    // Or housekeeping would take the ended ones away while they are counted.
    fs::write(forge.paths.config_fennel(), "{:keep {:runs 100000}}").unwrap();
    forge.serve();
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    let first = forge.end_of(forge.newest("app").id);
    assert!(forge.stop().success());
    let mut database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    let seed = database.transaction().unwrap();
    for nth in 0..RUNS {
        // Some of another branch, which nothing newer replaces.
        let ref_name = if nth % 1000 == 0 {
            format!("refs/heads/other-{nth}")
        } else {
            "refs/heads/main".to_owned()
        };
        let insert = "INSERT INTO runs (id, repo, number, ref_name, sha, \"trigger\", state, pushed_at_ms, queued_at_ms) \
                      VALUES (?1, 'app', ?5, ?2, ?3, 'push', 'pending', ?4, ?4)";
        seed.execute(
            insert,
            params![
                RunId::new().to_string(),
                ref_name,
                first.sha.as_str(),
                first.queued_at_ms.0,
                100_000 + i64::try_from(nth).unwrap()
            ],
        )
        .unwrap();
    }
    seed.commit().unwrap();
    drop(database);
    forge.serve();
    assert_eq!(forge.get("/healthz").status, 200);
    assert_eq!(forge.get("/").status, 200);
    let waiting =
        |forge: &TestForge| forge.health()["parts"]["queue"]["figure"]["pending"].as_u64();
    assert!(
        waiting(&forge).is_some_and(|count| count > RUNS as u64 / 2),
        "{}",
        forge.health()
    );
    assert!(forge.ssh_ok("run list").contains("pending"));
    // A newer push takes the place of what waits for its branch; the others have their turn.
    tree.push_new("newer");
    settled_well(&forge);
    let runs = forge.runs();
    assert_eq!(runs.len(), RUNS + 2);
    let count = |state: RunState| runs.iter().filter(|run| run.state == state).count();
    println!(
        "{} complete, {} superseded",
        count(RunState::Complete),
        count(RunState::Superseded)
    );
    assert!(count(RunState::Superseded) > RUNS / 2 && count(RunState::Complete) >= 11);
    let others = runs
        .iter()
        .filter(|run| run.ref_name.short().starts_with("other-"));
    assert!(
        others.clone().count() == RUNS / 1000
            && others.clone().all(|run| run.state == RunState::Complete)
    );
}

#[test]
fn a_clock_that_jumps() {
    const HOUR: i64 = 3600 * 1000;
    let mut forge = TestForge::new(QUIRE);
    let clock = forge.file("clock");
    fs::write(&clock, "0").unwrap();
    forge
        .set("QUIRE_FAULT_CLOCK", clock.to_str().unwrap())
        .serve();
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let tree = forge.tree_with("app", &waits(&gate));
    // Back an hour, forward a year, and back again: under a run, while one waits, and between two runs.
    for (nth, offset) in [-HOUR, 365 * 24 * HOUR, 0].into_iter().enumerate() {
        tree.push_new(&format!("jump {nth}"));
        let run = forge.newest("app");
        wait_for("the command", || {
            gate.join("started").exists().then_some(())
        });
        let other = forge.tree_with(&format!("other-{nth}"), LEAVES_A_PROCESS);
        other.push(&["main"]);
        fs::write(&clock, offset.to_string()).unwrap();
        other.push_new("after the jump");
        fs::write(gate.join("go"), "").unwrap();
        let run = forge.end_of(run.id);
        assert_eq!(run.state, RunState::Complete, "{run:?}\n{}", forge.log());
        assert!(
            run.finished_at_ms >= run.started_at_ms && run.started_at_ms >= Some(run.queued_at_ms),
            "{run:?}"
        );
        for page in [
            "/".to_owned(),
            format!("/runs/{}", run.id),
            "/healthz".to_owned(),
            "/metrics".to_owned(),
        ] {
            assert_eq!(forge.get(&page).status, 200, "{page}");
        }
        fs::remove_file(gate.join("go")).unwrap();
        fs::remove_file(gate.join("started")).unwrap();
        // Whatever the time, it starts, and finds nothing to run again.
        forge.wait_for_quiet();
        assert!(forge.stop().success());
        forge.serve();
    }
    let count = forge.runs().len();
    settled_well(&forge);
    assert_eq!(forge.runs().len(), count);
    for run in forge.runs() {
        for job in forge.jobs(run.id) {
            assert!(job.finished_at_ms >= job.started_at_ms, "{job:?}");
        }
    }
}

#[test]
fn a_repository_removed_while_its_run_is_active() {
    let forge = TestForge::start(QUIRE);
    let (tree, gate) = held(&forge);
    let run = forge.newest("app");
    // One more waits behind it.
    tree.push(&["main:other", "main:third", "main:fourth"]);
    forge.ssh_ok("repo rm app --yes");
    assert!(
        !forge.paths.repo(&run.repo).exists() && !forge.paths.repo_runs_dir(&run.repo).exists()
    );
    wait_for("its runs to go", || forge.runs().is_empty().then_some(()));
    settled(&forge);
    // A new one of the same name begins afresh.
    fs::write(gate.join("go"), "").unwrap();
    tree.push(&["main"]);
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    settled_well(&forge);
}

#[test]
fn a_repository_that_vanishes_under_its_run() {
    let forge = TestForge::start(QUIRE);
    let (_tree, gate) = held(&forge);
    let run = forge.newest("app");
    // By hand, behind quire's back.
    fs::remove_dir_all(forge.paths.repo(&run.repo)).unwrap();
    fs::write(gate.join("go"), "").unwrap();
    assert_eq!(
        forge.end_of(run.id).state,
        RunState::Complete,
        "what it needed was taken out before"
    );
    // One that had not begun ends in words.
    let retried = forge.ssh(&format!("run retry {}", run.id));
    assert!(retried.status.success(), "{}", transcript(&retried));
    let again = forge.end_of(forge.newest("app").id);
    assert_eq!(
        (again.state, again.failure_kind),
        (RunState::Failed, Some(FailureKind::Internal)),
        "{again:?}"
    );
    assert_eq!(
        again.message.as_deref(),
        Some("the repository app was removed")
    );
    let server = forge.pid();
    wait_for("the processes of its runs to end", || {
        let mut left = forge.processes().into_iter();
        left.all(|pid| pid == server).then_some(())
    });
    assert_eq!(forge.get("/").status, 200);
}
