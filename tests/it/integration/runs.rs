//! The life of runs: supersede, cancel, retry, side by side, secrets, and pipelines that misbehave.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{TestForge, Tree, WAIT_TIMEOUT, files_below, wait_for};
use quire_types::run::{FailureKind, JobState, Run, RunState, Trigger};

use super::{GREEN, gate, one};
use crate::QUIRE;

/// Pushes a run that waits at a gate, and waits until it is there.
fn push_waiting(forge: &TestForge, tree: &Tree, name: &str) -> Run {
    let folder = forge.file(name);
    tree.write(".quire/ci.fnl", &one(&gate(&folder)));
    tree.push_new(name);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    forge.runs().pop().unwrap()
}

/// Processes of a run's commands: they stand in its workspace.
fn workspace_processes(forge: &TestForge, run: &Run) -> usize {
    let workspace = quire_types::paths::Paths::workspace(&forge.run_folder(run));
    let inside = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&workspace))
    };
    forge.processes().iter().filter(|pid| inside(pid)).count()
}

#[test]
fn a_newer_push_supersedes_pending_and_active_runs_of_its_ref_only() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let first = push_waiting(&forge, &tree, "first");
    assert!(
        workspace_processes(&forge, &first) > 0,
        "there is something to end"
    );
    // While it is active: another ref's run is untouched by what follows.
    tree.push(&["main:side"]);
    let side = forge.runs().pop().unwrap();
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("second");
    let second = forge.runs().pop().unwrap();
    // The moment its row says so, nothing of it runs any more.
    let superseded = forge.end_of(first.id);
    assert_eq!(workspace_processes(&forge, &first), 0);
    assert_eq!(
        (superseded.state, superseded.superseded_by),
        (RunState::Superseded, Some(second.id))
    );
    assert_eq!(forge.jobs(first.id)[0].state, JobState::Aborted);
    assert_eq!(forge.end_of(second.id).state, RunState::Complete);
    assert!(!forge.run(side.id).state.is_final());
    fs::write(forge.file("first").join("go"), "").unwrap();
    assert_eq!(forge.end_of(side.id).state, RunState::Complete);

    // Pending ones: two runs in hand fill the queue, a third waits and is replaced at once.
    let busy = forge.tree("busy", "busy");
    let (one, two) = (
        push_waiting(&forge, &busy, "one"),
        forge.tree("more", "more"),
    );
    let two = push_waiting(&forge, &two, "two");
    tree.push_new("third");
    let third = forge.newest("app");
    tree.push_new("fourth");
    let (third, fourth) = (forge.run(third.id), forge.newest("app"));
    assert_eq!(third.state, RunState::Superseded);
    assert_eq!(third.superseded_by, Some(fourth.id));
    assert_eq!(third.started_at_ms, None);
    assert_eq!(fourth.state, RunState::Pending);
    for name in ["one", "two"] {
        fs::write(forge.file(name).join("go"), "").unwrap();
    }
    for run in [one.id, two.id, fourth.id] {
        assert_eq!(forge.end_of(run).state, RunState::Complete);
    }
    forge.check_whole();
}

#[test]
fn cancel_and_retry() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "1").serve();
    let tree = forge.tree("app", "app");
    let active = push_waiting(&forge, &tree, "gate");
    tree.push(&["main:other"]);
    let pending = forge.runs().pop().unwrap();
    assert_eq!(pending.state, RunState::Pending);
    // A run that has not ended cannot be retried; a prefix is enough of a name.
    let refused = forge.ssh(&format!("run retry {}", active.id));
    assert_eq!(refused.status.code(), Some(1));
    forge.ssh_ok(&format!("run cancel {}", pending.id));
    let canceled = forge.run(pending.id);
    assert_eq!(canceled.state, RunState::Canceled);
    assert_eq!(canceled.started_at_ms, None);
    forge.ssh_ok(&format!("run cancel {}", active.id));
    let canceled = forge.end_of(active.id);
    assert_eq!(
        (canceled.state, canceled.failure_kind),
        (RunState::Canceled, None)
    );
    assert_eq!(workspace_processes(&forge, &active), 0);
    assert_eq!(forge.jobs(active.id)[0].state, JobState::Aborted);
    assert_eq!(
        forge
            .ssh(&format!("run cancel {}", active.id))
            .status
            .code(),
        Some(1),
        "it has ended already"
    );
    assert_eq!(forge.ssh("run cancel 00000000").status.code(), Some(3));

    fs::write(forge.file("gate").join("go"), "").unwrap();
    forge.ssh_ok(&format!("run retry {}", active.id));
    let retry = forge.end_of(forge.newest("app").id);
    assert_eq!(retry.state, RunState::Complete);
    assert_eq!(retry.trigger, Trigger::Retry);
    assert_eq!(retry.retry_of, Some(active.id));
    assert_eq!(retry.sha, active.sha);
    forge.check_whole();
}

