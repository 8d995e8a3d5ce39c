//! What looks after the volume: the floor of the disk, retention, git's maintenance.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_git::{Git, GitError, MaintenanceOutcome};
use quire_testkit::{TestForge, files_below, transcript, wait_for};
use quire_types::clock::Clock;
use quire_types::disk_space::free_bytes;
use quire_types::names::RunId;
use quire_types::run::{Run, RunState};

use super::GREEN;
use crate::QUIRE;

/// Says what is kept in the forge's configuration, and has a running server read it again.
fn keep(forge: &TestForge, keep: &str) {
    fs::write(forge.paths.config_fennel(), format!("{{:keep {keep}}}")).unwrap();
}

#[test]
fn below_the_floor_runs_wait_then_pushes_are_refused() {
    let mut forge = TestForge::new(QUIRE);
    forge.unset("QUIRE_KEEP_MIN_FREE");
    let free = free_bytes(forge.paths.data()).unwrap();
    keep(&forge, &format!("{{:min-free {}}}", free / 3 * 4));
    forge.serve();
    let tree = forge.tree_with("app", GREEN);
    // Taken, and its run waits where everybody can see why.
    tree.push(&["main"]);
    let run = forge.newest("app");
    let message = wait_for("a word on why it waits", || forge.run(run.id).message);
    assert!(
        message.starts_with("waits: the disk is nearly full: "),
        "{message}"
    );
    let health = wait_for("the health to say so", || {
        Some(forge.health()).filter(|health| health["parts"]["disk"]["status"] == "degraded")
    });
    assert!(
        health["parts"]["disk"]["message"]
            .as_str()
            .unwrap()
            .contains("runs wait"),
        "{health}"
    );
    assert_eq!(forge.run(run.id).state, RunState::Pending);
    // Room again: it starts by itself.
    keep(&forge, "{:min-free 0}");
    forge.signal(Signal::SIGHUP);
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);

    // Further down: refused in one sentence, before git writes anything, also while the server is away.
    keep(&forge, "{:min-free \"4000t\"}");
    forge.signal(Signal::SIGHUP);
    wait_for("the push path to be told", || {
        fs::read_to_string(forge.paths.min_free())
            .is_ok_and(|text| text.len() > 10)
            .then_some(())
    });
    wait_for("the health to say so", || {
        (forge.health()["parts"]["disk"]["status"] == "down").then_some(())
    });
    assert_eq!(
        forge.get("/readyz").status,
        503,
        "a push leads to nothing now"
    );
    let repos = forge.paths.repos();
    let objects = || quire_testkit::files_below(&repos).len();
    let (before, commit) = (objects(), tree.commit("more"));
    for attempt in ["with a server", "without"] {
        for target in ["origin", "ssh://git@forge/never-seen"] {
            let pushed = tree.git(&["push", target, "main"]);
            let reply = transcript(&pushed);
            assert!(
                !pushed.status.success() && reply.contains("quire: the disk is nearly full: "),
                "{attempt}: {reply}"
            );
            assert!(reply.contains("`quire gc`"), "{reply}");
        }
        assert_eq!(objects(), before, "git wrote nothing");
        assert_eq!(
            tree.git_ok(&["ls-remote", "origin", "main"])
                .split_whitespace()
                .next(),
            Some(run.sha.as_str()),
            "a fetch works"
        );
        if attempt == "with a server" {
            assert!(forge.stop().success());
        }
    }
    keep(&forge, "{:min-free 0}");
    forge.serve();
    tree.push(&["main"]);
    assert_eq!(forge.newest("app").sha.as_str(), commit);
    forge.wait_for_quiet();
}

/// Fails while the tree has this file.
const MAYBE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "seq 2000; test ! -e red")))
"#;

/// Runs by the numbers they were pushed in.
fn left(forge: &TestForge, all: &[Run]) -> Vec<usize> {
    let ids: Vec<RunId> = forge.runs().into_iter().map(|run| run.id).collect();
    (0..all.len())
        .filter(|at| ids.contains(&all[*at].id))
        .collect()
}

fn files_of(forge: &TestForge, run: &Run) -> usize {
    files_below(&forge.run_folder(run)).len()
}

