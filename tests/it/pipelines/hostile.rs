//! Pipelines that mean harm: each fails with a sentence, and the parent goes on.

use std::time::Duration;

use quire_pipeline::driver::DriverError;
use quire_pipeline::driver::protocol::{FromDriver, PipelineSource};
use serde_json::json;

use super::support::*;

/// Why a pipeline is refused.
/// With time enough, so that a busy machine does not turn one refusal into another.
async fn refused(source: PipelineSource) -> String {
    refused_within(source, Duration::from_secs(60)).await
}

async fn refused_within(source: PipelineSource, limit: Duration) -> String {
    match Session::start_within(source, limit).await.err() {
        Some(DriverError::Rejected(diagnostics)) => {
            let last = diagnostics.last().unwrap();
            format!(
                "{}: {}",
                last.location.as_ref().map_or(0, |location| location.line),
                last.message
            )
        }
        Some(other) => format!("{other:?}"),
        None => "accepted".to_owned(),
    }
}

#[tokio::test]
async fn a_file_that_never_ends_is_stopped_at_its_line() {
    let refused_soon = |source| refused_within(source, Duration::from_millis(700));
    let loops = "1: the file ran for longer than 700ms and was stopped";
    assert_eq!(refused_soon(fennel("(while true nil)")).await, loops);
    assert_eq!(
        refused_soon(fennel("(while true (pcall #(while true nil)))")).await,
        loops
    );
    assert_eq!(
        refused_soon(lua("local function f() return f() end f()")).await,
        loops
    );
    assert_eq!(
        refused_soon(lua(
            "while true do coroutine.wrap(function() while true do end end)() end"
        ))
        .await,
        loops
    );
    let lines = [
        "local t = setmetatable({}, {__index = function() while true do end end}) local x = t.x",
        "do local x <close> = setmetatable({}, {__close = function() while true do end end}) end",
        "for k in pairs(setmetatable({}, {__pairs = function() while true do end end})) do end",
        "tostring(setmetatable({}, {__tostring = function() while true do end end}))",
        "table.sort({3, 2, 1, 5, 4}, function() while true do end end)",
        "string.gsub('x', 'x', function() while true do end end)",
        "::again:: goto again",
        "while true do pcall(error, 'x') end",
    ];
    for line in lines {
        assert_eq!(refused_soon(lua(line)).await, loops, "{line}");
    }
    assert_eq!(
        refused_soon(fennel("(macro m [] (while true nil))\n(m)")).await,
        "1: the file takes too long to compile: does a macro loop, or is it nested very deeply?"
    );
}

/// Inside a callback of a C function, and in a long call of one, nothing can be interrupted for good: the process is ended.
#[tokio::test]
async fn a_file_that_cannot_be_interrupted_ends_its_process() {
    let stuck = [
        "string.gsub('x', 'x', function() while true do pcall(function() while true do end end) end end)",
        "table.sort({3, 2, 1, 5, 4}, function() while true do pcall(function() while true do end end) end end)",
        "string.find(('a'):rep(5000), ('a*'):rep(30) .. 'b')",
        "string.gsub(('a'):rep(100000), ('a*'):rep(100) .. 'b', '')",
        "table.move({}, 1, 1e15, 2, {})",
        "xpcall(error, function() while true do end end)",
    ];
    let ends = stuck.map(|line| refused_within(lua(line), Duration::from_millis(700)));
    for (line, end) in stuck.iter().zip(futures_util::future::join_all(ends).await) {
        assert_eq!(end, "TimedOut(700ms)", "{line}");
    }
}

#[tokio::test]
async fn memory_is_limited() {
    let full = "it needs more memory than a pipeline may use (256 MiB)";
    assert_eq!(
        refused(fennel("(local x 1)\n(string.rep :x 10000000000)")).await,
        format!("2: {full}")
    );
    assert_eq!(
        refused(lua(
            "local t, x = {}, ('x'):rep(100000)\nwhile true do t[#t + 1] = x .. #t end"
        ))
        .await,
        format!("2: {full}")
    );
    assert_eq!(
        refused(fennel("(macro m [] (string.rep :x 10000000000))\n(m)"))
            .await
            .split(": ")
            .last()
            .unwrap(),
        full
    );
    assert_eq!(
        refused(lua("local function f() return 1 + f() end f()")).await,
        "1: it calls itself too deeply (stack overflow)"
    );
    let nested = format!("{}{}", "(do ".repeat(5000), ")".repeat(5000));
    assert_eq!(
        refused(fennel(&nested)).await,
        "1: the file does not compile: it is nested too deeply"
    );
}

#[tokio::test]
async fn a_flood_of_jobs_is_one_sentence() {
    let flood =
        "(local ci (require :quire.ci))\n(for [i 1 1000000] (ci.job (.. :j i) [:quire/push] #nil))";
    assert_eq!(
        refused(fennel(flood)).await,
        "2: the pipeline registers more than 10000 jobs"
    );
    let caught = "(local ci (require :quire.ci))\n(for [i 1 10100] (pcall ci.job (.. :j i) [:quire/push] #nil))";
    let source = fennel(caught);
    let session = Session::start(source.clone()).await.unwrap();
    assert_eq!(
        pipeline(session.registration.clone(), &source).unwrap_err(),
        ".quire/ci.fnl:1:1: the pipeline registers more than 10000 jobs"
    );
    let long = fennel(
        "(local ci (require :quire.ci))\n(ci.job (string.rep :x 1048576) [:quire/push] #nil)",
    );
    let session = Session::start(long.clone()).await.unwrap();
    let problem = pipeline(session.registration.clone(), &long).unwrap_err();
    assert!(
        problem.contains("is not a job id: it is 1048576 bytes long") && problem.len() < 300,
        "{problem}"
    );
}

