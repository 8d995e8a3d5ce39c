//! The hook's parts; the whole of it is driven by a real git in tests/it/ssh.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use super::*;
use quire_server::control::protocol::ControlRequest;
use quire_types::push_event::RefUpdate;

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
    let updates = refs::read(&input[..]).unwrap();
    assert_eq!(updates.unsupported, ["refs/heads/a'b ü"]);
    assert_eq!(updates.refs.len(), 1);
    assert!(updates.refs[0].new_sha.is_zero());
    let strange = [
        format!("{ZERO} {ONE} refs/heads/").as_bytes(),
        b"\xff\x1b\n",
    ]
    .concat();
    assert_eq!(
        refs::read(&strange[..]).unwrap().unsupported,
        ["refs/heads/\u{fffd}\u{fffd}"]
    );
    assert_eq!(refs::read(&b""[..]).unwrap(), RefUpdates::default());
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
    spool_event(&paths, &event).unwrap();
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
    let error = spool_event(&paths, &event).unwrap_err().to_string();
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
    assert!(
        (serde_json::to_vec(&full).unwrap().len() as u64)
            < quire_types::push_event::MAX_EVENT_BYTES
    );
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
            .contains("not a repository in")
    );
}

/// A server that reads one line, then writes these bytes and closes.
fn server(paths: &Paths, answer: &'static [u8]) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(paths.control_socket()).unwrap();
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
    let (event, mut output) = (event(1), PusherOutput::default());
    let runs = notify_server(&paths, &event, &mut output).unwrap();
    print_runs(&runs, &mut output);
    assert_eq!(
        output.lines,
        ["look\u{fffd} out", "run r1 queued  http://h/r1"]
    );
    let request: ControlRequest = serde_json::from_str(&thread.join().unwrap()).unwrap();
    assert_eq!(
        request,
        ControlRequest::EventSpooled {
            event: event.id,
            reached: None
        }
    );
}

#[test]
fn many_runs_are_counted() {
    let run = |at| RunLink {
        id: format!("r{at}"),
        name: format!("app#{at}"),
        subject: Some("Add a test".to_owned()),
        ref_name: format!("refs/heads/b{at}").parse().unwrap(),
        url: "u".to_owned(),
    };
    let runs: Vec<_> = (0..500).map(run).collect();
    let mut output = PusherOutput::default();
    print_runs(&runs, &mut output);
    assert_eq!(output.lines.len(), MAX_PRINTED_RUNS + 1);
    assert_eq!(output.lines[0], "run app#0 queued  u  (b0)  Add a test");
    assert_eq!(
        output.lines[MAX_PRINTED_RUNS],
        "… and 490 more runs; `run list` shows them"
    );
}

#[test]
fn a_server_that_does_not_answer_costs_one_line() {
    let (_folder, paths) = fixture();
    let mut output = PusherOutput::default();
    assert!(notify_server(&paths, &event(1), &mut output).is_none());
    assert_eq!(
        output.lines,
        ["the server is not running; the run will start when it is back"]
    );
    let mut deletion = event(1);
    deletion.refs[0].new_sha = ZERO.parse().unwrap();
    let mut output = PusherOutput::default();
    notify_server(&paths, &deletion, &mut output);
    assert!(output.lines.is_empty(), "a deletion makes no run anyway");
    let thread = server(&paths, b"nonsense\n");
    let mut output = PusherOutput::default();
    assert!(notify_server(&paths, &event(1), &mut output).is_none());
    assert_eq!(
        output.lines,
        ["the server's response cannot be read; the run will start all the same"]
    );
    thread.join().unwrap();
}

proptest::proptest! {
    #[test]
    fn whatever_stands_on_standard_input(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        // Lines that begin well, so that more than the first check is reached.
        for start in [String::new(), format!("{ZERO} {ONE} "), format!("{ZERO} {ONE} refs/heads/")] {
            let input = [start.as_bytes(), &bytes].concat();
            if let Ok(updates) = refs::read(&input[..]) {
                proptest::prop_assert!(updates.unsupported.iter().all(|name| !name.contains(char::is_control)));
            }
        }
    }
}
