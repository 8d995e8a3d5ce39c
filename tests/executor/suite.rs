//! What a pipeline can see, the same under all executors.

use std::time::Duration;

use quire_executor::{CommandEnd, CommandSpec, ExecutorError, Workspace};
use quire_testkit::wait_for_async;
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Output, argv, finish, run, run_exit, shell, small_tree};

/// Makes of each function a test under the executors of one machine.
#[macro_export]
macro_rules! under_both {
    ($($name:ident),* $(,)?) => {
        mod on_docker {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Some(fixture) = super::Fixture::docker() {
                        super::$name(fixture).await;
                    }
                }
            )*
        }
        mod on_host {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(super::Fixture::host()).await;
                }
            )*
        }
    };
}

/// Makes of each function a test under all executors.
#[macro_export]
macro_rules! under_all {
    ($($name:ident),* $(,)?) => {
        $crate::under_both!($($name),*);
        mod on_swarm {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(super::Fixture::swarm()).await;
                }
            )*
        }
    };
}

crate::under_all!(
    the_tree_is_there,
    exit_codes,
    programs_that_cannot_start,
    a_text_may_be_longer_than_an_argument,
    streams_are_separate_and_bytes_unharmed,
    merged_output_is_in_the_order_of_the_writes,
    large_output_is_whole,
    input_is_fed,
    environment,
    folders,
    senseless_commands,
    a_timeout_ends_the_whole_tree,
    a_cancel_ends_the_command,
    a_command_that_is_ended_as_it_begins,
    what_is_left_running_lives_on,
    commands_run_side_by_side,
    stopping_ends_commands_and_repeats,
    a_start_that_is_cancelled_or_broken,
    a_run_is_cleared_and_no_other,
    closed_outputs,
    the_background_of_a_command_writes_to_its_log,
    folders_behind_links,
);

async fn the_tree_is_there(fixture: Fixture) {
    let workspace = fixture.start().await;
    let output =
        run_exit(&*workspace, shell("cat plain.txt link a/deep/er/file && bin/tool x && touch new && mkdir d && echo ok >d/f"), 0).await;
    assert_eq!(output.text(), "plain\nplain\ndeeptool x\n");
    finish(&*workspace).await;
}

async fn exit_codes(fixture: Fixture) {
    let workspace = fixture.start().await;
    for code in [0, 1, 2, 77, 126, 127, 255] {
        run_exit(&*workspace, shell(&format!("exit {code}")), code).await;
    }
    run_exit(&*workspace, shell("kill -TERM $$"), 143).await;
    run_exit(&*workspace, shell("kill -KILL $$"), 137).await;
    run_exit(&*workspace, argv(&["false"]), 1).await;
    finish(&*workspace).await;
}

/// The head of a 64-bit ELF file for the machine SPARC V9.
const OTHER_ARCHITECTURE: &str = "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x2b\0\x01\0\0\0";

async fn programs_that_cannot_start(fixture: Fixture) {
    let tree = small_tree()
        .script("crlf", "#!/bin/sh\r\necho\r\n")
        .script("interpreter", "#!/no/such/interpreter -x\n")
        .script("other", OTHER_ARCHITECTURE);
    let is_docker = fixture.is_isolated();
    let workspace = fixture.start_with(fixture.spec(tree)).await.unwrap();
    for (program, code, words) in [
        (
            "./crlf",
            127,
            "quire: cannot run `./crlf`: its first line ends with a carriage return, which is taken as part of the interpreter's name `/bin/sh`; \
             give the file line endings of LF only\n",
        ),
        (
            "./interpreter",
            127,
            "quire: cannot run `./interpreter`: its interpreter `/no/such/interpreter` does not exist\n",
        ),
        (
            "./other",
            126,
            "quire: cannot run `./other`: it was built for another architecture\n",
        ),
        (
            "no-such-program",
            127,
            "quire: cannot run `no-such-program`: there is no such program\n",
        ),
        (
            "./no/such",
            127,
            "quire: cannot run `./no/such`: there is no such program\n",
        ),
        (
            "./plain.txt",
            126,
            "quire: cannot run `./plain.txt`: permission to execute it was denied\n",
        ),
    ] {
        // On the host, the C library gives what the kernel refuses to a shell.
        if program == "./other" && !is_docker {
            continue;
        }
        let output = run_exit(&*workspace, argv(&[program]), code).await;
        assert_eq!(
            (output.text().as_str(), output.error_text().as_str()),
            ("", words)
        );
    }
    // The same words from a program that does run are its own.
    let output = run_exit(
        &*workspace,
        shell("echo 'OCI runtime exec failed: not at all'; exit 3"),
        3,
    )
    .await;
    assert_eq!(output.text(), "OCI runtime exec failed: not at all\n");
    finish(&*workspace).await;
}

