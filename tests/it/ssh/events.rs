//! From a push to the spool, and what the pusher reads.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quire_server::control::protocol::ControlRequest;
use quire_testkit::{SshForge, TestForge, WAIT_TIMEOUT, own, stderr, transcript};
use quire_types::push_event::PushEvent;

use crate::QUIRE;

const AWAY: &str = "quire: the server is not running; the run will start when it is back";

#[test]
fn what_a_push_leaves_in_the_spool() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "group/app");
    let first = forge.git_ok(&tree, &["rev-parse", "HEAD"]);
    let pushed = forge.git(
        &tree,
        &[
            "push",
            "-o",
            "ci.skip",
            "-o",
            "ci.job=a b",
            "origin",
            "main",
        ],
    );
    assert!(
        pushed.status.success() && stderr(&pushed).contains(AWAY),
        "{}",
        transcript(&pushed)
    );
    let event = forge.take_events().remove(0);
    assert_eq!(
        (event.repo.as_str(), event.pusher.as_deref()),
        ("group/app", Some("laptop, the new one"))
    );
    assert_eq!(event.options, ["ci.skip", "ci.job=a b"]);
    assert_eq!(event.refs.len(), 1);
    assert!(event.refs[0].old_sha.is_zero());
    assert_eq!(
        (
            event.refs[0].ref_name.as_str(),
            event.refs[0].new_sha.as_str()
        ),
        ("refs/heads/main", first.as_str())
    );

    // Nothing new: git calls no hook.
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    assert!(forge.events().is_empty());

    // History rewritten.
    forge.git_ok(&tree, &["commit", "-q", "--amend", "-m", "again"]);
    forge.git_ok(&tree, &["push", "-q", "--force", "origin", "main"]);
    let event = forge.take_events().remove(0);
    assert_eq!(event.refs[0].old_sha.as_str(), first);

    // A light tag, an annotated one and a branch at once.
    forge.git_ok(&tree, &["tag", "light"]);
    forge.git_ok(&tree, &["tag", "-a", "-m", "x", "v1"]);
    forge.git_ok(
        &tree,
        &[
            "push",
            "-q",
            "origin",
            "light",
            "v1",
            "main:refs/heads/other",
        ],
    );
    let event = forge.take_events().remove(0);
    let mut moved: Vec<_> = event
        .refs
        .iter()
        .map(|update| (update.ref_name.as_str(), update.new_sha.as_str()))
        .collect();
    moved.sort_unstable();
    let (head, tag) = (
        forge.git_ok(&tree, &["rev-parse", "HEAD"]),
        forge.git_ok(&tree, &["rev-parse", "v1"]),
    );
    assert_eq!(
        moved,
        [
            ("refs/heads/other", head.as_str()),
            ("refs/tags/light", &head),
            ("refs/tags/v1", &tag)
        ]
    );

    // Deletions: recorded, and nothing is promised.
    let deleted = forge.git(&tree, &["push", "origin", ":other", ":refs/tags/light"]);
    assert!(
        deleted.status.success() && !stderr(&deleted).contains("will start"),
        "{}",
        transcript(&deleted)
    );
    let event = forge.take_events().remove(0);
    assert!(event.refs.len() == 2 && event.refs.iter().all(|update| update.new_sha.is_zero()));

    // The other key goes by its own name.
    forge.commit(&tree, "from elsewhere");
    assert!(
        forge
            .git_as("second", &tree, &["push", "-q", "origin", "main"])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(forge.take_events()[0].pusher.as_deref(), Some("desktop"));
}

#[test]
fn many_refs_and_strange_names() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    let head = forge.git_ok(&tree, &["rev-parse", "HEAD"]);
    let mut refs: String = (0..500)
        .map(|at| format!("create refs/heads/many/{at} {head}\n"))
        .collect();
    let strange = [
        "a'b\"c",
        "$(id)",
        "`id`;x",
        "ünï/💥",
        "-dash",
        "a&&b|c",
        "%n%s",
        "<x>",
        "#1",
    ];
    refs.extend(strange.iter().map(|name| {
        format!(
            "create \"refs/heads/s/{}\" {head}\n",
            name.replace('"', "\\\"")
        )
    }));
    let mut update = forge
        .git_as("owner", &tree, &["update-ref", "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    update
        .stdin
        .take()
        .unwrap()
        .write_all(refs.as_bytes())
        .unwrap();
    assert!(update.wait().unwrap().success());

    let pushed = forge.git(
        &tree,
        &[
            "push",
            "-q",
            "origin",
            "refs/heads/many/*:refs/heads/many/*",
        ],
    );
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    let events = forge.take_events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].refs.len(), 500);

    let pushed = forge.git(
        &tree,
        &["push", "-q", "origin", "refs/heads/s/*:refs/heads/s/*"],
    );
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    let mut names: Vec<_> = forge.take_events()[0]
        .refs
        .iter()
        .map(|update| update.ref_name.short().to_owned())
        .collect();
    names.sort();
    let mut expected: Vec<_> = strange.iter().map(|name| format!("s/{name}")).collect();
    expected.sort();
    assert_eq!(names, expected);

    // A name that is not UTF-8: the push is in, the pusher is told, the other ref has its event.
    let odd = [&b"main:refs/heads/"[..], b"\xff\xfe"].concat();
    let pushed = forge
        .git_as("owner", &tree, &["push", "origin", "main"])
        .arg(OsStr::from_bytes(&odd))
        .output()
        .unwrap();
    assert!(
        pushed.status.success() && stderr(&pushed).contains("warning: no run for the ref "),
        "{}",
        transcript(&pushed)
    );
    assert_eq!(forge.take_events()[0].refs.len(), 1);
}

