//! `quire ci run`: what it runs, what it shows, and that nothing is left of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_executor::engine::{Engine, Timeouts};
use quire_testkit::skipped;
use tempfile::TempDir;

use super::support::{Checked, program};

/// A project in a folder of its own, with a folder for temporary files beside it.
pub(crate) struct Project {
    folder: TempDir,
}

impl Project {
    /// Outside of any checkout, with no pipeline.
    pub(crate) fn empty() -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in [project.root(), project.scratch()] {
            std::fs::create_dir(folder).unwrap();
        }
        project
    }

    /// Outside of any checkout, with this pipeline.
    pub(crate) fn new(pipeline: &str) -> Self {
        let project = Self::empty();
        project.write(
            ".quire/ci.fnl",
            &format!("(local ci (require :quire.ci))\n{pipeline}"),
        );
        project
    }

    /// In a checkout of its own.
    fn in_git(pipeline: &str) -> Self {
        let project = Self::new(pipeline);
        project.git(&["init", "-q", "-b", "trunk"]);
        project
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own git")]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.root())
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments);
        let output = command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test starts the binary as a person would"
    )]
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("ci").args(arguments).current_dir(self.root());
        command.envs([("TMPDIR", self.scratch()), ("USER", "ada".into())]);
        command
    }

    pub(crate) fn ci(&self, arguments: &[&str]) -> Checked {
        finished(&mut self.command(arguments))
    }

    /// A run of the whole pipeline on the host.
    pub(crate) fn on_host(&self) -> Checked {
        self.ci(&["run", "--executor", "host"])
    }

    pub(crate) fn nothing_is_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.scratch())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub(crate) fn finished(command: &mut Command) -> Checked {
    let output = command.output().unwrap();
    Checked {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Whether these texts come in this order.
pub(crate) fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("`{part}` is missing, or too early, in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

/// The output without what differs from run to run: times, ids, and how it is executed.
fn steady(text: &str) -> Vec<String> {
    let times = |part: &str| part.ends_with(" ms") || part.ends_with(" s");
    let plain = |line: &str| {
        line.split(" · ")
            .filter(|part| !times(part))
            .collect::<Vec<_>>()
            .join(" · ")
    };
    text.lines()
        .filter(|line| !line.starts_with("quire: ") && !line.starts_with("✓ complete in"))
        .map(plain)
        .collect()
}

#[test]
fn a_green_run_on_the_host() {
    let project = Project::in_git(
        r#"(ci.env {:GREETING "hello"})
         (ci.job :test [:quire/push] (fn [{: sh : log}]
           (sh "cat tracked untracked; ls; echo $GREETING from $QUIRE_BRANCH")
           (log "a word")
           (sh [:sh :-c "echo to stderr >&2"])
           {:size 3}))
         (ci.job :package [:test] (fn [{: sh : jobs}] (sh (.. "echo size " (. (jobs :test) :size)))))"#,
    );
    for (name, text) in [
        ("tracked", "old\n"),
        (".gitignore", "ignored\n"),
        ("gone", ""),
    ] {
        project.write(name, text);
    }
    project.commit("one");
    for (name, text) in [
        ("tracked", "new\n"),
        ("untracked", "fresh\n"),
        ("ignored", ""),
    ] {
        project.write(name, text);
    }
    std::fs::remove_file(project.root().join("gone")).unwrap();
    let run = project.on_host();
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    in_order(
        &run.stdout,
        &[
            "quire: .quire/ci.fnl of the working tree, trunk at ",
            "executor host\n",
            "── test · cat tracked untracked; ls; echo $GREETING from $QUIRE_BRANCH\n",
            "test    │ new\n",
            "test    │ fresh\n",
            "test    │ tracked\n",
            "test    │ untracked\n",
            "test    │ hello from trunk\n",
            "✓ test · cat tracked",
            "test: a word\n",
            "── test · sh -c 'echo to stderr >&2'\n",
            "test    │ to stderr\n",
            "✓ test complete · ",
            "── package · echo size 3\n",
            "package │ size 3\n",
            "✓ package complete · ",
            "\n✓ complete in ",
            "\n├─ ✓ test     complete · ",
            "\n│  ├─ ✓ cat tracked",
            "\n│  └─ ✓ sh -c ",
            "\n└─ ✓ package  complete · ",
            "\n   └─ ✓ echo size 3 · ",
        ],
    );
    assert!(
        !run.stdout.contains("ignored")
            && !run.stdout.contains("gone")
            && !run.stdout.contains('\u{1b}'),
        "{}",
        run.stdout
    );
    project.nothing_is_left();
}

#[test]
fn a_failing_job_is_exit_code_1_with_its_message() {
    let project = Project::new(
        r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh "echo before; exit 7") (sh "echo never")))
         (ci.job :b [:a] (fn [{: sh}] (sh "echo neither")))
         (ci.job :c [:quire/push] (fn [] (error "it is broken")))"#,
    );
    let run = project.on_host();
    assert_eq!((run.code, run.stderr.as_str()), (1, ""), "{}", run.stdout);
    in_order(
        &run.stdout,
        &[
            "a │ before\n",
            "✗ a · echo before; exit 7 · exit 7 · ",
            "✗ failed after ",
            "├─ ✗ a  failed · ",
            ".quire/ci.fnl:2:39: `echo before; exit 7` failed with exit code 7\n",
            "├─ – b  skipped · `a` failed\n",
            "└─ ✗ c  failed · ",
            "it is broken",
        ],
    );
    assert!(
        run.stdout.contains("quire: job `c` failed: "),
        "{}",
        run.stdout
    );
    assert!(
        !run.stdout.contains("never\n") && !run.stdout.contains("neither"),
        "{}",
        run.stdout
    );
    project.nothing_is_left();
}