async fn a_text_may_be_longer_than_an_argument(fixture: Fixture) {
    let workspace = fixture.start().await;
    let padding = format!(": {}\n", "x".repeat(1000)).repeat(300);
    let text = format!("{padding}read line; echo \"$line, read\"; exit 4");
    for start in [&["sh", "-c"][..], &["sh", "-e", "-c"]] {
        let command = CommandSpec {
            stdin: Some(b"input\n".to_vec()),
            ..argv(&[start, &[&text]].concat())
        };
        let output = run_exit(&*workspace, command, 4).await;
        assert_eq!(output.text(), "input, read\n");
    }
    // No other argument may.
    let output = run_exit(&*workspace, argv(&["echo", &text]), 126).await;
    let told = output.error_text();
    assert!(told.contains("argument"), "{told}");
    finish(&*workspace).await;
}

async fn streams_are_separate_and_bytes_unharmed(fixture: Fixture) {
    let workspace = fixture.start().await;
    let output = run_exit(
        &*workspace,
        shell(r"printf 'a\000b\377\376\n'; printf 'err\200' >&2; printf 'no newline'"),
        0,
    )
    .await;
    assert_eq!(output.stdout(), b"a\0b\xff\xfe\nno newline");
    assert_eq!(output.stderr(), b"err\x80");
    finish(&*workspace).await;
}

async fn large_output_is_whole(fixture: Fixture) {
    let workspace = fixture.start().await;
    // 50 MB of numbered lines, and as many on the other stream at the same time: a lost, doubled or swapped byte shows.
    let script = "seq 1000000 7250000 & seq 1000000 1500000 >&2; wait";
    let output = run_exit(&*workspace, shell(script), 0).await;
    let check = |bytes: &[u8], last: usize| {
        let mut expected = Vec::with_capacity(bytes.len());
        (1_000_000..=last).for_each(|n| expected.extend_from_slice(format!("{n}\n").as_bytes()));
        assert!(
            bytes == expected.as_slice(),
            "{} bytes, expected {}",
            bytes.len(),
            expected.len()
        );
    };
    assert!(output.stdout().len() > 50_000_000);
    check(&output.stdout(), 7_250_000);
    check(&output.stderr(), 1_500_000);
    finish(&*workspace).await;
}

async fn input_is_fed(fixture: Fixture) {
    let workspace = fixture.start().await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let output = run_exit(
        &*workspace,
        CommandSpec {
            stdin: Some(input.clone()),
            ..argv(&["cat"])
        },
        0,
    )
    .await;
    assert!(output.stdout() == input);
    // Empty input, none at all, and input that nobody reads.
    assert_eq!(
        run_exit(
            &*workspace,
            CommandSpec {
                stdin: Some(Vec::new()),
                ..argv(&["cat"])
            },
            0
        )
        .await
        .text(),
        ""
    );
    assert_eq!(run_exit(&*workspace, argv(&["cat"]), 0).await.text(), "");
    run_exit(
        &*workspace,
        CommandSpec {
            stdin: Some(input),
            ..shell("exit 5")
        },
        5,
    )
    .await;
    finish(&*workspace).await;
}

