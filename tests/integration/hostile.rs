//! What lies in the spool and arrives on the socket is foreign: damage is set aside and told, never
//! skipped in silence, and nothing of it stops the server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::stat::Mode;
use quire::names::EventId;
use quire::run::RunState;
use serde_json::json;

use super::GREEN;
use super::forge::{DEADLINE, TestForge, wait_for};

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
        (name(), event(EventId::new(), "push").to_string().into_bytes()),
        (name(), huge.into_bytes()),
        (name(), (0..=255).cycle().take(100_000).collect()),
        (name(), vec![0; 4096]),
        (name(), deep),
        ("no-event.json".to_owned(), b"{}".to_vec()),
        ("README".to_owned(), b"what is this".to_vec()),
        (format!("{}.json", EventId::new()).to_uppercase(), b"{}".to_vec()),
    ];
    for (name, bytes) in &files {
        fs::write(spool.join(name), bytes).unwrap();
    }
    // Not through the spool: only the comparison of refs makes such an event.
    let id = EventId::new();
    fs::write(spool.join(format!("{id}.json")), event(id, "reconcile").to_string()).unwrap();
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
fn damaged_spool_files_are_set_aside_and_told() {
    let mut forge = TestForge::start();
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let secret = forge.file("elsewhere");
    fs::write(&secret, "must not be touched").unwrap();
    let count = damage(&forge.paths.spool(), &secret);
    // A draft that a hook was writing when it was killed is nobody's damage.
    fs::write(forge.paths.spool().join(format!(".{}.tmp", EventId::new())), "half").unwrap();
    tree.push_new("second");
    forge.serve();
    wait_for("the spool to be sorted out", || (forge.spooled().len() == 1).then_some(()));
    let aside = || fs::read_dir(forge.paths.spool_damaged()).map_or(0, Iterator::count);
    assert_eq!(aside(), count);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "must not be touched");
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 2);
    assert_eq!(forge.newest("app").state, RunState::Complete, "the others go on");
    let told = |count: usize| {
        let part = forge.health()["parts"]["event-socket"].clone();
        (part["status"] == "degraded" && part["figure"]["damaged_events"] == count).then_some(part)
    };
    let part = wait_for("health to tell", || told(count));
    assert!(part["message"].as_str().unwrap().contains("spool/damaged"), "{part}");
    // The same while it runs.
    let more = damage(&forge.paths.spool(), &secret);
    wait_for("the spool to be sorted out again", || (aside() == count + more).then_some(()));
    tree.push_new("third");
    assert_eq!(forge.end_of(forge.newest("app").id).state, RunState::Complete);
    forge.check_whole();
}

/// Sends bytes to the event socket; gives the line that is answered.
fn ask(forge: &TestForge, bytes: &[u8]) -> Option<String> {
    let mut stream = UnixStream::connect(forge.paths.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // It may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}

#[test]
fn whatever_arrives_on_the_socket_the_server_goes_on() {
    let forge = TestForge::start();
    let tree = forge.tree_with("app", GREEN);
    // Clients that connect and say nothing, more than are served at once.
    let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(forge.paths.socket()).unwrap()).collect();
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
            assert!(answer.contains("\"answer\":\"error\""), "{bytes:?}: {answer}");
        }
    }
    // An event that nobody wrote, and one request after another on one connection.
    let unknown = format!("{{\"request\":\"taken\",\"event\":\"{}\"}}\n", EventId::new());
    let answer: serde_json::Value = serde_json::from_str(&ask(&forge, unknown.as_bytes()).unwrap()).unwrap();
    assert_eq!(answer, json!({"answer": "runs", "runs": [], "notes": []}));
    assert_eq!(ask(&forge, b"{\"request\":\"wake\"}\n{\"request\":\"wake\"}\n").unwrap(), "{\"answer\":\"ok\"}\n");
    tree.push(&["main"]);
    assert_eq!(forge.end_of(forge.newest("app").id).state, RunState::Complete);
    drop(silent);
    // One that asks and never reads.
    let mut deaf = UnixStream::connect(forge.paths.socket()).unwrap();
    deaf.write_all(unknown.as_bytes()).unwrap();
    tree.push_new("second");
    assert_eq!(forge.end_of(forge.newest("app").id).state, RunState::Complete);
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    forge.check_whole();
}