#[test]
fn jobs_by_name_run_with_their_ancestors() {
    let job = |id: &str, input: &str| {
        format!(
            r#"(ci.job :{id} [:{input}] (fn [{{: sh}}] (sh "echo ran {id}")))
"#
        )
    };
    let jobs = [
        ("lint", "quire/push"),
        ("build", "quire/push"),
        ("test", "build"),
        ("deploy", "test"),
        ("gate", "quire/manual"),
    ];
    let project = Project::new(&jobs.map(|(id, input)| job(id, input)).concat());
    let ran = |arguments: &[&str]| {
        let run = project.ci(&[&["run", "--executor", "host"], arguments].concat());
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let (jobs, summary) = (
            jobs.map(|(id, _)| id),
            run.stdout.split_once("✓ complete in").unwrap().1.to_owned(),
        );
        jobs.into_iter()
            .filter(|id| summary.contains(&format!("✓ {id} ")))
            .collect::<Vec<_>>()
    };
    assert_eq!(ran(&["test"]), ["build", "test"]);
    assert_eq!(ran(&["lint", "build"]), ["lint", "build"]);
    assert_eq!(ran(&[]), ["lint", "build", "test", "deploy"]);
    assert_eq!(ran(&["--source", "manual"]), ["gate"]);
    project.nothing_is_left();
}

#[test]
fn wrong_words_are_exit_code_2_and_one_line() {
    let project = Project::in_git("(ci.job :test [:quire/push] (fn [{: sh}] (sh :true)))");
    for (arguments, words) in [
        (
            &["tset"][..],
            "the pipeline has no job `tset`: did you mean `test`?",
        ),
        (&["test", "a/b"], "`a/b` is not a job id"),
        (
            &["--source", "manual"],
            "no job of the pipeline waits for `quire/manual`",
        ),
        (&["--branch", "a b"], "`refs/heads/a b` is not a ref name"),
        (
            &["--sha", "nope"],
            "`nope` does not name a commit of this repository",
        ),
        (
            &["--sha=--all"],
            "`--all` does not name a commit of this repository",
        ),
        (
            &["--image", "x", "--executor", "host"],
            "leave one of them out",
        ),
        (&["--executor", "vm"], "invalid value 'vm'"),
    ] {
        let run = project.ci(&[&["run"], arguments].concat());
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (2, ""),
            "{arguments:?} {}",
            run.stderr
        );
        assert!(run.stderr.contains(words), "{arguments:?}: {}", run.stderr);
    }
    let outside =
        Project::new("(ci.job :test [:quire/push] (fn [] nil))").ci(&["run", "--sha", "HEAD"]);
    assert!(
        outside.code == 2 && outside.stderr.contains("is not in a git checkout"),
        "{}",
        outside.stderr
    );
    project.nothing_is_left();
}