#[test]
fn repositories_run_at_the_same_time_and_so_do_jobs() {
    let forge = TestForge::start(QUIRE);
    // Each waits for the other: only side by side can they end.
    let meet = |own: &str, other: &str| {
        let folder = forge.file("meet");
        fs::create_dir_all(&folder).unwrap();
        let folder = folder.display();
        format!("touch {folder}/{own}; while [ ! -e {folder}/{other} ]; do sleep 0.01; done")
    };
    let (left, right) = (
        forge.tree_with("left", &one(&meet("left", "right"))),
        forge.tree_with("right", &one(&meet("right", "left"))),
    );
    left.push(&["main"]);
    right.push(&["main"]);
    forge.wait_for_quiet();
    assert!(
        forge
            .runs()
            .iter()
            .all(|run| run.state == RunState::Complete),
        "{:?}",
        forge.runs()
    );

    let tree = forge.tree("jobs", "jobs");
    let job = |id: &str, other: &str| {
        format!(
            "(ci.job :{id} [:quire/push] (fn [{{: sh}}] (sh {:?})))\n",
            meet(id, other)
        )
    };
    tree.write(
        ".quire/ci.fnl",
        &format!(
            "(local ci (require :quire.ci))\n{}{}",
            job("a", "b"),
            job("b", "a")
        ),
    );
    tree.push_new("jobs");
    assert_eq!(
        forge.end_of(forge.newest("jobs").id).state,
        RunState::Complete
    );
    forge.check_whole();
}

#[test]
fn a_secret_is_nowhere_but_where_it_was_asked_for() {
    // In parts, so that this file's own text is not what is found.
    let value = ["kesselflicker", "/+ü", "42"].concat();
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.file("token"), format!("{value}\n")).unwrap();
    fs::write(
        forge.paths.config_fennel(),
        format!(
            "{{:secrets {{:token {{:file {:?}}} :short {{:env \"SHORT\"}}}}}}",
            forge.file("token").display().to_string()
        ),
    )
    .unwrap();
    forge.set("SHORT", "abc").serve();
    let tree = forge.tree("app", "app");
    let sink = forge.file("sink");
    tree.write(
        ".quire/ci.fnl",
        &format!(
            r#"(local ci (require :quire.ci))
(ci.job :use [:quire/push]
  (fn [{{: sh : secret : log}}]
    (let [token (secret :token)]
      (log (.. "logged " token))
      (sh (.. "printf '%s' " token " > {sink}; echo spoken " token))
      (sh ["sh" "-c" "printf %s \"$TOKEN\"; printf %s \"$TOKEN\" | base64; echo \"$TOKEN\" >&2" ] {{:env {{:TOKEN token}}}})
      (sh "cut1=$(printf %s \"$TOKEN\" | cut -c1-5); printf %s \"$cut1\"; sleep 0.3; printf %s \"$TOKEN\" | cut -c6-" {{:env {{:TOKEN token}}}})
      {{:kept (.. "kept " token) :nested [{{:deep token}}]}})))
(ci.job :fail [:use] (fn [{{: secret}}] (secret :short) (error (.. "raised " (secret :token)))))
(ci.job :missing [:quire/push] (fn [{{: secret}}] (secret :tokne)))
"#,
            sink = sink.display()
        ),
    );
    tree.push_new("secret");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.failure_kind, Some(FailureKind::Job), "{run:?}");
    assert_eq!(
        fs::read_to_string(&sink).unwrap(),
        value,
        "the command itself gets it"
    );
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(
        log.contains("logged {{ token }}") && log.contains("spoken {{ token }}"),
        "{log}"
    );
    assert!(log.contains("shorter than 8 characters"), "{log}");
    let job = |id: &str| {
        forge
            .jobs(run.id)
            .into_iter()
            .find(|job| job.job_id.as_str() == id)
            .unwrap()
    };
    assert_eq!(job("use").output.unwrap()["kept"], "kept {{ token }}");
    assert!(job("fail").message.unwrap().contains("raised {{ token }}"));
    assert!(job("missing").message.unwrap().contains("tokne"));

    let page = forge.get(&format!("/runs/{}", run.id)).body + &forge.get("/runs").body + &log;
    assert!(!page.contains(&value));
    assert!(forge.stop().success());
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &value);
    for file in files_below(forge.paths.data()) {
        let bytes = fs::read(&file).unwrap();
        for form in [value.as_str(), &base64] {
            let found = bytes
                .windows(form.len())
                .any(|part| part == form.as_bytes());
            assert!(!found, "{} holds the secret", file.display());
        }
    }
    assert!(!forge.log().contains(&value));
}

