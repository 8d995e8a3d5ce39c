//! From a push to a green run in a container.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use quire_testkit::{run_ok, wait_for_or_report};

use crate::appliance::Appliance;
use crate::client::Client;
use crate::docker::containers_labelled;

/// Prints, fails nothing, and returns something to the job after it.
pub(crate) const GREEN: &str = r#"(local ci (require :quire.ci))
(ci.image "debian:trixie-slim")
(ci.job :greet [:quire/push]
  (fn [{: sh}]
    (let [said (sh "echo hello from the container; cat content.txt")]
      {:said said.stdout})))
(ci.job :after [:greet]
  (fn [{: sh : jobs}]
    (let [greet (jobs :greet)]
      (sh ["echo" (.. "heard: " greet.said)]))))
"#;

/// Prints `tick 1` to `tick N`, four a second.
pub(crate) fn ticking(ticks: u32) -> String {
    format!(
        r#"(local ci (require :quire.ci))
(ci.image "debian:trixie-slim")
(ci.job :tick [:quire/push]
  (fn [{{: sh}}]
    (sh "i=0; while [ $i -lt {ticks} ]; do i=$((i+1)); echo tick $i; sleep 0.25; done")))
"#
    )
}

/// Pushes a fresh repository with this pipeline.
pub(crate) fn push_pipeline(client: &Client, repo: &str, pipeline: &str) -> String {
    let tree = client.work_tree(
        repo,
        &[
            (".quire/ci.fnl", pipeline),
            ("content.txt", "the pushed tree\n"),
        ],
    );
    client.push(&tree, repo)
}

/// Waits until the newest run is active and its first line is in the log; gives its id.
pub(crate) fn wait_first_tick(appliance: &Appliance, client: &Client, repo: &str) -> String {
    let ticking = || {
        let run = client
            .runs(repo)
            .into_iter()
            .next()
            .filter(|run| run.state == "active")?;
        client.log(&run.id).contains("tick 1").then_some(run.id)
    };
    wait_for_or_report("the first line of the run", ticking, || appliance.log())
}

#[test]
fn a_first_push_that_is_rejected_leaves_no_repository() {
    let (appliance, client) = Appliance::with_client();
    let tree = client.work_tree("rejected", &[("file", "text")]);
    // Git sends an id that it does not have without its object, and the other side rejects the pack.
    let refspec = format!("{}:refs/heads/main", "1".repeat(40));
    let remote = client.remote("rejected");
    let mut push = client.git(&tree, &["push", "-q", &remote, &refspec]);
    let output = push.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("remote rejected"), "{said}");
    wait_for_or_report(
        "the empty repository to be removed",
        || (!client.ssh_ok(&["repo", "list"]).contains("rejected")).then_some(()),
        || appliance.log(),
    );
}

#[test]
fn a_push_creates_the_repository_and_its_run_completes_in_docker() {
    let (appliance, client) = Appliance::with_client();
    let tree = client.work_tree(
        "first",
        &[
            (".quire/ci.fnl", GREEN),
            ("content.txt", "the pushed tree\n"),
        ],
    );
    let head = run_ok(&mut client.git(&tree, &["rev-parse", "HEAD"]))
        .trim()
        .to_owned();
    let printed = client.push(&tree, "first");
    let line = printed
        .lines()
        .find(|line| line.contains("quire: run "))
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(
        line.contains(" queued  ") && line.contains(&appliance.url()),
        "{line}"
    );

    let runs = client.wait_runs("first", 1);
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert!(
        line.contains(&run.id),
        "the pusher was told of {line}, the run is {run:?}"
    );
    assert_eq!(run.state.as_str(), "complete", "{}", client.log(&run.id));
    assert_eq!(run.sha.as_str(), head.as_str(), "{}", client.log(&run.id));
    assert_eq!(
        run.ref_name.as_str(),
        "refs/heads/main",
        "{}",
        client.log(&run.id)
    );
    let log = client.log(&run.id);
    for text in [
        "hello from the container",
        "the pushed tree",
        "heard: hello from the container",
    ] {
        assert!(log.contains(text), "{text:?} is missing in\n{log}");
    }
    assert_eq!(
        containers_labelled(&run.id),
        Vec::<String>::new(),
        "the run's container is gone"
    );

    let clone = client.work_tree("clone", &[]);
    run_ok(&mut client.git(&clone, &["fetch", "-q", &client.remote("first"), "main"]));
    assert_eq!(
        run_ok(&mut client.git(&clone, &["rev-parse", "FETCH_HEAD"])).trim(),
        head
    );
}

#[test]
fn a_log_followed_over_ssh_shows_lines_live_and_ends_with_the_run() {
    let (appliance, client) = Appliance::with_client();
    push_pipeline(&client, "follow", &ticking(20));
    let run = client.runs("follow")[0].id.clone();
    let mut follow = client
        .ssh_command(&["run", "logs", "--follow", &run])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut seen, mut was_live) = (Vec::new(), false);
    for line in BufReader::new(follow.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("tick 1") && !was_live {
            was_live = client.runs("follow")[0].state == "active";
        }
        seen.push(line);
    }
    assert!(
        was_live,
        "the first line came while the run was active\n{seen:#?}\n{}",
        appliance.log()
    );
    for tick in 1..=20 {
        assert_eq!(
            seen.iter()
                .filter(|line| line.trim_end().ends_with(&format!("tick {tick}")))
                .count(),
            1,
            "tick {tick} in {seen:#?}"
        );
    }
    assert_eq!(
        follow.wait().unwrap().code(),
        Some(0),
        "exits with the run's outcome"
    );
}