#[test]
fn without_a_good_pipeline_nothing_runs() {
    let project = Project::new("(ci.job :test [:tset] (fn [] nil))");
    let run = project.on_host();
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(
        run.stderr.contains(".quire/ci.fnl:2:16") && run.stderr.contains("1 error in the pipeline"),
        "{}",
        run.stderr
    );
    std::fs::remove_dir_all(project.root().join(".quire")).unwrap();
    let none = project.on_host();
    assert!(
        none.code == 1
            && none.stderr.contains("no pipeline found")
            && none.stderr.contains("quire ci init"),
        "{}",
        none.stderr
    );
    project.nothing_is_left();
}

#[test]
fn secrets_come_from_the_environment_and_are_not_shown() {
    let project = Project::new(
        r#"(ci.job :a [:quire/push] (fn [{: sh : secret}]
           (sh [:echo (secret :deploy-key)])
           (sh "printf '%s' \"$KEY\" | base64; printf 'cor%s' 'rect-horse'; env" {:env {:KEY (secret :deploy-key)}})
           (error (.. "with " (secret :deploy-key)))))
         (ci.job :b [:quire/push] (fn [{: secret}] (secret :other)))"#,
    );
    let run = finished(
        project
            .command(&["run", "--executor", "host"])
            .env("QUIRE_SECRET_DEPLOY_KEY", "correct-horse\n"),
    );
    assert_eq!(run.code, 1);
    in_order(
        &run.stdout,
        &[
            "── a · echo {{ deploy-key }}\n",
            "a │ {{ deploy-key }}\n",
            "a │ {{ deploy-key }}\n",
        ],
    );
    assert!(
        run.stdout
            .contains("QUIRE_SECRET_OTHER of the secret `other` is not set"),
        "{}",
        run.stdout
    );
    for form in ["correct-horse", "Y29ycmVjdC1ob3JzZ"] {
        assert!(
            !run.stdout.contains(form) && !run.stderr.contains(form),
            "{}",
            run.stdout
        );
    }
    project.nothing_is_left();
}

const SHOW_PUSH: &str = r#"(ci.job :show [:quire/push] (fn [{: sh : jobs}]
  (let [p (jobs :quire/push)]
    (sh [:printf "%s|" (tostring p.sha) (tostring p.previous-sha) p.ref p.branch (tostring p.tag) (tostring p.message)
         (table.concat p.files-changed ",") (tostring p.forced) (tostring p.pusher)]))))"#;

/// The line that begins what the pipeline saw of the push.
fn seen(run: &Checked) -> String {
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run.stdout
        .lines()
        .find(|line| line.contains("|refs/"))
        .unwrap()
        .to_owned()
}

#[test]
fn the_push_is_what_would_be_pushed() {
    let project = Project::in_git(SHOW_PUSH);
    let zero = "0".repeat(40);
    assert_eq!(
        seen(&project.on_host()),
        format!("{zero}|nil|refs/heads/trunk|trunk|nil|nil|.quire/ci.fnl|false|ada|")
    );
    project.write("a", "1");
    let first = project.commit("the first");
    assert_eq!(
        seen(&project.on_host()),
        format!("{first}|nil|refs/heads/trunk|trunk|nil|the first|.quire/ci.fnl,a|false|ada|")
    );
    project.write("b", "1");
    let second = project.commit("the second\n\nmore");
    project.write("a", "2");
    project.write("c", "new");
    let run = project.ci(&["run", "--executor", "host", "--branch", "feature/x"]);
    assert_eq!(
        seen(&run),
        format!("{second}|{first}|refs/heads/feature/x|feature/x|nil|the second")
    );
    assert!(
        run.stdout.contains("\nmore|a,b,c|false|ada|\n"),
        "{}",
        run.stdout
    );
    project.git(&["checkout", "-q", "--detach"]);
    assert!(seen(&project.on_host()).contains("|refs/heads/HEAD|HEAD|"));

    let commit = project.ci(&["run", "--executor", "host", "--sha", "HEAD"]);
    assert!(
        seen(&commit).starts_with(&format!("{second}|{first}|"))
            && commit.stdout.contains("\nmore|b|false|ada|\n"),
        "{}",
        commit.stdout
    );
    assert!(
        commit
            .stdout
            .contains(".quire/ci.fnl of the commit, HEAD at "),
        "{}",
        commit.stdout
    );

    let outside = Project::new(SHOW_PUSH);
    assert_eq!(
        seen(&outside.on_host()),
        format!("{zero}|nil|refs/heads/main|main|nil|nil|.quire/ci.fnl|false|ada|")
    );
    outside.nothing_is_left();
    project.nothing_is_left();
}