#[tokio::test]
async fn a_spinning_job_is_stopped_and_the_others_go_on() {
    let text = "(local ci (require :quire.ci))
(ci.job :spin [:quire/push] (fn []
  (while true
    (pcall #(while true nil)))))
(ci.job :wrap [:quire/push] (fn [] ((coroutine.wrap #(while true nil)))))
(ci.job :work [:quire/push] (fn [{: sh}] (for [i 1 5] (sh :true)) :done))
(ci.job :late [:quire/push] (fn [] 1))";
    let mut session = Session::start(fennel(text)).await.unwrap();
    session
        .begin("spin", &json!({}), Some(Duration::from_millis(600)))
        .await;
    session
        .begin("wrap", &json!({}), Some(Duration::from_millis(600)))
        .await;
    // Both spin; this one gets its turns all the same.
    let mut ends = session.run(&["work"], &json!({}), usual).await;
    assert_eq!(ends.end("work"), "complete \"done\"");
    while ends.ends.len() < 3 {
        let FromDriver::JobEnded { job, end } = session.hear().await else {
            panic!("an end")
        };
        ends.ends.insert(job, end);
    }
    assert!(
        ends.end("spin").starts_with("timed out: 4:")
            && ends
                .end("spin")
                .ends_with("it ran for longer than its time limit of 600ms and was stopped"),
        "{}",
        ends.end("spin")
    );
    assert!(
        ends.end("wrap").starts_with("timed out: 5:"),
        "{}",
        ends.end("wrap")
    );
    assert_eq!(
        session.run(&["late"], &json!({}), usual).await.end("late"),
        "complete 1"
    );
    session.close().await;
}

#[tokio::test]
async fn memory_in_a_job_fails_that_job() {
    for (body, expected) in [
        (
            "(string.rep :x 10000000000)",
            "3:1: it needs more memory than a pipeline may use (256 MiB)",
        ),
        (
            "(let [t []] (while true (table.insert t (string.rep :x 1000000))))",
            "3:1: it needs more memory than a pipeline may use (256 MiB)",
        ),
        (
            "(fn f [] (+ 1 (f))) (f)",
            "3:1: it calls itself too deeply (stack overflow)",
        ),
    ] {
        assert_eq!(end(body).await, expected, "{body}");
    }
}

#[tokio::test]
async fn what_is_registered_later_or_called_elsewhere_is_refused() {
    assert_eq!(
        end("((. (require :quire.ci) :job) :b [:a] #nil)").await,
        "3:1: `ci.job` can only be called while the file is evaluated: the job graph is fixed once a job runs"
    );
    let stolen = "(local ci (require :quire.ci))\n(var keep nil)\n(ci.job :a [:quire/push] (fn [t] (set keep t.sh) nil))\n(ci.job :b [:a] (fn [] (keep :false) 1))";
    let mut session = Session::start(fennel(stolen)).await.unwrap();
    session.run(&["a"], &json!({}), usual).await;
    let story = session.run(&["b"], &json!({}), usual).await;
    assert_eq!(
        story.commands,
        ["b: false"],
        "a tool works for the job that calls it"
    );
    assert_eq!(story.end("b"), "4:1: `false` failed with exit code 1 [1]");
}

#[tokio::test]
async fn the_child_has_given_up_what_it_does_not_need() {
    let session = Session::start(fennel(
        "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] #nil)",
    ))
    .await
    .unwrap();
    let child = children()
        .into_iter()
        .find(|(_, command)| command.contains("\0driver"))
        .expect("the driver is a child")
        .0;
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1".to_owned());
    assert_eq!(field("Seccomp:"), "2".to_owned());
    assert_eq!(field("Threads:"), "1".to_owned());
    session.close().await;
}

/// This process's children with their command lines. Other tests of this binary have drivers too: any of them will do.
fn children() -> Vec<(u32, String)> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|stat| {
                stat.rsplit_once(") ")?
                    .1
                    .split(' ')
                    .nth(1)?
                    .parse::<u32>()
                    .ok()
            })
    };
    pids.filter(|pid| parent(pid) == Some(own))
        .filter_map(|pid| {
            Some((
                pid,
                std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?,
            ))
        })
        .collect()
}

#[tokio::test]
async fn a_driver_that_is_gone_or_sends_nonsense_is_reported_in_words() {
    let script = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driver");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        (folder, path)
    };
    for (text, expected) in [
        (
            "read -r x; echo nonsense",
            "the pipeline's driver process sent an invalid message",
        ),
        (
            "read -r x; exit 3",
            "the pipeline's driver process failed: it exited with exit status: 3",
        ),
        (
            "read -r x; kill -9 $$",
            "the process that evaluates the pipeline was killed from outside by SIGKILL",
        ),
        (
            "read -r x; kill -ALRM $$",
            "the pipeline's driver process failed: a single call of a built-in function took longer than 30 seconds",
        ),
        (
            "read -r x; exit 0",
            "the pipeline's driver process failed: it exited before it had read the pipeline",
        ),
        (
            "echo no filter >&2; exit 77",
            "pipelines are disabled because the driver process cannot be sandboxed: no filter; use a kernel with seccomp",
        ),
        (
            "exec sleep 60",
            "evaluating the pipeline took longer than 0 seconds and was stopped",
        ),
    ] {
        let (_folder, path) = script(text);
        let mut driver = quire_pipeline::driver::DriverHandle::spawn(&path).unwrap();
        let error = driver
            .register_within(fennel(""), Duration::from_millis(1))
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with(expected), "{text}: {error}");
    }
    assert!(matches!(
        quire_pipeline::driver::DriverHandle::spawn(std::path::Path::new("/nonexistent/quire")),
        Err(DriverError::Spawn(_))
    ));
}
