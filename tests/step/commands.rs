//! Commands: what they are given, what comes back, and why they cannot be started.

use quire_step::{ExitStatus, FailureReason, OUTPUT_CREDIT, TerminalSize, ToHelper};

use crate::client::{Event, Helper, LinkKind, Spec};
use crate::over_both;

over_both!(
    a_command_has_its_streams_its_status_and_its_environment,
    merged_output_keeps_the_order_of_the_writes,
    input_reaches_a_command_with_credit_for_more,
    output_without_credit_waits_and_holds_up_nothing_else,
    a_terminal_has_a_size_and_can_be_resized,
);

fn a_command_has_its_streams_its_status_and_its_environment(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &["--env", "SECRET=of-the-helper"]);
    let outcome = helper.run(&Spec::shell("echo out; echo err >&2; exit 3"));
    assert_eq!(outcome.stdout, b"out\n");
    assert_eq!(outcome.stderr, b"err\n");
    assert_eq!(outcome.code(), Some(3));

    let outcome = helper.run(&Spec::shell("kill -TERM $$"));
    assert_eq!(outcome.status, Some(ExitStatus::Signal(15)));

    let mut spec = Spec::new(["env"]);
    spec.env = vec!["PATH=/usr/bin".into(), "A=b c".into()];
    assert_eq!(helper.run(&spec).stdout(), "PATH=/usr/bin\nA=b c\n");

    // The listing has a descriptor of its own.
    let outcome = helper.run(&Spec::shell("ls /proc/self/fd; cat"));
    assert_eq!(outcome.stdout(), "0\n1\n2\n3\n");

    let outcome = helper.run(&Spec::shell("id; pwd; umask; ulimit -c >/dev/null").uid(1234));
    assert_eq!(
        outcome.stdout(),
        "uid=1234 gid=1234 groups=1234\n/work\n0022\n"
    );
    let outcome = helper.run(&Spec::shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
    let signals = outcome.stdout();
    assert!(!signals.contains(['1', '2', '4', '8']), "{signals}");
}

#[test]
fn a_user_that_is_not_root_may_open_its_streams_by_name() {
    let mut helper = Helper::debian(&[]);
    let spec =
        Spec::shell("echo a >/dev/stdout; echo b >/dev/stderr; echo c >/proc/self/fd/2").uid(1000);
    let outcome = helper.run(&spec);
    assert_eq!((outcome.stdout(), outcome.code()), ("a\n".into(), Some(0)));
    assert_eq!(outcome.stderr, b"b\nc\n");
}

fn merged_output_keeps_the_order_of_the_writes(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let mut spec =
        Spec::shell("i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done");
    spec.merge = true;
    let expected: String = (0..500).map(|i| format!("o{i}\ne{i}\n")).collect();
    let outcome = helper.run(&spec);
    assert_eq!(outcome.stdout(), expected);
    assert_eq!(outcome.stderr, b"");
}

fn input_reaches_a_command_with_credit_for_more(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let mut spec = Spec::new(["cat"]);
    spec.input = true;
    let id = helper.begin(&spec);
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    // Only as much as the window and the pipes hold, because the output is not read meanwhile.
    let first = &content[..600_000];
    helper.send(id, &ToHelper::Stdin(first));
    helper.send(id, &ToHelper::StdinEof);
    assert!(helper.finish(id).stdout == first);

    // A command that does not read its input gets it all the same, and it is dropped.
    let mut spec = Spec::shell("exec <&-; until [ -e sent ]; do sleep 0.05; done; echo done");
    spec.input = true;
    let id = helper.begin(&spec);
    assert_eq!(helper.send_input(id, &content), []);
    assert_eq!(helper.run(&Spec::new(["touch", "sent"])).code(), Some(0));
    assert_eq!(helper.finish(id).stdout(), "done\n");
}

