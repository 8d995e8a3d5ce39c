//! Time-outs and the log's limit, in containers: what is to end ends whole, whatever it tries.

use std::fs;

use quire_testkit::{files_below, wait_for};
use quire_types::run::{FailureKind, JobState, Run, RunJob, RunState};

use super::containers::{Contained, endpoint, skipped};

/// A command that leaves a process of another session behind, both deaf to what asks them to end. The number tells them from all others.
fn stubborn(number: &str) -> String {
    let sleeps = format!("trap '' TERM HUP INT; exec sleep {number}");
    format!("(setsid sh -c \\\"{sleeps}\\\" >/dev/null 2>&1 &); {sleeps}")
}

/// How many processes of the machine, in whatever container, were told of this number.
fn processes_mentioning(number: &str) -> usize {
    let mentions_it = |entry: fs::DirEntry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(number))
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .map(mentions_it)
        .filter(|mentions_it| *mentions_it)
        .count()
}

/// Pushes this pipeline to a repository of its own; its run, once both processes are there.
fn begun(contained: &Contained, repo: &str, pipeline: &str, number: &str) -> Run {
    contained
        .forge
        .tree_with(repo, &format!("(local ci (require :quire.ci))\n{pipeline}"))
        .push(&["main"]);
    let run = contained.forge.newest(repo);
    wait_for("the processes", || {
        (processes_mentioning(number) == 2).then_some(())
    });
    run
}

#[test]
fn time_limits_of_command_job_and_run_end_every_process() {
    if skipped() {
        return;
    }
    let mut contained = Contained::new(&endpoint());
    contained.forge.serve();
    let number = |nth: u32| format!("{}.{nth}", 700_000 + std::process::id() % 100_000);
    // A command, and a job: another job goes on beside them, in the same container.
    for (nth, what, job, of_command) in [
        (1, "command", "", "{:timeout \"6s\"}"),
        (2, "job", "{:timeout \"6s\"}", "{}"),
    ] {
        let pipeline = format!(
            r#"(ci.job :test [:quire/push] {job} (fn [{{: sh}}] (sh "{}" {of_command})))
(ci.job :other [:quire/push] (fn [{{: sh}}] (sh "sleep 300")))"#,
            stubborn(&number(nth))
        );
        let run = begun(&contained, what, &pipeline, &number(nth));
        let failed = |job: &RunJob| job.job_id.as_str() == "test" && job.state == JobState::Failed;
        let ended = wait_for("the job's end", || {
            contained.forge.jobs(run.id).into_iter().find(failed)
        });
        let words = format!("the {what} timed out after 6s");
        assert!(
            ended
                .message
                .as_deref()
                .is_some_and(|message| message.contains(&words)),
            "{ended:?}"
        );
        assert_eq!(
            (
                processes_mentioning(&number(nth)),
                contained.containers().len()
            ),
            (0, 1),
            "{what}"
        );
        contained
            .forge
            .store()
            .runs()
            .request_cancel(run.id)
            .unwrap();
        contained.forge.ssh_ok("run list");
        assert_eq!(contained.forge.end_of(run.id).state, RunState::Canceled);
        contained.nothing_left();
    }

    // The run: nothing of it is there when it says that it has ended.
    let pipeline = format!(
        r#"(ci.timeout "12s")
(ci.job :test [:quire/push] (fn [{{: sh}}] (sh "{}")))"#,
        stubborn(&number(3))
    );
    let run = begun(&contained, "run", &pipeline, &number(3));
    let ended = contained.forge.end_of(run.id);
    assert_eq!(
        (processes_mentioning(&number(3)), ended.failure_kind),
        (0, Some(FailureKind::Timeout)),
        "{ended:?}"
    );
    assert!(
        ended
            .message
            .as_deref()
            .is_some_and(|message| message.contains("timed out after 12s")),
        "{ended:?}"
    );
    contained.nothing_left();
    contained.forge.check_whole();
}

#[test]
fn a_log_that_is_full_ends_and_the_run_goes_on() {
    if skipped() {
        return;
    }
    const LIMIT: usize = 1 << 20;
    let mut contained = Contained::new(&endpoint());
    contained.forge.set("QUIRE_CI_MAX_LOG", "1m").serve();
    let pipeline = r#"(local ci (require :quire.ci))
(ci.job :loud [:quire/push] (fn [{: sh}] (sh "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 99") (sh "echo more")))
(ci.job :after [:loud] (fn [{: sh}] (sh "test $(hostname)")))
"#;
    contained.forge.tree_with("app", pipeline).push(&["main"]);
    let run = contained.forge.end_of(contained.forge.newest("app").id);
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    assert!(
        contained
            .forge
            .steps(run.id)
            .iter()
            .all(|step| step.exit_code == Some(0))
    );
    let folder = contained.forge.run_folder(&run);
    let bytes: usize = files_below(&folder)
        .iter()
        .map(|file| fs::read(file).unwrap().len())
        .sum();
    // Each step that meets the limit says so in a line of its own.
    assert!((LIMIT - 4096..LIMIT + 4096).contains(&bytes), "{bytes}");
    let log = fs::read_to_string(folder.join("jobs/loud/1.log")).unwrap();
    assert!(
        log.ends_with("the log of this run has reached its limit of 1 MiB; what comes after this is not kept\n"),
        "{}",
        &log[log.len() - 300..]
    );
    assert!(
        contained
            .forge
            .ssh_ok(&format!("run logs {}", run.id))
            .contains("has reached its limit of 1 MiB")
    );
    contained.nothing_left();
}