/// The driver that serves the one active run.
fn driver(forge: &TestForge) -> Pid {
    let server = forge.pid();
    let is_driver = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok());
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(server) && words.ends_with(b"driver\0")
    };
    let pids = || {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
    };
    Pid::from_raw(wait_for("the driver", || pids().find(is_driver)))
}

#[test]
fn a_driver_that_dies_fails_its_run_and_nothing_else() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let run = push_waiting(&forge, &tree, "gate");
    kill(driver(&forge), Signal::SIGKILL).unwrap();
    let run = forge.end_of(run.id);
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::Orphaned)),
        "{run:?}"
    );
    let words = "the process that evaluates the pipeline was killed from outside by SIGKILL";
    assert_eq!(run.message.as_deref(), Some(words));
    assert_eq!(workspace_processes(&forge, &run), 0);
    // It is queued again, once.
    let requeued = wait_for("the second attempt", || {
        let newest = forge.newest("app");
        (newest.retry_of == Some(run.id)).then_some(newest)
    });
    assert_eq!(requeued.trigger, Trigger::Orphan);
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("next");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    forge.check_whole();
}

#[test]
fn a_pipeline_that_never_ends_is_ended() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    for (pipeline, kind) in [
        // While it registers; within a job that has a limit; one that eats memory; one that floods.
        ("(while true nil)", FailureKind::Pipeline),
        (
            r#"(local ci (require :quire.ci))
(ci.job :spin [:quire/push] {:timeout "1s"} (fn [] (while true nil)))"#,
            FailureKind::Timeout,
        ),
        (
            r#"(local ci (require :quire.ci))
(ci.job :eat [:quire/push] (fn [] (var s "x") (while true (set s (.. s s)))))"#,
            FailureKind::Job,
        ),
        (
            r#"(local ci (require :quire.ci))
(ci.job :sleep [:quire/push] {:timeout "1s"} (fn [{: sh}] (sh "sleep 600")))"#,
            FailureKind::Timeout,
        ),
        (
            r#"(local ci (require :quire.ci))
(ci.timeout "1s")
(ci.job :sleep [:quire/push] (fn [{: sh}] (sh "sleep 600")))"#,
            FailureKind::Timeout,
        ),
    ] {
        tree.write(".quire/ci.fnl", pipeline);
        tree.push_new("endless");
        let id = forge.newest("app").id;
        // All the while, the server goes on.
        assert_eq!(forge.get("/healthz").status, 200);
        let run = forge.end_of(id);
        assert_eq!(
            (run.state, run.failure_kind),
            (RunState::Failed, Some(kind)),
            "{pipeline}: {run:?}"
        );
        assert_eq!(workspace_processes(&forge, &run), 0);
    }
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("next");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    forge.check_whole();
}