#[test]
fn reasons_why_a_program_cannot_be_started() {
    let mut helper = Helper::debian(&[]);
    let setup = "printf '#!/no/such\\n' >missing; printf '#!/bin/sh\\r\\necho\\n' >cr; \
        printf 'echo\\n' >text; touch plain; mkdir folder; cp /bin/true foreign; \
        printf '\\267' | dd of=foreign bs=1 seek=18 conv=notrunc 2>/dev/null; \
        cp /bin/true loader; sed -i 's|/lib64/ld-linux|/lib64/no-linux|' loader; \
        ln -s loop loop; ln -s / out; chmod +x missing cr text foreign loader";
    assert_eq!(helper.run(&Spec::shell(setup)).code(), Some(0));
    let mut failures = Vec::new();
    let long = "x".repeat(140_000);
    for program in [
        "nope",
        "./nope",
        "./missing",
        "./cr",
        "./text",
        "./plain",
        "./folder",
        "./foreign",
        "./loader",
        "./loop",
        "/etc/passwd/x",
    ] {
        failures.push(helper.run(&Spec::new([program])));
    }
    failures.push(helper.run(&Spec::new(["true", &long])));
    for cwd in ["no/such", "plain", "../etc", "out/etc", "/etc"] {
        let mut spec = Spec::new(["true"]);
        spec.cwd = cwd.into();
        failures.push(helper.run(&spec));
    }
    let lines: Vec<String> = failures
        .into_iter()
        .map(|outcome| {
            assert_eq!(outcome.status, None);
            let (reason, detail) = outcome.error.unwrap();
            format!("{reason:?} {detail}")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_later_folder_of_the_path_has_the_program() {
    let mut helper = Helper::debian(&[]);
    let setup =
        "mkdir -p a b; touch a/tool; printf '#!/bin/sh\\necho found' >b/tool; chmod +x b/tool";
    assert_eq!(helper.run(&Spec::shell(setup)).code(), Some(0));
    let mut spec = Spec::new(["tool"]);
    spec.env = vec!["PATH=/work/none:/work/a:/work/b:/bin".into()];
    assert_eq!(helper.run(&spec).stdout(), "found\n");
    spec.env = vec!["PATH=/work/a".into()];
    let reason = helper.run(&spec).error.unwrap().0;
    assert_eq!(reason, FailureReason::NotExecutable);
    // Without PATH the usual folders are searched.
    spec = Spec::new(["true"]);
    spec.env.clear();
    assert_eq!(helper.run(&spec).code(), Some(0));
}

fn output_without_credit_waits_and_holds_up_nothing_else(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let flood = helper.begin(&Spec::new(["cat", "/dev/zero"]));
    let mut received = 0;
    while received < OUTPUT_CREDIT as usize {
        match helper.event() {
            (id, Event::Stdout(bytes)) if id == flood => received += bytes.len(),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(received, OUTPUT_CREDIT as usize);
    // Another command runs meanwhile, and not a byte comes of the first.
    let other = helper.begin(&Spec::new(["echo", "other"]));
    loop {
        match helper.event() {
            (id, _) if id == flood => panic!("output without credit"),
            (id, Event::Done) if id == other => break,
            _ => {}
        }
    }
    helper.send(flood, &ToHelper::Credit(10));
    let expected = (flood, Event::Stdout(vec![0; 10]));
    assert_eq!(helper.event(), expected);
    let outcome = helper.kill(flood);
    assert_eq!(outcome.stdout, b"");
    assert_eq!(helper.processes(), Vec::<String>::new());
}

#[test]
fn background_processes_live_on_and_their_output_arrives() {
    let mut helper = Helper::debian(&[]);
    for how in ["nohup sh", "setsid sh", "env -i /bin/sh"] {
        let script = format!(
            "{how} -c 'exec >&2; i=0; while [ $i -lt 5 ]; do echo tick$i; sleep 0.2; i=$((i+1)); done' </dev/null & echo started"
        );
        let id = helper.begin(&Spec::shell(&script));
        loop {
            if let (from, Event::Exited(status)) = helper.event()
                && from == id
            {
                assert_eq!(status, ExitStatus::Code(0));
                break;
            }
        }
        let outcome = helper.finish(id);
        let later = String::from_utf8(outcome.stderr).unwrap();
        assert!(later.ends_with("tick3\ntick4\n"), "{how}: {later}");
        assert_eq!(outcome.status, None);
    }
}

fn a_terminal_has_a_size_and_can_be_resized(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let mut spec = Spec::shell(
        "test -t 0 && test -t 1 && test -t 2 && stty size; tty; read line; stty size; echo got $line",
    )
    .uid(1000);
    spec.terminal = Some(TerminalSize {
        columns: 91,
        rows: 31,
    });
    let id = helper.begin(&spec);
    helper.wait_for(id, "/dev/pts/");
    let size = TerminalSize {
        columns: 80,
        rows: 24,
    };
    helper.send(id, &ToHelper::Resize(size));
    helper.send(id, &ToHelper::Stdin(b"hello\n"));
    let outcome = helper.finish(id);
    assert!(
        outcome.stdout().ends_with("24 80\r\ngot hello\r\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code(), Some(0));

    // The end of the input is that of the terminal, and the background of its session ends with it.
    let mut spec = Spec::shell("stty size; cat; echo end");
    spec.terminal = Some(size);
    let id = helper.begin(&spec);
    helper.wait_for(id, "24 80");
    helper.send(id, &ToHelper::StdinEof);
    assert!(helper.finish(id).stdout().ends_with("end\r\n"));
}

#[test]
fn want_of_memory_is_told_before_the_end() {
    let mut helper = Helper::debian(&["--memory", "64m", "--memory-swap", "64m"]);
    let outcome = helper.run(&Spec::shell("exec tail /dev/zero"));
    assert_eq!(outcome.status, Some(ExitStatus::Signal(9)));
    assert_eq!(outcome.oom, Some(1));
    // The number is that of the container, and sent only when it has grown.
    assert_eq!(helper.run(&Spec::new(["true"])).oom, None);
}