async fn environment(fixture: Fixture) {
    let workspace = fixture.start().await;
    let env = vec![
        ("OWN".to_owned(), "a=b\n'\" $x".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ];
    let output = run_exit(
        &*workspace,
        CommandSpec {
            env,
            ..shell(r#"echo "$GREETING|$OWN|${EMPTY-unset}|""#)
        },
        0,
    )
    .await;
    assert_eq!(output.text(), "hello world|a=b\n'\" $x||\n");
    let env = vec![("GREETING".to_owned(), "other".to_owned())];
    assert_eq!(
        run_exit(
            &*workspace,
            CommandSpec {
                env,
                ..shell("echo $GREETING")
            },
            0
        )
        .await
        .text(),
        "other\n"
    );
    // Nothing of quire's own environment, but what every shell needs.
    let names = run_exit(&*workspace, shell("env | sed 's/=.*//'"), 0)
        .await
        .text();
    assert!(
        !names.lines().any(|name| name.starts_with("CARGO")),
        "{names}"
    );
    for name in ["PATH", "HOME"] {
        assert!(names.lines().any(|n| n == name), "{names}");
    }
    finish(&*workspace).await;
}

async fn folders(fixture: Fixture) {
    let workspace = fixture.start().await;
    let at = |cwd: &str, script: &str| CommandSpec {
        cwd: Some(cwd.into()),
        ..shell(script)
    };
    assert_eq!(
        run_exit(&*workspace, at("a/deep", "cat er/file"), 0)
            .await
            .text(),
        "deep"
    );
    assert_eq!(
        run_exit(&*workspace, at("a/../.", "cat plain.txt"), 0)
            .await
            .text(),
        "plain\n"
    );
    for outside in ["..", "/", "/etc", "a/../../x"] {
        let (end, _) = run(&*workspace, at(outside, "touch was-here")).await;
        assert!(
            matches!(end, Err(ExecutorError::Command(_))),
            "{outside}: {end:?}"
        );
    }
    let (end, output) = run(&*workspace, at("not/there", "true")).await;
    assert_eq!(
        end.unwrap_err().to_string(),
        "the workspace has no folder `not/there`"
    );
    assert_eq!(
        (output.text(), output.error_text()),
        (String::new(), String::new())
    );
    finish(&*workspace).await;
}

async fn senseless_commands(fixture: Fixture) {
    let workspace = fixture.start().await;
    for command in [
        argv(&[]),
        argv(&[""]),
        argv(&["echo", "a\0b"]),
        CommandSpec {
            env: vec![("A=".into(), "b".into())],
            ..argv(&["true"])
        },
    ] {
        let (end, _) = run(&*workspace, command).await;
        assert!(matches!(end, Err(ExecutorError::Command(_))), "{end:?}");
    }
    finish(&*workspace).await;
}

/// A script whose processes each write to a file for as long as they live.
const TREE: &str = r#"
cat >beat.sh <<'X'
while :; do echo . >>"beat.$1"; sleep 0.05; done
X
sh beat.sh child & 
setsid sh beat.sh session &
(setsid sh beat.sh orphan &)
env -i PATH="$PATH" sh beat.sh bare &
(trap '' TERM INT HUP; exec sh beat.sh deaf) &
while [ "$(ls beat.child beat.session beat.orphan beat.bare beat.deaf 2>/dev/null | wc -l)" != 5 ]; do sleep 0.02; done
echo ready
wait
"#;

/// None of the five writes any more.
async fn assert_still(workspace: &dyn Workspace) {
    let script = "a=$(cat beat.child beat.session beat.orphan beat.bare beat.deaf | wc -c); sleep 0.5; \
                  b=$(cat beat.child beat.session beat.orphan beat.bare beat.deaf | wc -c); [ $a = $b ]";
    run_exit(workspace, shell(script), 0).await;
}

async fn a_timeout_ends_the_whole_tree(fixture: Fixture) {
    let workspace = fixture.start().await;
    run_exit(
        &*workspace,
        shell("sleep 300 >/dev/null 2>&1 & echo $! >neighbour"),
        0,
    )
    .await;
    // Long enough to be ready on a busy machine; the test looks at what is ended, not at how long it took.
    let (end, output) = run(
        &*workspace,
        CommandSpec {
            timeout: Some(Duration::from_secs(4)),
            ..shell(TREE)
        },
    )
    .await;
    assert_eq!(end.unwrap(), CommandEnd::TimedOut);
    assert_eq!(output.text(), "ready\n");
    assert_still(&*workspace).await;
    // What an earlier command left running is none of this one's.
    run_exit(&*workspace, shell("kill -0 $(cat neighbour)"), 0).await;
    finish(&*workspace).await;
}

async fn a_command_that_is_ended_as_it_begins(fixture: Fixture) {
    let workspace = fixture.start().await;
    for _ in 0..10 {
        let (end, _) = run(
            &*workspace,
            CommandSpec {
                timeout: Some(Duration::from_millis(1)),
                ..shell("touch began; exec sleep 304")
            },
        )
        .await;
        assert_eq!(end.unwrap(), CommandEnd::TimedOut);
    }
    run_exit(
        &*workspace,
        shell("! cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'sleep 30[4]'"),
        0,
    )
    .await;
    finish(&*workspace).await;
}

async fn a_cancel_ends_the_command(fixture: Fixture) {
    let workspace = fixture.start().await;
    let cancel = CancellationToken::new();
    let output = Output::default();
    let other = shell("while [ ! -e finish ]; do sleep 0.05; done; echo other done");
    let ended = async {
        let end = workspace
            .run_command(shell(TREE), Box::new(output.clone()), cancel.clone())
            .await;
        let still = assert_still(&*workspace).await;
        run_exit(&*workspace, shell("touch finish"), 0).await;
        (end, still)
    };
    let cancelling = async {
        wait_for_async("the tree is up", || async {
            (output.text() == "ready\n").then_some(())
        })
        .await;
        cancel.cancel();
    };
    // Another command at the same time is not touched.
    let ((end, ()), (), beside) = tokio::join!(ended, cancelling, run_exit(&*workspace, other, 0));
    assert_eq!(end.unwrap(), CommandEnd::Cancelled);
    assert_eq!(beside.text(), "other done\n");
    // One that was cancelled before it began does not begin.
    let end = workspace
        .run_command(shell("touch never"), Box::new(Output::default()), cancel)
        .await;
    assert_eq!(end.unwrap(), CommandEnd::Cancelled);
    run_exit(&*workspace, shell("test -e never"), 1).await;
    finish(&*workspace).await;
}

async fn what_is_left_running_lives_on(fixture: Fixture) {
    let workspace = fixture.start().await;
    let output = run_exit(
        &*workspace,
        shell("sleep 300 & echo $! >pid; echo started"),
        0,
    )
    .await;
    assert_eq!(output.text(), "started\n");
    run_exit(&*workspace, shell("kill -0 $(cat pid)"), 0).await;
    finish(&*workspace).await;
}

async fn commands_run_side_by_side(fixture: Fixture) {
    let workspace = fixture.start().await;
    // Each waits for all others: one after the other they would wait for good.
    let all = (0..6).map(|n| {
        let script = format!(
            "touch here.{n}; while [ $(ls here.* | wc -l) != 6 ]; do sleep 0.05; done; echo {n}"
        );
        let workspace = &*workspace;
        async move {
            assert_eq!(
                run_exit(workspace, shell(&script), 0).await.text(),
                format!("{n}\n")
            )
        }
    });
    futures_util::future::join_all(all).await;
    finish(&*workspace).await;
}

async fn stopping_ends_commands_and_repeats(fixture: Fixture) {
    let workspace = fixture.start().await;
    let output = Output::default();
    let running = workspace.run_command(
        shell("echo up; sleep 300"),
        Box::new(output.clone()),
        CancellationToken::new(),
    );
    let stopping = async {
        wait_for_async("it runs", || async {
            (output.text() == "up\n").then_some(())
        })
        .await;
        let both = tokio::join!(workspace.stop(), workspace.stop());
        both.0.and(both.1)
    };
    let (end, stopped) = tokio::join!(running, stopping);
    stopped.unwrap();
    assert_eq!(end.unwrap(), CommandEnd::Cancelled);
    finish(&*workspace).await;
    let (end, _) = run(&*workspace, argv(&["true"])).await;
    assert_eq!(end.unwrap(), CommandEnd::Cancelled);
    if fixture.is_isolated() {
        assert_eq!(fixture.containers().await, Vec::<String>::new());
    }
}

async fn a_start_that_is_cancelled_or_broken(fixture: Fixture) {
    use crate::support::{Broken, Seen};
    let cancel = CancellationToken::new();
    cancel.cancel();
    let start = fixture
        .executor
        .start_workspace(fixture.spec(small_tree()), &mut Seen::default(), cancel)
        .await;
    assert!(matches!(start.err(), Some(ExecutorError::Cancelled)));
    // In the middle of sending the tree.
    let cancel = CancellationToken::new();
    let spec = fixture.spec(Broken { error: None });
    let path = spec.workspace.clone();
    let mut seen = Seen::default();
    let start = fixture
        .executor
        .start_workspace(spec, &mut seen, cancel.clone());
    let cancelling = async {
        wait_for_async("the start is under way", || async {
            let begun = if fixture.is_isolated() {
                !fixture.containers().await.is_empty()
            } else {
                path.exists()
            };
            begun.then_some(())
        })
        .await;
        cancel.cancel();
    };
    let (start, ()) = tokio::join!(start, cancelling);
    assert!(matches!(start.err(), Some(ExecutorError::Cancelled)));
    assert!(!path.exists());
    // A tree that cannot be read.
    let spec = fixture.spec(Broken {
        error: Some("git archive died"),
    });
    let path = spec.workspace.clone();
    let error = fixture.start_with(spec).await.err().unwrap();
    assert!(error.to_string().contains("git archive died"), "{error}");
    assert!(!path.exists());
    if fixture.is_isolated() {
        assert_eq!(fixture.containers().await, Vec::<String>::new());
    }
}

async fn a_run_is_cleared_and_no_other(fixture: Fixture) {
    let (spec, other) = (fixture.spec(small_tree()), fixture.spec(small_tree()));
    let (run, path) = (spec.run, spec.workspace.clone());
    // Nothing there yet.
    fixture.executor.destroy_run(run).await.unwrap();
    let workspace = fixture.start_with(spec).await.unwrap();
    let kept = fixture.start_with(other).await.unwrap();
    run_exit(
        &*workspace,
        shell(
            "setsid sleep 300 >/dev/null 2>&1 & (setsid env -i sleep 300 >/dev/null 2>&1 &) ; true",
        ),
        0,
    )
    .await;
    // As where nobody was handed the workspace.
    drop(workspace);
    fixture.executor.destroy_run(run).await.unwrap();
    assert!(!path.exists());
    if fixture.is_isolated() {
        assert_eq!(fixture.containers().await.len(), 1);
    } else {
        // As text: the kernel adds a word to a folder that was removed.
        let shown = path.to_string_lossy();
        let stands = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|cwd| cwd.to_string_lossy().contains(&*shown))
        };
        assert!(
            !std::fs::read_dir("/proc")
                .unwrap()
                .filter_map(Result::ok)
                .any(stands)
        );
    }
    fixture.executor.destroy_run(run).await.unwrap();
    run_exit(&*kept, argv(&["cat", "plain.txt"]), 0).await;
    finish(&*kept).await;
}