/// The hook as git calls it, in a repository.
fn hook(forge: &SshForge, repo: &str, input: &[u8]) -> (bool, String) {
    let mut command = Command::new(forge.paths.hooks().join("post-receive"));
    command
        .current_dir(forge.paths.repos().join(format!("{repo}.git")))
        .env("GIT_DIR", ".");
    command
        .env("QUIRE_DATA", forge.paths.data())
        .env("QUIRE_RUNTIME", forge.paths.runtime());
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.success(), stderr(&output))
}

#[test]
fn a_hook_that_cannot_do_its_work_never_fails_a_push() {
    let forge = TestForge::new(QUIRE).sshd();
    assert!(forge.ssh(&["repo", "new", "app"]).status.success());
    assert_eq!(
        hook(&forge, "app", b""),
        (true, String::new()),
        "no refs, no event"
    );
    assert!(forge.events().is_empty());
    let (fine, reply) = hook(&forge, "app", b"nonsense\n");
    assert!(
        fine && reply.starts_with(
            "quire: warning: push accepted, but the hook cannot read which refs changed"
        ),
        "{reply}"
    );

    let tree = forge.tree("work", "app");
    fs::remove_dir(forge.paths.spool()).unwrap();
    fs::write(forge.paths.spool(), "in the way").unwrap();
    let pushed = forge.git(&tree, &["push", "origin", "main"]);
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    assert!(
        stderr(&pushed)
            .contains("quire: warning: push accepted, but its event could not be written"),
        "{}",
        transcript(&pushed)
    );
    assert_eq!(
        forge
            .git_ok(&tree, &["ls-remote", "origin", "main"])
            .split('\t')
            .next(),
        Some(forge.git_ok(&tree, &["rev-parse", "HEAD"]).as_str())
    );
    // A spool that is missing is made.
    fs::remove_file(forge.paths.spool()).unwrap();
    forge.commit(&tree, "second");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    assert_eq!(forge.events().len(), 1);
}

/// A socket that the user of the sessions may use.
fn listen(forge: &SshForge) -> UnixListener {
    let _ = fs::remove_file(forge.paths.control_socket());
    let listener = UnixListener::bind(forge.paths.control_socket()).unwrap();
    own(&forge.paths.control_socket());
    listener
}

#[test]
fn the_server_is_asked_and_its_answer_printed() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    let listener = listen(&forge);
    let spool = forge.paths.spool();
    let server = std::thread::spawn(move || {
        let (stream, event) = loop {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            match serde_json::from_str(&line).unwrap() {
                ControlRequest::EventSpooled { event, .. } => break (stream, event),
                // The session says so before git starts, and does not wait for the answer.
                ControlRequest::PushBegun { .. } => {
                    let _ = writeln!(&stream, r#"{{"answer":"ok"}}"#);
                }
                other => panic!("{other:?}"),
            }
        };
        let event: PushEvent =
            serde_json::from_slice(&fs::read(spool.join(format!("{event}.json"))).unwrap())
                .unwrap();
        let run = serde_json::json!({"id": "0197", "ref_name": event.refs[0].ref_name, "url": "http://forge/app/runs/0197"});
        writeln!(&stream, "{}", serde_json::json!({"answer": "runs", "runs": [run], "notes": ["the pipeline looks odd"]})).unwrap();
    });
    let pushed = forge.git(&tree, &["push", "origin", "main"]);
    server.join().unwrap();
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    let reply = stderr(&pushed);
    assert!(
        reply.contains("remote: quire: run 0197 queued  http://forge/app/runs/0197"),
        "{reply}"
    );
    assert!(
        reply.contains("remote: quire: the pipeline looks odd"),
        "{reply}"
    );
}

#[test]
fn a_server_that_hangs_does_not_hang_a_push() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    // One that accepts and says nothing, and one that does not even accept.
    let listener = listen(&forge);
    let silent = listener.try_clone().unwrap();
    let held = std::thread::spawn(move || silent.accept().map(|(stream, _)| stream));
    for message in ["first", "second"] {
        forge.commit(&tree, message);
        let started = Instant::now();
        let pushed = forge.git(&tree, &["push", "origin", "main"]);
        assert!(pushed.status.success(), "{}", transcript(&pushed));
        assert!(
            stderr(&pushed)
                .contains("quire: the server is busy; the run will start as soon as it can"),
            "{}",
            transcript(&pushed)
        );
        assert!(started.elapsed() < WAIT_TIMEOUT, "it never hangs");
        assert!(
            started.elapsed() >= Duration::from_secs(2),
            "it is given its time"
        );
    }
    assert_eq!(forge.events().len(), 2);
    held.join().unwrap().unwrap();
    drop(listener);
    // A socket file with nobody behind it.
    forge.commit(&tree, "third");
    let pushed = forge.git(&tree, &["push", "origin", "main"]);
    assert!(stderr(&pushed).contains(AWAY), "{}", transcript(&pushed));
}
