//! What lies in the spool, arrives on the socket or comes with a push is foreign: damage is set aside
//! and told, never skipped in silence, and nothing of it stops the server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::stat::Mode;
use quire_testkit::{TestForge, WAIT_TIMEOUT, wait_for};
use quire_types::names::EventId;
use quire_types::run::RunState;
use serde_json::json;

use super::GREEN;
use crate::QUIRE;

/// Lays one of each kind of damage out in the spool; gives how many.
fn damage(spool: &Path, elsewhere: &Path) -> usize {
    let name = || format!("{}.json", EventId::new());
    let event = |id: EventId, kind: &str| json!({"id": id, "type": kind, "repo": "app", "pusher": null, "pushed_at": "2026-01-01T00:00:00Z", "options": [], "refs": []});
    let huge = format!("{{\"id\": \"{}\"}}", "x".repeat(17 << 20));
    let mut deep = vec![b'['; 1 << 20];
    deep.extend(vec![b']'; 1 << 20]);
    let files: [(String, Vec<u8>); 11] = [
        (name(), Vec::new()),
        (name(), b"not JSON\n".to_vec()),
        (name(), b"{\"id\": 7}".to_vec()),
        (
            name(),
            event(EventId::new(), "push").to_string().into_bytes(),
        ),
        (name(), huge.into_bytes()),
        (name(), (0..=255).cycle().take(100_000).collect()),
        (name(), vec![0; 4096]),
        (name(), deep),
        ("no-event.json".to_owned(), b"{}".to_vec()),
        ("README".to_owned(), b"what is this".to_vec()),
        (
            format!("{}.json", EventId::new()).to_uppercase(),
            b"{}".to_vec(),
        ),
    ];
    for (name, bytes) in &files {
        fs::write(spool.join(name), bytes).unwrap();
    }
    // Not through the spool: only the comparison of refs makes such an event.
    let id = EventId::new();
    fs::write(
        spool.join(format!("{id}.json")),
        event(id, "reconcile").to_string(),
    )
    .unwrap();
    // What is no file at all.
    fs::create_dir(spool.join(name())).unwrap();
    fs::create_dir(spool.join("folder")).unwrap();
    symlink(elsewhere, spool.join(name())).unwrap();
    symlink("/nonexistent", spool.join(name())).unwrap();
    symlink("/dev/zero", spool.join(name())).unwrap();
    nix::unistd::mkfifo(&spool.join(name()), Mode::S_IRWXU).unwrap();
    drop(std::os::unix::net::UnixListener::bind(spool.join(name())).unwrap());
    files.len() + 8
}

#[test]
fn damaged_spool_files_are_set_aside_and_reported() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let secret = forge.file("elsewhere");
    fs::write(&secret, "must not be touched").unwrap();
    let count = damage(&forge.paths.spool(), &secret);
    // A draft that a hook was writing when it was killed is nobody's damage.
    fs::write(
        forge.paths.spool().join(format!(".{}.tmp", EventId::new())),
        "half",
    )
    .unwrap();
    tree.push_new("second");
    forge.serve();
    wait_for("the spool to be sorted out", || {
        (forge.spooled().len() == 1).then_some(())
    });
    let aside = || fs::read_dir(forge.paths.spool_damaged()).map_or(0, Iterator::count);
    assert_eq!(aside(), count);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "must not be touched");
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 2);
    assert_eq!(
        forge.newest("app").state,
        RunState::Complete,
        "the others go on"
    );
    let damaged_events = |count: usize| {
        let part = forge.health()["parts"]["event-socket"].clone();
        (part["status"] == "degraded" && part["figure"]["damaged_events"] == count).then_some(part)
    };
    let part = wait_for("health to tell", || damaged_events(count));
    assert!(
        part["message"].as_str().unwrap().contains("spool/damaged"),
        "{part}"
    );
    // The same while it runs.
    let more = damage(&forge.paths.spool(), &secret);
    wait_for("the spool to be sorted out again", || {
        (aside() == count + more).then_some(())
    });
    tree.push_new("third");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    forge.check_whole();
}