#[test]
fn a_job_that_fails_is_red_with_its_exit_code_and_follow_says_so() {
    let (_appliance, client) = Appliance::with_client();
    let pipeline = GREEN.replace("echo hello", "echo about to fail; exit 7; echo hello");
    push_pipeline(&client, "red", &pipeline);
    let run = client.wait_runs("red", 1).remove(0);
    assert_eq!(
        (run.state.as_str(), run.failure_kind.as_deref()),
        ("failed", Some("job"))
    );
    let followed = client.ssh(&["run", "logs", "--follow", &run.id]);
    assert_eq!(followed.status.code(), Some(1));
}

#[test]
fn the_image_of_a_run_can_come_from_its_own_dockerfile() {
    let (appliance, client) = Appliance::with_client();
    let pipeline = GREEN
        .replace("(ci.image \"debian:trixie-slim\")\n", "")
        .replace("cat content.txt", "cat /made-by-dockerfile");
    let dockerfile =
        "FROM debian:trixie-slim\nRUN echo from the built image > /made-by-dockerfile\n";
    let tree = client.work_tree(
        "built",
        &[
            (".quire/ci.fnl", &pipeline),
            (".quire/Dockerfile", dockerfile),
        ],
    );
    client.push(&tree, "built");
    let run = client.wait_runs("built", 1).remove(0);
    let log = client.log(&run.id);
    assert_eq!(run.state, "complete", "{log}\n{}", appliance.log());
    assert!(log.contains("from the built image"), "{log}");
}

#[test]
fn a_run_has_neither_the_engine_nor_the_volume() {
    let (_appliance, client) = Appliance::with_client();
    let look = "ls /var/run/docker.sock /run/docker.sock /var/quire 2>/dev/null; grep NoNewPrivs /proc/self/status; pwd";
    push_pipeline(&client, "confined", &GREEN.replace("cat content.txt", look));
    let run = client.wait_runs("confined", 1).remove(0);
    let log = client.log(&run.id);
    assert_eq!(run.state, "complete", "{log}");
    let output: Vec<&str> = log
        .lines()
        // Without the lines about the command itself.
        .filter(|line| !line.starts_with(['─', '✓']))
        .collect();
    assert!(
        !output
            .iter()
            .any(|line| line.contains("docker.sock") || line.contains("quire.db")),
        "{log}"
    );
    assert!(
        log.contains("NoNewPrivs:\t1") && log.contains("/work"),
        "{log}"
    );
}

#[test]
fn a_broken_pipeline_is_a_failed_run_with_file_and_line() {
    let (_appliance, client) = Appliance::with_client();
    push_pipeline(
        &client,
        "broken",
        "(local ci (require :quire.ci))\n(ci.job :a [:nowhere] (fn [] nil))\n",
    );
    let run = client.wait_runs("broken", 1).remove(0);
    assert_eq!(
        (run.state.as_str(), run.failure_kind.as_deref()),
        ("failed", Some("pipeline"))
    );
    let log = client.log(&run.id);
    assert!(
        log.contains(".quire/ci.fnl:2") && log.contains("nowhere"),
        "{log}"
    );
}

#[test]
fn without_an_engine_pushes_work_and_runs_wait() {
    let mut appliance = Appliance::prepare();
    let client = Client::new(&appliance, "owner");
    appliance.set("QUIRE_AUTHORIZED_KEYS", &client.public_key());
    appliance.set("QUIRE_DOCKER_SOCKET", "/dev/null");
    appliance.up();
    let printed = push_pipeline(&client, "waits", GREEN);
    assert!(printed.contains("queued"), "{printed}");
    let run = client.runs("waits").remove(0);
    assert_eq!(run.state, "pending");
    client.ssh_ok(&["repo", "list"]);
}

/// The project's own repository, as `scripts/up` proposes it. Only the jobs that compile nothing
/// are run: the others take as long as `scripts/check`.
#[test]
fn this_very_repository_runs_green() {
    let (appliance, client) = Appliance::with_client();
    let folder = appliance.folder.path().join("quire");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The tree as it stands, committed or not, in a history of its own.
    std::fs::create_dir(&folder).unwrap();
    let files = run_ok(Command::new("git").current_dir(source).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]));
    let archive = format!(
        "tar -cf - --ignore-failed-read -T - | tar -xf - -C '{}'",
        folder.display()
    );
    let mut copy = Command::new("sh")
        .current_dir(source)
        .args(["-c", &archive])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut copy.stdin.take().unwrap(), files.as_bytes()).unwrap();
    assert!(copy.wait().unwrap().success());
    run_ok(&mut client.git(&folder, &["init", "-q", "-b", "main"]));
    client.commit(&folder, &[]);
    let remote = client.remote("quire");
    run_ok(&mut client.git(
        &folder,
        &["push", "-o", "ci.skip", &remote, "HEAD:refs/heads/main"],
    ));
    client.ssh_ok(&["run", "start", "quire", "--job", "summary"]);
    let run = client.wait_runs("quire", 1).remove(0);
    assert_eq!(
        run.state,
        "complete",
        "{}\n{}",
        client.log(&run.id),
        appliance.log()
    );
}