async fn closed_outputs(fixture: Fixture) {
    let workspace = fixture.start().await;
    // Goes on after it closed its outputs; its end is still waited for, and can still be forced.
    run_exit(
        &*workspace,
        shell("exec >&- 2>&-; sleep 1; touch late; exit 9"),
        9,
    )
    .await;
    run_exit(&*workspace, shell("test -e late"), 0).await;
    let (end, _) = run(
        &*workspace,
        CommandSpec {
            timeout: Some(Duration::from_secs(1)),
            ..shell("exec >&- 2>&-; sleep 300")
        },
    )
    .await;
    assert_eq!(end.unwrap(), CommandEnd::TimedOut);
    finish(&*workspace).await;
}

async fn merged_output_is_in_the_order_of_the_writes(fixture: Fixture) {
    let workspace = fixture.start().await;
    let command = CommandSpec {
        merge: true,
        ..shell("set -x; echo a; echo b >&2; echo c; sh -c 'echo d >/dev/stderr; echo e'")
    };
    let output = run_exit(&*workspace, command, 0).await;
    assert_eq!(output.error_text(), "");
    let traced = output.text();
    let lines: Vec<_> = traced.lines().collect();
    assert_eq!(
        lines[..6],
        ["+ echo a", "a", "+ echo b", "b", "+ echo c", "c"]
    );
    assert_eq!(lines[7..], ["d", "e"]);
    // The reason why a program cannot be started is not output of the program.
    let missing = CommandSpec {
        merge: true,
        ..argv(&["no-such-program"])
    };
    let output = run_exit(&*workspace, missing, 127).await;
    assert_eq!(output.text(), "");
    finish(&*workspace).await;
}