#[test]
fn old_runs_go_and_the_newest_and_newest_green_of_each_branch_stay() {
    let mut forge = TestForge::new(QUIRE);
    keep(&forge, "{:runs 1}");
    forge.serve();
    let tree = forge.tree_with("work/app", MAYBE);
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(), spec: &str| {
        change();
        tree.commit("next");
        tree.push(&[spec]);
        all.push(forge.end_of(forge.newest("work/app").id));
    };
    push(&|| (), "main"); // 0: green
    push(&|| (), "main"); // 1: the newest green one
    push(&|| tree.write("red", ""), "main"); // 2
    push(&|| (), "main"); // 3: the newest
    push(
        &|| fs::remove_file(tree.path.join("red")).unwrap(),
        "main:gone",
    ); // 4: its branch will be deleted
    push(&|| (), "main:refs/tags/v1"); // 5: of no branch
    push(&|| (), "main:side"); // 6: newest and green of another branch, and the one run that is asked for
    let green: Vec<bool> = all
        .iter()
        .map(|run| run.state == RunState::Complete)
        .collect();
    assert_eq!(green, [true, true, false, false, true, true, true]);
    tree.git_ok(&["push", "origin", ":gone"]);
    wait_for("the deletion to be heard", || {
        forge.spooled().is_empty().then_some(())
    });
    let printed = forge.ssh_ok("gc");
    assert!(
        printed.starts_with("removed 4 runs: ") && printed.ends_with("freed\n"),
        "{printed}"
    );
    assert_eq!(left(&forge, &all), [1, 3, 6]);
    for (at, run) in all.iter().enumerate() {
        let stays = [1, 3, 6].contains(&at);
        assert_eq!(forge.run_folder(run).exists(), stays, "{at}");
        assert_eq!(
            forge.get(&format!("/runs/{}", run.id)).status,
            if stays { 200 } else { 404 }
        );
    }
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    // Also at the machine itself, and as JSON.
    let here = forge.quire(&["gc", "--json"]).output().unwrap();
    let freed: serde_json::Value = serde_json::from_slice(&here.stdout).unwrap();
    assert_eq!(
        (&freed["runs"], &freed["problems"]),
        (&0.into(), &serde_json::json!([]))
    );
    assert!(forge.stop().success());
    let refused = forge.ssh("gc");
    assert!(
        !refused.status.success()
            && said_contains(&refused, "nothing was removed: the server is not running")
    );
}

fn said_contains(output: &std::process::Output, text: &str) -> bool {
    transcript(output).contains(text)
}

#[test]
fn logs_over_their_budget_go_oldest_first_and_everybody_says_so() {
    let mut forge = TestForge::new(QUIRE);
    keep(&forge, "{:logs \"180k\" :artifacts 1000}");
    forge.serve();
    let tree = forge.tree_with("app", MAYBE);
    let mut all = Vec::new();
    for _ in 0..5 {
        tree.push_new("next");
        all.push(forge.end_of(forge.newest("app").id));
    }
    // Artifacts as a run leaves them.
    for run in &all {
        let folder = forge.paths.artifacts().join("app").join(run.id.to_string());
        fs::create_dir_all(folder.join("dist")).unwrap();
        fs::write(folder.join("dist/out"), [0; 400]).unwrap();
    }
    let sizes: Vec<u64> = all
        .iter()
        .map(|run| {
            files_below(&forge.run_folder(run))
                .iter()
                .map(|f| f.metadata().unwrap().len())
                .sum()
        })
        .collect();
    assert!(
        sizes.iter().all(|size| (80_000..90_000).contains(size)),
        "two of them fit: {sizes:?}"
    );
    let reply = forge.ssh_ok("gc");
    assert!(
        reply.starts_with("removed 3 logs, 3 runs' artifacts: "),
        "{reply}"
    );
    for (at, run) in all.iter().enumerate() {
        let row = forge.run(run.id);
        assert_eq!(row.logs_removed_at_ms.is_some(), at < 3);
        assert_eq!(row.artifacts_removed_at_ms.is_some(), at < 3);
        assert_eq!(files_of(&forge, run) > 0, at >= 3);
        assert_eq!(
            forge
                .paths
                .artifacts()
                .join("app")
                .join(run.id.to_string())
                .exists(),
            at >= 3
        );
    }
    let gone = all[0].id;
    assert!(
        forge
            .get(&format!("/runs/{gone}"))
            .body
            .contains("log removed by retention")
    );
    let plain = forge.get(&format!("/runs/{gone}/log.txt"));
    assert!(
        plain.status == 410 && plain.body.contains("removed by retention"),
        "{}",
        plain.body
    );
    let logs = forge.ssh(&format!("run logs {gone}"));
    assert!(
        logs.status.success()
            && said_contains(
                &logs,
                "quire: retention (`:keep`) removed the log of this run"
            ),
        "{}",
        transcript(&logs)
    );
    assert_eq!(
        forge.get(&format!("/runs/{}/log.txt", all[4].id)).status,
        200
    );
    // A row whose files a crash left after it was noted: the next round finishes that.
    fs::create_dir_all(forge.run_folder(&all[0]).join("jobs")).unwrap();
    // And a folder whose run never had a row in this database, beside one from before there was one.
    let orphan = RunId::new();
    let older: RunId = "01000000-0000-7000-8000-000000000000".parse().unwrap();
    for id in [orphan, older] {
        fs::create_dir_all(forge.paths.runs_dir().join("app").join(id.to_string())).unwrap();
    }
    keep(&forge, "{:logs \"180k\" :days 0}");
    forge.signal(Signal::SIGHUP);
    forge.wait_for_log("configuration reloaded");
    assert!(forge.ssh_ok("gc").starts_with("removed 1 leftover: "));
    assert!(!forge.run_folder(&all[0]).exists());
    assert!(
        !forge
            .paths
            .runs_dir()
            .join("app")
            .join(orphan.to_string())
            .exists()
    );
    assert!(
        forge
            .paths
            .runs_dir()
            .join("app")
            .join(older.to_string())
            .exists(),
        "the database it was of may come back"
    );
}