/// Sends bytes to the event socket; gives the line that is answered.
fn ask(forge: &TestForge, bytes: &[u8]) -> Option<String> {
    let mut stream = UnixStream::connect(forge.paths.control_socket()).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    // It may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}

#[test]
fn whatever_arrives_on_the_socket_the_server_goes_on() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    // Clients that connect and say nothing, more than are served at once.
    let silent: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(forge.paths.control_socket()).unwrap())
        .collect();
    for bytes in [
        &b""[..],
        b"\n",
        b"{}\n",
        b"null\n",
        b"{\"request\":\"taken\"}\n",
        b"{\"request\":\"taken\",\"event\":\"../../etc/passwd\"}\n",
        b"{\"request\":\"drop tables\"}\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xfe\x00\x01\n",
        &[b'['; 100_000],
        &[0; 1 << 20],
    ] {
        if let Some(answer) = ask(&forge, bytes) {
            assert!(
                answer.contains("\"answer\":\"error\""),
                "{bytes:?}: {answer}"
            );
        }
    }
    // An event that nobody wrote, and one request after another on one connection.
    let unknown = format!(
        "{{\"request\":\"taken\",\"event\":\"{}\"}}\n",
        EventId::new()
    );
    let answer: serde_json::Value =
        serde_json::from_str(&ask(&forge, unknown.as_bytes()).unwrap()).unwrap();
    assert_eq!(answer, json!({"answer": "runs", "runs": [], "notes": []}));
    assert_eq!(
        ask(&forge, b"{\"request\":\"wake\"}\n{\"request\":\"wake\"}\n").unwrap(),
        "{\"answer\":\"ok\"}\n"
    );
    tree.push(&["main"]);
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    drop(silent);
    // One that asks and never reads.
    let mut deaf = UnixStream::connect(forge.paths.control_socket()).unwrap();
    deaf.write_all(unknown.as_bytes()).unwrap();
    tree.push_new("second");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    forge.check_whole();
}

#[test]
fn well_formed_events_of_nonsense() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let sha = tree.git_ok(&["rev-parse", "HEAD"]);
    let zero = "0".repeat(40);
    let update = |name: &str, new: &str| json!({"ref": name, "old_sha": zero, "new_sha": new});
    let event = |repo: &str, refs: serde_json::Value| {
        json!({"id": EventId::new(), "type": "push", "repo": repo, "pusher": "\u{1b}[2Jx\n<script>", "pushed_at": "9999-12-30T22:00:00.999Z",
               "options": ["ci.job=<script>alert(1)", "ci.wait", "\u{0}\u{1b}", "x".repeat(100_000)], "refs": refs})
    };
    let many: Vec<_> = (0..20_000)
        .map(|at| update(&format!("refs/heads/m{at}"), &zero))
        .collect();
    // How each ends: set aside, or taken without a run.
    let events = [
        (
            event("../../../etc", json!([update("refs/heads/main", &sha)])),
            true,
        ),
        (
            event("app/../../app", json!([update("refs/heads/main", &sha)])),
            true,
        ),
        (
            event("--upload-pack=x", json!([update("refs/heads/main", &sha)])),
            true,
        ),
        (
            event("app", json!([update("refs/heads/../../config", &sha)])),
            true,
        ),
        (event("app", json!([update("refs/heads/a\nb", &sha)])), true),
        (event("app", json!([update("--all", &sha)])), true),
        (
            event("app", json!([update("refs/heads/main", "HEAD")])),
            true,
        ),
        (
            event("app", json!([update("refs/heads/main", "--help")])),
            true,
        ),
        (event("app", json!({"refs/heads/main": sha})), true),
        (
            event("gone", json!([update("refs/heads/main", &sha)])),
            false,
        ),
        (event("app", json!([])), false),
        (
            event("app", json!([update("refs/heads/main", &"1".repeat(40))])),
            false,
        ),
        (
            event("app", json!([update("refs/heads/main", &"1".repeat(64))])),
            false,
        ),
        (event("app", serde_json::Value::from(many)), false),
    ];
    let (mut damaged, mut count) = (0, 0);
    for (event, is_damaged) in &events {
        let file = forge
            .paths
            .spool()
            .join(format!("{}.json", event["id"].as_str().unwrap()));
        let draft = file.with_extension("tmp");
        // As the hook does it: whole, or not there.
        fs::write(forge.file("draft"), event.to_string()).unwrap();
        fs::rename(forge.file("draft"), &file)
            .or_else(|_| {
                fs::copy(forge.file("draft"), &draft).and_then(|_| fs::rename(&draft, &file))
            })
            .unwrap();
        damaged += usize::from(*is_damaged);
        wait_for("it to be taken", || (!file.exists()).then_some(()));
        let aside = fs::read_dir(forge.paths.spool_damaged()).map_or(0, Iterator::count);
        assert_eq!(
            aside,
            damaged,
            "{}",
            event.to_string().chars().take(300).collect::<String>()
        );
        count += 1;
    }
    assert_eq!(count, events.len());
    forge.wait_for_quiet();
    println!(
        "{:?}",
        forge
            .runs()
            .iter()
            .map(|run| (run.ref_name.to_string(), run.state, run.message.clone()))
            .collect::<Vec<_>>()
    );
    for page in ["/", "/runs", "/app", "/healthz"] {
        let answer = forge.get(page);
        assert!(
            answer.status == 200 && !answer.body.contains("<script>alert"),
            "{page}: {answer:?}"
        );
    }
    tree.push_new("as ever");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
}