/// A command leaves a writer in the background: what it prints comes for as long as the run lives.
async fn the_background_of_a_command_writes_to_its_log(fixture: Fixture) {
    let workspace = fixture.start().await;
    let writer = "while :; do echo tick >&2; sleep 0.2; done";
    for (how, start) in [
        ("plain", format!("({writer}) & echo started")),
        ("nohup", format!("nohup sh -c '{writer}' & echo started")),
        ("setsid", format!("setsid sh -c '{writer}' & echo started")),
        (
            "only standard error",
            format!("sh -c 'exec >&- <&-; {writer}' & echo started"),
        ),
        (
            "twice forked",
            format!("(setsid sh -c '{writer}' &) ; echo started"),
        ),
    ] {
        let output = run_exit(&*workspace, shell(&start), 0).await;
        assert_eq!(output.text(), "started\n", "{how}");
        let ticks = || output.error_text().matches("tick").count();
        let before = ticks();
        wait_for_async("more of it", || async {
            (ticks() >= before + 3).then_some(())
        })
        .await;
    }
    finish(&*workspace).await;
}

async fn folders_behind_links(fixture: Fixture) {
    let workspace = fixture.start().await;
    run_exit(&*workspace, shell("ln -s a/deep way; ln -s / out"), 0).await;
    let at = |cwd: &str| CommandSpec {
        cwd: Some(cwd.into()),
        ..argv(&["cat", "er/file"])
    };
    assert_eq!(run_exit(&*workspace, at("way"), 0).await.text(), "deep");
    for (cwd, words) in [
        (
            "out/etc",
            "the folder `out/etc` leads out of the workspace through a symbolic link",
        ),
        ("plain.txt", "the workspace has no folder `plain.txt`"),
    ] {
        let (end, _) = run(&*workspace, at(cwd)).await;
        assert_eq!(end.unwrap_err().to_string(), words);
    }
    finish(&*workspace).await;
}