#[test]
fn ten_thousand_runs_go_while_pushes_come_in() {
    let mut forge = TestForge::new(QUIRE);
    keep(&forge, "{:runs 100 :days 90}");
    forge.serve();
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    database.busy_timeout(quire_testkit::WAIT_TIMEOUT).unwrap();
    database
        .execute_batch(
            "BEGIN;
             WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
             INSERT INTO events (id, type, repo, pushed_at_ms, received_at_ms, options)
             SELECT printf('01900000-0000-7000-9000-%012d', i), 'push', 'app', 1700000000000 + i, 1700000000000 + i, '[]' FROM n;
             INSERT INTO runs (id, repo, number, ref_name, sha, event_id, \"trigger\", state, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms)
             SELECT replace(id, '-9000-', '-8000-'), 'app', 100000 + row_number() OVER (), 'refs/heads/main', printf('%040x', pushed_at_ms), id, 'push', 'complete',
                    pushed_at_ms, pushed_at_ms, pushed_at_ms, pushed_at_ms FROM events WHERE id LIKE '01900000%';
             INSERT INTO jobs (run_id, job_id, position, inputs, state, started_at_ms, finished_at_ms)
             SELECT id, 'test', 0, '[]', 'complete', 1, 2 FROM runs WHERE id LIKE '01900000%';
             COMMIT;",
        )
        .unwrap();
    drop(database);
    let (done, printed) = std::thread::scope(|scope| {
        let gc = scope.spawn(|| forge.ssh_ok("gc"));
        let mut pushes = 0;
        while !gc.is_finished() {
            tree.commit("meanwhile");
            let reply = tree.push(&["main"]);
            assert!(
                reply.contains("quire: run "),
                "the push was told its run within the hook's patience: {reply}"
            );
            assert_eq!(forge.get("/app").status, 200);
            pushes += 1;
        }
        (pushes, gc.join().unwrap())
    });
    println!("{done} pushes meanwhile; {printed}");
    assert!(
        done > 0 && printed.starts_with("removed 10000 runs, 10000 recorded pushes: "),
        "{done}: {printed}"
    );
    forge.wait_for_quiet();
    assert!(
        forge
            .runs()
            .iter()
            .filter(|run| run.state == RunState::Complete)
            .count()
            > 0
    );
}

/// Runs maintenance as the server does, to its end.
/// Maintains a repository once nothing else does. The processes that a killed git has started may outlive it.
#[track_caller]
fn maintain(forge: &TestForge, repo: &str) -> MaintenanceOutcome {
    wait_for("the end of other work", || {
        Some(try_to_maintain(forge, repo)).filter(|outcome| *outcome != MaintenanceOutcome::Stopped)
    })
}

fn try_to_maintain(forge: &TestForge, repo: &str) -> MaintenanceOutcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(Git::new(&forge.paths).maintain(&repo.parse().unwrap(), std::future::pending()))
        .unwrap()
}

fn gc_processes(forge: &TestForge) -> Vec<i32> {
    let is_gc = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.split(|b| *b == 0).any(|word| word == b"gc"))
    };
    forge.processes().into_iter().filter(is_gc).collect()
}