/// The most memory that a process has had, in bytes.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_hundred_megabytes_of_output_take_no_memory() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let before = peak(forge.pid());
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.job :loud [:quire/push] (fn [{: sh}]
(let [r (sh "head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 200; echo; echo the end")] (assert (= r.exit 0) r.stderr))))
"#,
    );
    tree.push_new("loud");
    let run = forge.newest("app");
    let run = wait_for("its end", || {
        assert_eq!(forge.get("/healthz").status, 200);
        Some(forge.run(run.id)).filter(|run| run.state.is_final())
    });
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    let log = forge.run_folder(&run).join("jobs/loud/1.log");
    let bytes = fs::metadata(&log).unwrap().len();
    assert!(bytes > 100_000_000, "{bytes}");
    assert!(fs::read_to_string(&log).unwrap().contains(" the end\n"));
    // The page shows a part of it, the raw log all, neither by holding it in memory.
    assert!(forge.get(&format!("/runs/{}", run.id)).body.len() < 2_000_000);
    assert!(forge.get(&format!("/runs/{}/log.txt", run.id)).body.len() > 100_000_000);
    let grown = peak(forge.pid()) - before;
    assert!(grown < 48 << 20, "grew by {} MiB", grown >> 20);
    forge.check_whole();
}

/// Somebody who follows a run's log.
struct Follower {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Follower {
    fn of(forge: &TestForge, run: &Run) -> Self {
        let mut command = std::process::Command::new(forge.file("client/ssh"));
        command
            .arg(format!("run logs --follow {}", run.id))
            .stdin(std::process::Stdio::null());
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines: receiver,
        }
    }

    /// Reads until a line holds these words; returns that line.
    #[track_caller]
    fn wait_for_line(&mut self, words: &str) -> String {
        let mut earlier = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(WAIT_TIMEOUT) {
            if line.contains(words) {
                return line;
            }
            earlier.push(line);
        }
        panic!("{words:?} never came: {earlier:?}")
    }

    /// The exit code and what came of the log, of one that has said its last word.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_follower_of_a_waiting_run_reads_why_and_how_it_ended() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "1").serve();
    let tree = forge.tree("app", "app");
    let active = push_waiting(&forge, &tree, "gate");
    tree.push(&["main:side"]);
    let waiting = forge.runs().pop().unwrap();
    let (mut of_active, mut of_waiting) = (
        Follower::of(&forge, &active),
        Follower::of(&forge, &waiting),
    );
    of_waiting.wait_for_line("waits for another run to end: at most 1 at a time");
    // A newer push of its branch, before it has begun.
    tree.commit("newer");
    tree.push(&["main:side"]);
    let newer = forge.runs().pop().unwrap();
    let reply = of_waiting.wait_for_line("superseded");
    assert!(
        reply.contains(&format!("superseded by run {}", newer.id)),
        "{reply}"
    );
    assert_eq!(of_waiting.end(), (Some(1), String::new()));
    // And of one that goes on: it ends when nothing of it runs any more.
    let mut of_newer = Follower::of(&forge, &newer);
    of_newer.wait_for_line("waits for another run to end");
    fs::write(forge.file("gate/go"), "").unwrap();
    fs::remove_file(forge.file("gate/started")).unwrap();
    assert!(
        of_active
            .wait_for_line(&format!("run {} complete", active.name()))
            .contains("after")
    );
    assert_eq!(of_active.end().0, Some(0));
    of_newer.wait_for_line(&format!("run {} complete", newer.name()));
    let (code, text) = of_newer.end();
    assert!(
        code == Some(0) && text.contains("\nthrough\n"),
        "{code:?} {text}"
    );

    let active = push_waiting(&forge, &tree, "second-gate");
    let mut of_active = Follower::of(&forge, &active);
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("last");
    let last = forge.runs().pop().unwrap();
    assert!(
        of_active
            .wait_for_line(&format!("run {} superseded", active.name()))
            .contains(&format!("superseded by run {}", last.id))
    );
    assert_eq!(of_active.end().0, Some(1));
    forge.end_of(last.id);
    let refused = forge.ssh("run logs --follow 00000000");
    assert_eq!(refused.status.code(), Some(3));
    forge.check_whole();
}