#[test]
fn hostile_push_options_and_messages() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    let long = format!("ci.job={}", "x".repeat(60_000));
    for (at, option) in [
        "ci.job=../../etc",
        "ci.job=$(id)",
        "ci.job=<script>alert(1)</script>",
        "ci.jbo=x",
        "ci.job=\u{1b}[2J",
        "--help",
        "",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        tree.commit(&format!("option {at}"));
        let pushed = tree.git(&["push", "-o", option, "origin", "main"]);
        let reply = quire_testkit::transcript(&pushed);
        assert!(pushed.status.success(), "{option:.40}: {reply}");
        assert!(
            !reply.contains('\u{1b}') && reply.len() < 5000,
            "{option:.40}: {reply}"
        );
        forge.wait_for_quiet();
        let run = forge.newest("app");
        let asks_for_a_job = option.starts_with("ci.job=");
        assert!(
            run.state == RunState::Complete || asks_for_a_job && run.state == RunState::Failed,
            "{option:.40}: {run:?}"
        );
        assert!(
            run.message
                .as_deref()
                .unwrap_or_default()
                .chars()
                .all(|c| !c.is_control()),
            "{run:?}"
        );
        let page = forge.get(&format!("/runs/{}", run.id));
        assert!(
            page.status == 200 && !page.body.contains("<script>alert"),
            "{option:.40}"
        );
    }
    let messages: [&[u8]; 6] = [
        b"<script>alert(1)</script>\n\n</title><img src=x onerror=alert(1)>",
        b"\x1b]0;owned\x07\x1b[2J red",
        b"\xff\xfe not UTF-8 \xc3\x28",
        &[b'x'; 1_000_000],
        b"\n\n\n",
        b"QUIRE_SHA=1\r\nX-Header: 1\r\n\r\n<b>",
    ];
    for message in messages {
        let tip = tree.git_ok(&["rev-parse", "HEAD"]);
        let root = tree.git_ok(&["rev-parse", "HEAD^{tree}"]);
        let commit = tree.git_with(&["commit-tree", &root, "-p", &tip, "-F", "-"], message);
        tree.git_ok(&["reset", "-q", "--hard", &commit]);
        tree.push(&["main"]);
        let run = forge.end_of(forge.newest("app").id);
        assert_eq!(
            (run.sha.as_str(), run.state),
            (commit.as_str(), RunState::Complete),
            "{run:?}"
        );
        for page in [
            "/".to_owned(),
            "/runs".to_owned(),
            format!("/runs/{}", run.id),
        ] {
            let answer = forge.get(&page);
            let raw = ["<script>alert", "<img src=x", "\u{1b}", "\r\nX-Header"]
                .into_iter()
                .find(|raw| answer.body.contains(raw));
            assert!(answer.status == 200 && raw.is_none(), "{page}: {raw:?}");
        }
        assert!(!forge.ssh_ok("run list").contains('\u{1b}'));
    }
    forge.check_whole();
}