#[test]
fn a_commit_is_run_as_it_is_in_git() {
    let project = Project::in_git(r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh "cat file; ls")))"#);
    project.write("file", "committed\n");
    project.write("sub/below", "");
    project.commit("one");
    project.write("file", "changed\n");
    project.write("extra", "");
    project.write(".quire/ci.fnl", "(this is broken");
    let mut command = project.command(&["run", "--executor", "host", "--sha", "trunk"]);
    let run = finished(command.current_dir(project.root().join("sub")));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains("\ncommitted\nfile\nsub\n") && !run.stdout.contains("extra"),
        "{}",
        run.stdout
    );
    let check = project.ci(&["check", "--sha", "HEAD"]);
    assert!(
        check.code == 0 && check.stdout.starts_with(".quire/ci.fnl: 1 job\n"),
        "{}{}",
        check.stdout,
        check.stderr
    );
    assert_eq!(project.ci(&["check"]).code, 1);
    let none = project.ci(&["check", "--sha", "HEAD~1", "--format", "json"]);
    assert!(
        none.code == 2
            && none
                .stdout
                .contains("`HEAD~1` does not name a commit of this repository"),
        "{}",
        none.stdout
    );
    project.nothing_is_left();
}

#[test]
fn without_an_engine_it_runs_on_the_host_and_says_so() {
    let project = Project::new(r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh "echo it runs")))"#);
    let away = format!("unix://{}", project.scratch().join("no.sock").display());
    let run = finished(project.command(&["run"]).env("DOCKER_HOST", &away));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    in_order(
        &run.stdout,
        &[
            "quire: no Docker engine: ",
            "no.sock",
            "; commands run on this machine\n",
            "executor host\n",
            "it runs\n",
        ],
    );
    let run = finished(
        project
            .command(&["run", "--executor", "docker"])
            .env("DOCKER_HOST", &away),
    );
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(
        run.stderr.contains("cannot be reached") && run.stderr.contains("--executor host"),
        "{}",
        run.stderr
    );
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    project.nothing_is_left();
}

