//! What becomes of jobs, as the database has it in the end.

use quire_testkit::TestForge;
use quire_types::run::{FailureKind, JobState, Run, RunJob, RunState};
use serde_json::json;

use crate::QUIRE;

/// Pushes a pipeline and waits for its run.
fn run(forge: &TestForge, repo: &str, text: &str) -> (Run, Vec<RunJob>) {
    let tree = forge.tree(repo, repo);
    tree.write(
        ".quire/ci.fnl",
        &format!("(local ci (require :quire.ci))\n{text}"),
    );
    tree.write("sub/file", "in sub");
    tree.push_new("first");
    let run = forge.end_of(forge.newest(repo).id);
    let jobs = forge.jobs(run.id);
    (run, jobs)
}

fn find<'a>(jobs: &'a [RunJob], id: &str) -> &'a RunJob {
    jobs.iter().find(|job| job.job_id.as_str() == id).unwrap()
}

#[test]
fn of_jobs_that_pass_fail_and_do_nothing() {
    let forge = TestForge::start(QUIRE);
    let (ended, jobs) = run(
        &forge,
        "app",
        r#"(ci.job :quiet [:quire/push] (fn [{: log}] (log :nothing)))
(ci.job :after-quiet [:quiet] (fn [{: jobs : sh}] (sh :true) {:saw-nil (= nil (jobs :quiet))}))
(ci.job :allowed [:quire/push] {:allow-failure true} (fn [] (error :boom)))
(ci.job :after-allowed [:allowed] (fn [{: jobs : sh}] (sh :true) {:saw-nil (= nil (jobs :allowed))}))
(ci.job :broken [:quire/push] (fn [{: sh}] (sh "exit 3") (sh "touch never")))
(ci.job :after-broken [:broken :quiet] (fn [{: sh}] (sh :true)))
(ci.job :later [:after-broken] (fn [{: sh}] (sh :true)))
(ci.job :says-so [:quire/push] (fn [] {:exit 2}))
(ci.job :decides [:quire/push] (fn [{: sh}] (let [{: exit} (sh "exit 4")] {:code exit})))
(ci.job :given [:decides] (fn [{: jobs}] {:code (. (jobs :decides) :code)}))
(ci.job :retried [:quire/push] {:retry 2} (fn [{: sh}] (sh "echo x >> tries; test $(wc -l < tries) = 3")))
(ci.job :retried-in-vain [:quire/push] {:retry 1} (fn [{: sh}] (sh "echo x >> more; exit 5")))
(ci.job :counts [:retried :quire/push] (fn [{: sh}] (sh "cat more tries | wc -l")))
(ci.job :slow [:quire/push] {:timeout "300ms" :retry 3} (fn [{: sh}] (sh "sleep 60")))
(ci.job :slow-command [:quire/push] (fn [{: sh}] (sh "sleep 60" {:timeout "200ms"})))
(ci.job :spins [:quire/push] {:timeout "300ms"} (fn [] (while true nil)))
(ci.job :raises [:quire/push] (fn [] (let [t nil] t.x)))
"#,
    );
    let state = |id: &str| find(&jobs, id).state;
    for (id, expected) in [
        ("quiet", JobState::Skipped),
        ("after-quiet", JobState::Complete),
        ("allowed", JobState::Failed),
        ("after-allowed", JobState::Complete),
        ("broken", JobState::Failed),
        ("after-broken", JobState::Skipped),
        ("later", JobState::Skipped),
        ("says-so", JobState::Failed),
        ("decides", JobState::Complete),
        ("given", JobState::Complete),
        ("retried", JobState::Complete),
        ("retried-in-vain", JobState::Failed),
        ("slow", JobState::Failed),
        ("slow-command", JobState::Failed),
        ("spins", JobState::Failed),
        ("raises", JobState::Failed),
    ] {
        assert_eq!(state(id), expected, "{id}: {:?}", find(&jobs, id));
    }
    for id in ["after-quiet", "after-allowed"] {
        assert_eq!(
            find(&jobs, id).output,
            Some(json!({"saw-nil": true})),
            "{id}"
        );
    }
    assert_eq!(find(&jobs, "given").output, Some(json!({"code": 4})));
    for (id, exit_code, message) in [
        ("allowed", None, ".quire/ci.fnl:4:1: boom"),
        (
            "broken",
            Some(3),
            ".quire/ci.fnl:6:44: `exit 3` failed with exit code 3",
        ),
        ("after-broken", None, "`broken` failed"),
        ("later", None, "`broken` failed"),
        ("says-so", Some(2), "it returned :exit 2"),
        (
            "retried-in-vain",
            Some(5),
            "`echo x >> more; exit 5` failed with exit code 5",
        ),
        ("slow", None, "the job timed out after 300ms"),
        ("slow-command", None, "the command timed out after 200ms"),
        (
            "spins",
            None,
            "it ran for longer than its time limit of 300ms and was stopped",
        ),
        (
            "raises",
            None,
            ".quire/ci.fnl:18:1: attempt to index a nil value (local 't')",
        ),
    ] {
        let job = find(&jobs, id);
        assert_eq!(job.exit_code, exit_code, "{id}: {job:?}");
        assert!(
            job.message.as_ref().unwrap().contains(message),
            "{id}: {:?}",
            job.message
        );
    }
    let steps = |id: &str| {
        forge
            .steps(ended.id)
            .iter()
            .filter(|step| step.job_id.as_str() == id)
            .count()
    };
    assert_eq!(steps("broken"), 1, "a time-out is not retried");
    assert_eq!(steps("retried"), 3, "a time-out is not retried");
    assert_eq!(steps("retried-in-vain"), 2, "a time-out is not retried");
    assert_eq!(steps("slow"), 1, "a time-out is not retried");
    assert_eq!(
        (ended.state, ended.failure_kind),
        (RunState::Failed, Some(FailureKind::Job))
    );
    let message = ended.message.unwrap();
    assert!(
        message.starts_with("job `") && message.ends_with(" (and 6 more)"),
        "one of seven: {message}"
    );
    // Only jobs that may fail have failed: the run is complete.
    let (ended, _) = run(
        &forge,
        "fine",
        "(ci.job :a [:quire/push] {:allow-failure true} (fn [{: sh}] (sh :false)))\n(ci.job :b [:quire/push] (fn [] nil))",
    );
    assert_eq!(ended.state, RunState::Complete, "{ended:?}");
}

