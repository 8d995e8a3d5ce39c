//! The server killed while it accepts a request of an incoming webhook.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;

use quire_testkit::TestForge;

use crate::QUIRE;

/// The sender repeats a delivery that was not answered. It has one run.
#[test]
fn the_server_killed_before_it_answers_a_webhook() {
    let mut forge = TestForge::new(QUIRE);
    let text = "{:hooks {:deploy {:repo \"app\" :secret {:env \"HOOK_SECRET\"}}}}";
    fs::write(forge.paths.config_fennel(), text).unwrap();
    forge
        .set("HOOK_SECRET", "hunter22")
        .kill_once_at("hook-queued")
        .serve();
    let pipeline = "(local ci (require :quire.ci))\n(ci.job :deploy [:quire/hook/deploy] (fn [{: sh}] (sh \"true\")))";
    forge
        .tree_with("app", pipeline)
        .push(&["main", "-o", "ci.skip"]);
    let mut stream = TcpStream::connect(("127.0.0.1", forge.port)).unwrap();
    stream
        .write_all(
            b"POST /-/hook/deploy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\
              Authorization: Bearer hunter22\r\nIdempotency-Key: d-1\r\n\r\n",
        )
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let status = forge.ended();
    assert_eq!(status.signal(), Some(9), "{}", forge.log());
    forge.serve();
    let headers = [
        ("Authorization", "Bearer hunter22"),
        ("Idempotency-Key", "d-1"),
    ];
    let again = forge.post("/-/hook/deploy", &headers, "");
    assert_eq!(again.status, 202, "{}", again.body);
    assert_eq!(again.json()["repeated"], true);
    forge.wait_for_quiet();
    assert_eq!(forge.runs_of("app").len(), 1);
}