#[test]
fn a_container_shows_the_same_as_the_host() {
    if skipped("docker") {
        return;
    }
    let project = Project::in_git(
        r#"(ci.image "debian:trixie-slim")
         (ci.job :a [:quire/push] (fn [{: sh}]
           (sh "cat file; ls -A; test -x tool && ./tool; readlink link; echo $QUIRE_BRANCH")
           (sh "echo x > made") (sh [:cat :made])
           (sh "no-such-program") (sh :false)))
         (ci.job :b [:a] (fn [] 1))"#,
    );
    project.write("file", "content\n");
    project.write("tool", "#!/bin/sh\necho a tool\n");
    std::os::unix::fs::symlink("file", project.root().join("link")).unwrap();
    std::fs::set_permissions(
        project.root().join("tool"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    project.commit("one");
    let host = project.on_host();
    let docker = project.ci(&["run", "--executor", "docker"]);
    assert_eq!(
        (host.code, docker.code),
        (1, 1),
        "{}{}",
        docker.stdout,
        docker.stderr
    );
    assert!(
        host.stdout.contains("a tool\n") && docker.stdout.contains("executor docker\n"),
        "{}",
        docker.stdout
    );
    let same = |run: &Checked| {
        steady(&run.stdout)
            .into_iter()
            .filter(|line| !line.starts_with("✗ failed after"))
            .collect::<Vec<_>>()
    };
    assert_eq!(same(&host), same(&docker));
    project.nothing_is_left();
}

/// A run that has come to its long step: the child, the step's process id, the run's id.
fn started(project: &Project, executor: &str) -> (Child, i32, String) {
    let mut command = project.command(&["run", "--executor", executor]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let words = lines
        .by_ref()
        .map(Result::unwrap)
        .find_map(|line| Some(line.strip_prefix("at ")?.to_owned()))
        .unwrap();
    let (pid, run) = words.split_once(' ').unwrap();
    let found = (pid.parse().unwrap(), run.to_owned());
    (child, found.0, found.1)
}

const LONG: &str = r#"(ci.image "debian:trixie-slim")
(ci.job :a [:quire/push] (fn [{: sh}] (sh "echo at $$ $QUIRE_RUN; exec sleep 1000")))"#;

/// Waits for the end within a deadline; gives the exit code and what was on standard error.
fn ended(child: &mut Child) -> (i32, String) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let mut errors = String::new();
            child
                .stderr
                .as_mut()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            return (status.code().unwrap(), errors);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn ctrl_c_leaves_nothing_on_the_host() {
    for (sent, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let project = Project::new(LONG);
        let (mut child, pid, _) = started(&project, "host");
        assert!(
            Path::new(&format!("/proc/{pid}")).exists()
                && std::fs::read_dir(project.scratch()).unwrap().count() == 1
        );
        signal(&child, sent);
        assert_eq!(ended(&mut child), (code, String::new()));
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "its command goes on"
        );
        project.nothing_is_left();
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let project = Project::new(
        r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh "echo at $$ x; while sleep 0.05; do echo more; done")))"#,
    );
    let (mut child, pid, _) = started(&project, "host");
    drop(child.stdout.take());
    assert_eq!(ended(&mut child), (1, String::new()));
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "its command goes on"
    );
    project.nothing_is_left();
}

fn container_of(run: &str) -> bool {
    let endpoint =
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async {
            Engine::new(&endpoint, Timeouts::default())
                .container(&format!("quire-{run}"))
                .await
        })
        .unwrap()
        .is_some()
}

#[test]
fn ctrl_c_leaves_no_container() {
    if skipped("docker") {
        return;
    }
    let project = Project::new(LONG);
    let (mut child, _, run) = started(&project, "docker");
    assert!(container_of(&run));
    signal(&child, Signal::SIGINT);
    assert_eq!(ended(&mut child), (130, String::new()));
    assert!(!container_of(&run));
    project.nothing_is_left();
}

#[test]
fn what_a_killed_run_left_goes_with_the_next_one() {
    if skipped("docker") {
        return;
    }
    let project = Project::new(LONG);
    let (mut first, _, killed) = started(&project, "docker");
    let (mut second, _, alive) = started(&project, "docker");
    first.kill().unwrap();
    first.wait().unwrap();
    let (mut third, _, third_run) = started(&project, "docker");
    assert!(
        container_of(&killed) && container_of(&alive),
        "while another run goes on, nothing is removed"
    );
    for child in [&mut second, &mut third] {
        signal(child, Signal::SIGINT);
        assert_eq!(ended(child).0, 130);
    }
    let (mut fourth, _, fourth_run) = started(&project, "docker");
    assert!(!container_of(&killed));
    signal(&fourth, Signal::SIGINT);
    assert_eq!(ended(&mut fourth).0, 130);
    assert!(
        ![alive, third_run, fourth_run]
            .iter()
            .any(|run| container_of(run))
    );
}

/// What each job returns travels once. Sent anew to each job after it, a long chain would cost the square of its length,
/// and here the last job's inputs would be longer than a line to the driver may be.
#[test]
fn a_long_chain_of_jobs_with_large_results_takes_linear_time() {
    let project = Project::new(
        r#"(for [n 1 120]
  (ci.job (.. :j n) [(if (= n 1) :quire/push (.. :j (- n 1)))]
    (fn [{: jobs}]
      (when (= n 120) (assert (= 1 (. (jobs :j1) :n)) "the first is gone"))
      {: n :much (string.rep :x 300000)})))"#,
    );
    let ran = project.on_host();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
}
