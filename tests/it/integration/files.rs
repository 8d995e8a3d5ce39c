//! Files of the workspace, what runs keep, and caches: from a pipeline to the commands.

use std::fs;

use quire_testkit::{TestForge, transcript};
use quire_types::run::{FailureKind, Run, RunState};

use crate::QUIRE;

/// A pipeline of one job with all tools for files.
fn job(body: &str) -> String {
    format!(
        "(local ci (require :quire.ci))\n(ci.job :build [:quire/push] (fn [{{: sh : secret : read-file : read-json : write-file : artifact}}]\n{body}))\n"
    )
}

/// Runs this body in a repository of its own.
fn run_of(forge: &TestForge, body: &str) -> Run {
    let name = format!("app{}", forge.runs().len());
    forge.tree_with(&name, &job(body)).push(&["main"]);
    forge.end_of(forge.newest(&name).id)
}

/// The same; gives the run's state with its message.
fn outcome(forge: &TestForge, body: &str) -> (RunState, String) {
    let run = run_of(forge, body);
    (run.state, run.message.unwrap_or_default())
}

#[test]
fn jobs_read_write_and_keep_files() {
    let forge = TestForge::start(QUIRE);
    let body = r#"
      (write-file "out/deep/notes.txt" (.. "from " (read-file "in.txt")))
      (sh "cat out/deep/notes.txt; ln -s notes.txt out/deep/link")
      (write-file "bytes" "\0\255")
      (let [package (read-json "package.json")]
        (artifact "out/deep/notes.txt")
        (artifact "out" {:name "all"})
        (artifact "bytes")
        {:name package.name :first (. package.list 1) :nothing package.none :bytes (length (read-file "bytes"))})"#;
    let tree = forge.tree("app", "app");
    tree.write("in.txt", "the tree");
    tree.write(
        "package.json",
        r#"{"name": "thing", "list": [1, 2.5, null, true], "none": null}"#,
    );
    tree.write(".quire/ci.fnl", &job(body));
    tree.push_new("files");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(
        (run.state, run.message.as_deref()),
        (RunState::Complete, None)
    );
    assert_eq!(
        forge.jobs(run.id)[0].output,
        Some(serde_json::json!({"name": "thing", "first": 1, "bytes": 2}))
    );

    let listed: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok(&format!("run artifacts list {} --json", run.id)))
            .unwrap();
    let artifacts = listed["artifacts"].as_array().unwrap();
    let short: Vec<_> = artifacts
        .iter()
        .map(|a| {
            (
                a["name"].as_str().unwrap(),
                a["is_folder"] == true,
                a["files"].as_u64().unwrap(),
                a["bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("all", true, 2, 13),
            ("bytes", false, 1, 2),
            ("out/deep/notes.txt", false, 1, 13)
        ]
    );
    assert_eq!(artifacts[0]["job_id"], "build");
    let table = forge.ssh_ok(&format!("run artifacts list {}", run.id));
    assert!(
        table.contains("all") && table.contains("folder of 2") && table.contains("13 B"),
        "{table}"
    );

    assert_eq!(
        forge.ssh_ok(&format!("run artifacts get {} out/deep/notes.txt", run.id)),
        "from the tree"
    );
    assert_eq!(
        forge
            .ssh(&format!("run artifacts get {} bytes", run.id))
            .stdout,
        b"\0\xff"
    );
    let packed = forge
        .ssh(&format!("run artifacts get {} all", run.id))
        .stdout;
    let names: Vec<_> = tar::Archive::new(packed.as_slice())
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(
        names,
        ["all/", "all/deep", "all/deep/link", "all/deep/notes.txt"]
    );
    let unclear = forge.ssh(&format!("run artifacts get {}", run.id));
    assert_eq!(unclear.status.code(), Some(2), "{}", transcript(&unclear));
    let wrong = forge.ssh(&format!("run artifacts get {} ../../quire.db", run.id));
    assert_eq!(wrong.status.code(), Some(3), "{}", transcript(&wrong));
    assert!(
        transcript(&wrong).contains("it has `all`, `bytes`, `out/deep/notes.txt`"),
        "{}",
        transcript(&wrong)
    );

    let folder = forge.paths.run_artifacts(&run.repo, run.id);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    forge.ssh_ok("repo rm app --yes");
    assert!(!folder.exists() && !forge.paths.repo_artifacts(&run.repo).exists());
    forge.check_whole();
}

#[test]
fn what_cannot_be_read_or_kept_is_an_error_with_its_place() {
    let forge = TestForge::start(QUIRE);
    for (body, words) in [
        (
            r#"(read-file "no/such")"#,
            "ci.fnl:3:1: the workspace has no `no/such`",
        ),
        (
            r#"(sh "true")
(read-file "../x")"#,
            "ci.fnl:4:1: `../x` lies outside of the workspace",
        ),
        (
            r#"(sh "echo '{' >x.json")
(read-json "x.json")"#,
            "ci.fnl:4:1: `x.json` is not JSON: EOF while parsing an object",
        ),
        (r#"(write-file ".quire" "x")"#, "`.quire` is a folder"),
        (
            r#"(artifact "nothing")"#,
            "ci.fnl:3:1: the workspace has no `nothing`",
        ),
        (r#"(artifact ".")"#, "an artifact needs a name"),
        (
            r#"(artifact ".quire" {:nmae "x"})"#,
            "`artifact` has no option :nmae: its only option is :name",
        ),
        (
            r#"(sh "mkdir d; ln -s /etc d/out")
(artifact "d")"#,
            "ci.fnl:4:1: `d`: `out` in it is a link that points outside of it",
        ),
        (
            r#"(artifact ".quire") (artifact ".quire")"#,
            "an artifact named `.quire` exists already",
        ),
        (
            r#"(table.sort [1 2 3] #(read-file "x"))"#,
            "cannot be called from inside a function that was given to table.sort",
        ),
    ] {
        let (state, message) = outcome(&forge, body);
        assert_eq!(state, RunState::Failed, "{body}");
        assert!(message.contains(words), "{body}\n{message}");
    }
    // An ordinary error: it can be caught. And a file that is read is no look at a failed command.
    let caught = r#"(let [(ok why) (pcall read-file "no")] (assert (not ok)) (assert (string.find why "has no `no`")) (sh "true"))"#;
    assert_eq!(outcome(&forge, caught).0, RunState::Complete);
    let (_, message) = outcome(
        &forge,
        "(sh \"false\")\n(write-file \"x\" \"y\")\n(sh \"true\")",
    );
    assert!(
        message.contains("`false` failed with exit code 1"),
        "{message}"
    );
    forge.check_whole();
}

#[test]
fn artifacts_are_capped_redacted_and_kept_again_by_a_second_try() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.file("token"), "s3cret-of-length").unwrap();
    fs::write(
        forge.paths.config_fennel(),
        format!(
            "{{:secrets {{:token {{:file {:?}}}}}}}",
            forge.file("token").display().to_string()
        ),
    )
    .unwrap();
    forge.set("QUIRE_CI_MAX_ARTIFACTS", "1m").serve();
    let run = run_of(
        &forge,
        "(sh \"head -c 2000000 /dev/zero >big\")\n(artifact \"big\")",
    );
    assert_eq!(run.state, RunState::Failed);
    let message = run.message.unwrap_or_default();
    assert!(
        message.contains("`big`: the artifacts of this run exceed the limit of 1.0 MiB together"),
        "{message}"
    );
    assert!(forge.store().artifacts().list(run.id).unwrap().is_empty());
    let (_, message) = outcome(
        &forge,
        "(artifact \".quire\" {:name (.. \"x-\" (secret :token))})",
    );
    assert!(
        message.contains("the name of the artifact contains a secret: x-{{ token }}"),
        "{message}"
    );
    // Files come with secrets in place: the pipeline wrote them, and the log replaces them.
    assert_eq!(
        outcome(
            &forge,
            r#"(write-file "t" (secret :token)) (sh ["test" (read-file "t") "=" (secret :token)])"#
        )
        .0,
        RunState::Complete
    );

    let again = forge.file("again").display().to_string();
    let body = format!(
        r#"(write-file "x" "content")
(artifact "x")
(sh "test -e {again} || {{ touch {again}; exit 1; }}")"#
    );
    let text = job(&body).replace("[:quire/push] (fn", "[:quire/push] {:retry 1} (fn");
    forge.tree_with("again", &text).push(&["main"]);
    let run = forge.end_of(forge.newest("again").id);
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Complete, None::<FailureKind>),
        "{:?}",
        run.message
    );
    assert_eq!(
        forge.ssh_ok(&format!("run artifacts get {}", run.id)),
        "content"
    );
    forge.check_whole();
}