/// Runs maintenance as the server does, and holds its git still at its work before `act`; gives how it ended.
fn while_git_works(
    forge: &TestForge,
    repo: &str,
    act: impl Fn(&[i32]),
) -> Result<MaintenanceOutcome, GitError> {
    let (git, repo) = (Git::new(&forge.paths), repo.parse().unwrap());
    let stopped = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
    };
    let attempt = || {
        std::thread::scope(|scope| {
            let gc = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(git.maintain(&repo, std::future::pending()))
            });
            while !gc.is_finished() {
                let pids = gc_processes(forge);
                for pid in &pids {
                    // One that has ended meanwhile is not caught.
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
                }
                if pids.iter().any(stopped) {
                    // A push may be over before anybody has looked.
                    while !gc.is_finished() {
                        act(&pids);
                    }
                    return Some(gc.join().unwrap());
                }
            }
            None
        })
    };
    // It may have been done too soon to be caught.
    (0..50).find_map(|_| attempt()).unwrap()
}

#[test]
fn maintenance_packs_and_gives_way_to_a_push() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    for n in 0..5 {
        tree.commit("more");
        tree.push(&[&format!("main:b{n}")]);
    }
    forge.wait_for_quiet();
    let bare = forge.paths.repo(&"app".parse().unwrap());
    let packs = || {
        files_below(&bare.join("objects/pack"))
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "pack"))
            .count()
    };
    assert_eq!(packs(), 6, "a push stays a pack");
    assert_eq!(maintain(&forge, "app"), MaintenanceOutcome::Done);
    assert_eq!(packs(), 1);
    assert!(bare.join("packed-refs").exists());
    assert!(!bare.join("gc.pid").exists());
    // While somebody pushes (their client has connected and says nothing yet) it does not begin.
    let mut push = Command::new(forge.file("client/ssh"))
        .arg("git-receive-pack 'app'")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    push.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(try_to_maintain(&forge, "app"), MaintenanceOutcome::Stopped);
    drop(push.stdin.take());
    push.wait().unwrap();
    // While it works, a push comes: it ends, and the push is as ever.
    let ended = while_git_works(&forge, "app", |_| drop(tree.push_new("meanwhile")));
    assert_eq!(ended.unwrap(), MaintenanceOutcome::Stopped);
    assert_eq!(gc_processes(&forge), [0; 0]);
    Git::new(&forge.paths)
        .remove_stale_locks(&"app".parse().unwrap(), Clock::system().now().plus(120_000))
        .unwrap();
    tree.git_ok(&["push", "origin", ":b0"]);
    forge.wait_for_quiet();
    tree.git_ok(&["--git-dir", bare.to_str().unwrap(), "fsck", "--strict"]);
}

#[test]
fn a_killed_git_leaves_no_lock_for_long() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:next"]);
    forge.wait_for_quiet();
    let (name, git) = ("app".parse().unwrap(), Git::new(&forge.paths));
    let bare = forge.paths.repo(&name);
    assert_eq!(maintain(&forge, "app"), MaintenanceOutcome::Done);
    let left = [
        "packed-refs.lock",
        "gc.pid",
        "refs/heads/main.lock",
        "objects/info/commit-graph.lock",
        "objects/pack/tmp_pack_x",
    ];
    for file in left {
        fs::write(bare.join(file), "").unwrap();
    }
    let now = Clock::system().now();
    let refused = tree.git(&["push", "origin", ":next"]);
    assert!(
        !refused.status.success(),
        "a lock does stand in the way: {}",
        transcript(&refused)
    );
    // They may be somebody's yet.
    assert_eq!(git.remove_stale_locks(&name, now).unwrap(), 0);
    // Old enough, but somebody pushes.
    let mark = git.lock_for_push(&name).unwrap();
    assert_eq!(git.remove_stale_locks(&name, now.plus(120_000)).unwrap(), 0);
    assert!(git.has_push(&name).unwrap());
    drop(mark);
    assert_eq!(
        git.remove_stale_locks(&name, now.plus(120_000)).unwrap(),
        4,
        "all but the unfinished pack, which may be large and slow"
    );
    assert_eq!(
        git.remove_stale_locks(&name, now.plus(86_500_000)).unwrap(),
        1
    );
    tree.git_ok(&["push", "origin", ":next"]);
    tree.push_new("as ever");
    forge.wait_for_quiet();

    // Killed at its work, as when everything is killed: what it leaves does not keep the next one from beginning.
    let killed = while_git_works(&forge, "app", |pids| {
        for pid in pids {
            // Asked again, it may be gone.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    });
    assert!(matches!(killed, Err(GitError::Failed { .. })), "{killed:?}");
    let bare_text = bare.to_str().unwrap();
    git.remove_stale_locks(&name, Clock::system().now().plus(120_000))
        .unwrap();
    assert_eq!(maintain(&forge, "app"), MaintenanceOutcome::Done);
    tree.git_ok(&["--git-dir", bare_text, "fsck", "--strict"]);
}
