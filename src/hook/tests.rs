//! The hook's parts; the whole of it is driven by a real git in tests/ssh.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::poke::{PokeError, ask};
use super::*;
use crate::run::event::SocketRequest;

const ZERO: &str = "0000000000000000000000000000000000000000";
const ONE: &str = "1111111111111111111111111111111111111111";

fn fixture() -> (tempfile::TempDir, Paths) {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(folder.path(), folder.path().join("run"));
    (folder, paths)
}

fn event(refs: usize) -> PushEvent {
    let update = |at| RefUpdate {
        ref_name: format!("refs/heads/b{at}").parse().unwrap(),
        old_sha: ZERO.parse().unwrap(),
        new_sha: ONE.parse().unwrap(),
    };
    PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo: "app".parse().unwrap(),
        pusher: Some("laptop".to_owned()),
        pushed_at: Clock::system().now(),
        options: vec!["ci.skip".to_owned()],
        refs: (0..refs).map(update).collect(),
    }
}

#[test]
fn ref_lines() {
    let input = [
        format!("{ZERO} {ONE} refs/heads/a'b ü\n").into_bytes(),
        format!("{ONE} {ZERO} refs/tags/v1\n").into_bytes(),
    ]
    .concat();
    // A space is not legal in a ref, so that one is set apart.
    let moved = refs::read(&input[..]).unwrap();
    assert_eq!(moved.unreadable, ["refs/heads/a'b ü"]);
    assert_eq!(moved.refs.len(), 1);
    assert!(moved.refs[0].new_sha.is_zero());
    let strange = [
        format!("{ZERO} {ONE} refs/heads/").as_bytes(),
        b"\xff\x1b\n",
    ]
    .concat();
    assert_eq!(
        refs::read(&strange[..]).unwrap().unreadable,
        ["refs/heads/\u{fffd}\u{fffd}"]
    );
    assert_eq!(refs::read(&b""[..]).unwrap(), Moved::default());
    for bad in [
        "x",
        "a b c",
        &format!("{ZERO} {ONE}"),
        &format!("{ZERO}  {ONE} refs/heads/a"),
    ] {
        assert!(refs::read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn an_event_is_in_the_spool_whole_or_not_at_all() {
    let (_folder, paths) = fixture();
    let event = event(3);
    spool::write(&paths, &event).unwrap();
    let text = std::fs::read(paths.spool_file(event.id)).unwrap();
    assert_eq!(serde_json::from_slice::<PushEvent>(&text).unwrap(), event);
    assert_eq!(
        std::fs::read_dir(paths.spool()).unwrap().count(),
        1,
        "no draft is left"
    );
    // A spool that cannot be written: what is in the way is named, and nothing is left.
    let (_folder, paths) = fixture();
    std::fs::write(paths.spool(), "a file").unwrap();
    let error = spool::write(&paths, &event).unwrap_err().to_string();
    assert!(error.contains("spool"), "{error}");
}

#[test]
fn a_full_event_can_be_read_back() {
    let mut full = event(0);
    let long = format!("refs/heads/{}", "x".repeat(1000));
    full.refs = vec![
        RefUpdate {
            ref_name: long.parse().unwrap(),
            old_sha: ZERO.parse().unwrap(),
            new_sha: ONE.parse().unwrap()
        };
        REFS_PER_EVENT
    ];
    full.options = vec!["\u{1}".repeat(MAX_OPTION); MAX_OPTIONS];
    assert!((serde_json::to_vec(&full).unwrap().len() as u64) < crate::run::event::MAX_EVENT_BYTES);
}

#[test]
fn which_repository() {
    let (_folder, paths) = fixture();
    std::fs::create_dir_all(paths.repos().join("work/app.git")).unwrap();
    let name =
        repository_at(&paths, &paths.repos().join("work/app.git")).map(|name| name.to_string());
    assert_eq!(name.as_deref(), Ok("work/app"));
    assert!(repository_at(&paths, &paths.repos().join("work")).is_err());
    assert!(
        repository_at(&paths, paths.data())
            .unwrap_err()
            .contains("not one of the repositories")
    );
}

/// A server that reads one line, then writes these bytes and closes.
fn server(paths: &Paths, answer: &'static [u8]) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(paths.socket()).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        (&stream).write_all(answer).unwrap();
        line
    })
}

#[test]
fn runs_and_notes_are_printed() {
    let (_folder, paths) = fixture();
    let answer = br#"{"answer":"runs","runs":[{"id":"r1","ref_name":"refs/heads/main","url":"http://h/r1"}],"notes":["look\u001b out"]}
"#;
    let thread = server(&paths, answer);
    let (event, mut voice) = (event(1), Voice::default());
    let runs = hand_over(&paths, &event, &mut voice).unwrap();
    print_runs(&runs, &mut voice);
    assert_eq!(
        voice.said,
        ["look\u{fffd} out", "run r1 queued  http://h/r1"]
    );
    let request: SocketRequest = serde_json::from_str(&thread.join().unwrap()).unwrap();
    assert_eq!(request, SocketRequest::Taken { event: event.id });
}

#[test]
fn many_runs_are_counted() {
    let run = |at| AnsweredRun {
        id: format!("r{at}"),
        ref_name: format!("refs/heads/b{at}").parse().unwrap(),
        url: "u".to_owned(),
    };
    let runs: Vec<_> = (0..500).map(run).collect();
    let mut voice = Voice::default();
    print_runs(&runs, &mut voice);
    assert_eq!(voice.said.len(), RUNS_SHOWN + 1);
    assert_eq!(voice.said[0], "run r0 queued  u  (b0)");
    assert_eq!(
        voice.said[RUNS_SHOWN],
        "… and 490 more runs; `run list` shows them"
    );
}

#[test]
fn a_server_that_is_away_silent_or_mad_costs_a_line() {
    let (_folder, paths) = fixture();
    let mut voice = Voice::default();
    assert!(hand_over(&paths, &event(1), &mut voice).is_none());
    assert_eq!(
        voice.said,
        ["the server is not there; the run will start when it is back"]
    );
    let mut deletion = event(1);
    deletion.refs[0].new_sha = ZERO.parse().unwrap();
    let mut voice = Voice::default();
    hand_over(&paths, &deletion, &mut voice);
    assert!(voice.said.is_empty(), "a deletion makes no run anyway");
    let patience = Duration::from_millis(50);
    let _listener = UnixListener::bind(paths.socket()).unwrap();
    assert!(matches!(
        ask(&paths.socket(), &SocketRequest::Wake, patience),
        Err(PokeError::Silent)
    ));
    for (answer, garbled) in [
        (&b"nonsense\n"[..], true),
        (b"", false),
        (b"{\"answer\":\"ok\"", false),
    ] {
        std::fs::remove_file(paths.socket()).unwrap();
        let thread = server(&paths, answer);
        let error = ask(
            &paths.socket(),
            &SocketRequest::Wake,
            Duration::from_secs(10),
        )
        .unwrap_err();
        assert_eq!(
            matches!(error, PokeError::Garbled(_)),
            garbled,
            "{answer:?}: {error}"
        );
        thread.join().unwrap();
    }
}

#[test]
fn a_full_backlog_does_not_block() {
    let (_folder, paths) = fixture();
    let _listener = UnixListener::bind(paths.socket()).unwrap();
    let mut held = Vec::new();
    let refused = (0..100_000).find_map(|_| match poke::dial(&paths.socket()) {
        Ok(stream) => {
            held.push(stream);
            None
        }
        Err(error) => Some(error),
    });
    // Either the backlog was full or the process was out of descriptors; it never hung.
    assert!(refused.is_some());
}

proptest::proptest! {
    #[test]
    fn whatever_stands_on_standard_input(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        // Lines that begin well, so that more than the first check is reached.
        for start in [String::new(), format!("{ZERO} {ONE} "), format!("{ZERO} {ONE} refs/heads/")] {
            let input = [start.as_bytes(), &bytes].concat();
            if let Ok(moved) = refs::read(&input[..]) {
                proptest::prop_assert!(moved.unreadable.iter().all(|name| !name.contains(char::is_control)));
            }
        }
    }
}