#[test]
fn caches_are_listed_and_cleared_through_the_server() {
    let mut forge = TestForge::new(QUIRE);
    let cache = |repo: &str, name: &str| forge.paths.caches().join(repo).join(name);
    for (repo, name) in [("app", "build"), ("app", "deps"), ("group%2Fapp", "build")] {
        fs::create_dir_all(cache(repo, name)).unwrap();
        fs::write(cache(repo, name).join("file"), "x").unwrap();
    }
    let away = forge.ssh("cache list");
    assert_eq!(away.status.code(), Some(1), "{}", transcript(&away));
    assert!(
        transcript(&away).contains("the server is not running"),
        "{}",
        transcript(&away)
    );
    forge.serve();
    forge.tree_with("app", super::GREEN).push(&["main"]);
    forge.end_of(forge.newest("app").id);
    let listed: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok("cache list --json --repo app")).unwrap();
    assert_eq!(
        listed["caches"][1],
        serde_json::json!({"repo": "app", "name": "deps", "executor": "host", "bytes": 1, "used_at_ms": null})
    );
    assert!(forge.ssh_ok("cache list").contains("group/app"));
    assert_eq!(forge.ssh("cache clear app nothing").status.code(), Some(3));
    assert_eq!(
        forge.ssh_ok("cache clear app deps"),
        "removed the cache deps of app\n"
    );
    assert_eq!(
        forge.ssh_ok("cache clear group/app"),
        "removed the cache build of group/app\n"
    );
    assert_eq!(
        forge.ssh("cache clear group/app").status.code(),
        Some(3),
        "there is neither a cache nor a repository of this name"
    );
    let cache = forge.paths.caches().join("app/build");
    assert!(cache.exists());
    // A repository that goes takes its caches along.
    forge.ssh_ok("repo rm app --yes");
    assert!(!cache.exists());
}