#[test]
fn variables_and_options_reach_the_command() {
    let forge = TestForge::start(QUIRE);
    let (ended, jobs) = run(
        &forge,
        "app",
        r#"(ci.env {:A "run" :B "run" :QUIRE_RUN "changed"})
(ci.job :env [:quire/push] {:env {:B "job" :C "job"}}
  (fn [{: sh : env}]
    (let [r (sh "printf '%s %s %s %s' $A $B $C $QUIRE_BRANCH" {:env {:C "sh"}})
          sub (sh ["cat" "file" "-"] {:cwd "sub" :stdin " and in"})]
      {:out r.stdout :sub sub.stdout :a (env :A) :b (env :B) :c (env :C) :branch (env :QUIRE_BRANCH) :ci (env :CI)
       :run (env :QUIRE_RUN) :repo (env :QUIRE_REPO) :none (= nil (env :PATH))})))
(ci.job :other [:quire/push] (fn [{: env : sh}] {:b (env :B) :c (= nil (env :C)) :out (. (sh "printf %s $B") :stdout)}))
"#,
    );
    assert_eq!(ended.state, RunState::Complete, "{ended:?}");
    assert_eq!(
        find(&jobs, "env").output,
        Some(json!({
            "out": "run job sh main", "sub": "in sub and in", "a": "run", "b": "job", "c": "job", "branch": "main", "ci": "true",
            "run": "changed", "repo": "app", "none": true,
        }))
    );
    assert_eq!(
        find(&jobs, "other").output,
        Some(json!({"b": "run", "c": true, "out": "run"})),
        "a job's variables are its own"
    );
}

#[test]
fn of_jobs_whose_run_timed_out() {
    let forge = TestForge::start(QUIRE);
    let (ended, jobs) = run(
        &forge,
        "app",
        r#"(ci.timeout "1s")
(ci.job :done [:quire/push] (fn [{: sh}] (sh :true)))
(ci.job :runs [:quire/push] (fn [{: sh}] (pcall #(sh "sleep 60")) (sh "touch never")))
(ci.job :waits [:runs] (fn [{: sh}] (sh :true)))"#,
    );
    assert_eq!(
        (ended.state, ended.failure_kind),
        (RunState::Failed, Some(FailureKind::Timeout)),
        "{ended:?}"
    );
    assert_eq!(ended.message.as_deref(), Some("the run timed out after 1s"));
    let states: Vec<JobState> = ["done", "runs", "waits"]
        .iter()
        .map(|id| find(&jobs, id).state)
        .collect();
    assert_eq!(
        states,
        [JobState::Complete, JobState::Aborted, JobState::Skipped],
        "what had not begun was not broken off"
    );
}
