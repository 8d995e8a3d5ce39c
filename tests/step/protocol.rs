//! Foreign bytes instead of frames, the end of the link, and the lease.

use quire_step::{FailureReason, FrameHeader, INPUT_CREDIT, ToHelper};

use crate::client::{Event, Helper, LinkKind, Spec, docker};
use crate::over_both;

over_both!(
    an_id_in_use_and_input_without_credit_end_the_helper,
    a_cut_frame_and_the_end_of_the_input_end_the_container,
    quit_ends_the_container_with_everything_in_it,
);

/// Sends bytes, and returns what the helper says before it ends.
fn refused(bytes: &[u8]) -> (FailureReason, String) {
    let mut helper = Helper::debian(&[]);
    let background = helper.begin(&Spec::shell("echo ready; sleep 1000"));
    helper.wait_for(background, "ready");
    helper.send_raw(bytes);
    let mut error = None;
    while let Some((id, event)) = helper.next_event() {
        if let (0, Event::Error(reason, _, detail)) = (id, event) {
            error = Some((reason, detail));
        }
    }
    assert_eq!(helper.wait(), Some(0));
    error.unwrap()
}

fn header(kind: u8, id: u32, body: usize) -> Vec<u8> {
    FrameHeader { kind, id, body }.encode().to_vec()
}

#[test]
fn frames_that_break_the_protocol_end_the_helper() {
    let frames = [
        header(0x01, 0, 2 << 20),
        vec![0, 0, 0, 1, 1, 0, 0, 0, 0],
        header(0x7f, 1, 0),
        header(0x81, 0, 0),
        [header(0x01, 0, 3), vec![0; 3]].concat(),
        [header(0x02, 0, 1), vec![0]].concat(),
        // The task 0, and a command with more arguments than the frame has bytes.
        [header(0x10, 0, 0)].concat(),
        [header(0x12, 9, 13), vec![0; 9], vec![0xff; 4]].concat(),
    ];
    let lines: Vec<String> = frames
        .iter()
        .map(|frame| {
            let (reason, detail) = refused(frame);
            format!("{reason:?}: {detail}")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

fn an_id_in_use_and_input_without_credit_end_the_helper(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let mut spec = Spec::shell("echo ready; sleep 1000");
    spec.input = true;
    let id = helper.begin(&spec);
    helper.wait_for(id, "ready");
    helper.send(id, &ToHelper::Who { user: b"" });
    let text = "the id of a new task is in use".to_owned();
    let expected = Event::Error(FailureReason::Protocol, 0, text);
    assert_eq!(helper.event(), (0, expected));
    assert_eq!(helper.next_event(), None);

    let mut helper = Helper::debian_over(link, &[]);
    let id = helper.begin(&spec);
    helper.wait_for(id, "ready");
    let piece = vec![0; 1000];
    // What fits into the pipe is taken and granted again.
    for _ in 0..=(INPUT_CREDIT as usize + (128 << 10)) / piece.len() {
        helper.send(id, &ToHelper::Stdin(&piece));
    }
    let text = "STDIN exceeds its credit".to_owned();
    let expected = Event::Error(FailureReason::Protocol, 0, text);
    loop {
        match helper.event() {
            (from, Event::Credit(_)) if from == id => {}
            event => {
                assert_eq!(event, (0, expected));
                break;
            }
        }
    }
    assert_eq!(helper.next_event(), None);
}

fn a_cut_frame_and_the_end_of_the_input_end_the_container(link: LinkKind) {
    for cut in [&[][..], &[0, 0, 0], &header(0x20, 5, 100)] {
        let mut helper = Helper::debian_over(link, &[]);
        let id = helper.begin(&Spec::shell("trap '' TERM HUP; echo ready; sleep 1000"));
        helper.wait_for(id, "ready");
        helper.send_raw(cut);
        helper.close_input();
        assert_eq!(helper.next_event(), None);
        assert_eq!(helper.wait(), Some(0));
    }
}

fn quit_ends_the_container_with_everything_in_it(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let id = helper.begin(&Spec::shell("setsid sleep 1000 & echo ready; sleep 1000"));
    helper.wait_for(id, "ready");
    helper.send(0, &ToHelper::Quit);
    assert_eq!(helper.next_event(), None);
    assert_eq!(helper.wait(), Some(0));
}

#[test]
fn a_lease_outlives_the_link_until_it_expires() {
    let mut helper = Helper::debian(&[]);
    let id = helper.begin(&Spec::shell("while echo alive; do sleep 0.05; done"));
    helper.wait_for(id, "alive");
    helper.send(
        0,
        &ToHelper::Ping {
            nonce: 1,
            lease: 3600,
        },
    );
    helper.close_input();
    // The end of the input is followed by output that could not come without the lease.
    for _ in 0..20 {
        helper.wait_for(id, "alive");
    }
    let state = docker(&["inspect", "--format", "{{.State.Running}}", &helper.name]);
    assert_eq!(state, "true\n");

    let mut helper = Helper::debian(&[]);
    helper.send(0, &ToHelper::Ping { nonce: 1, lease: 1 });
    assert_eq!(helper.event(), (0, Event::Pong(1)));
    assert_eq!(helper.next_event(), None);
    assert_eq!(helper.wait(), Some(0));
}

#[test]
fn a_second_helper_in_a_container_kills_what_it_started() {
    let mut helper = Helper::debian(&[]);
    let mut second = std::process::Command::new("docker")
        .args(["exec", "--interactive", &helper.name, "/.quire/step"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let task = quire_step::StartTask {
        ids: quire_step::TaskIds::default(),
        merge: true,
        input: false,
        terminal: None,
        folder: b"/work",
        cwd: b"",
        argv: vec![
            b"/bin/sh",
            b"-c",
            b"/bin/sleep 1001 & echo ready; exec /bin/sleep 1000",
        ],
        env: Vec::new(),
    };
    let mut bytes = Vec::new();
    let _ = ToHelper::Start(task).encode(1, &mut bytes);
    let mut input = second.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, &bytes).unwrap();
    let mut output = second.stdout.take().unwrap();
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains("ready") {
        let mut buffer = [0; 4096];
        let count = std::io::Read::read(&mut output, &mut buffer).unwrap();
        assert!(count > 0, "the second helper has ended");
        all.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(helper.processes().len(), 2);
    drop(input);
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(helper.processes(), Vec::<String>::new());
    // The first is as it was.
    assert_eq!(
        helper.run(&Spec::new(["echo", "first"])).stdout(),
        "first\n"
    );
}
