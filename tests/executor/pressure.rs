//! Commands that press on quire: floods, sinks that take nothing, and commands that destroy what is around them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use quire_executor::{CommandEnd, OutputSink, Stream, Workspace};
use quire_testkit::wait_for_async;
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Output, argv, finish, run, run_exit, shell};

crate::under_all!(
    one_command_floods_while_others_run_and_are_cancelled,
    a_sink_that_takes_nothing_holds_up_nothing_else,
);

/// Starts a command beside what goes on.
fn begin(
    workspace: &Arc<dyn Workspace>,
    script: &str,
    sink: impl OutputSink + 'static,
    cancel: &CancellationToken,
) -> tokio::task::JoinHandle<CommandEnd> {
    let (workspace, command, cancel) = (Arc::clone(workspace), shell(script), cancel.clone());
    tokio::spawn(async move {
        let running = workspace.run_command(command, Box::new(sink), cancel);
        running.await.unwrap()
    })
}

/// Begins a command that goes on until it is cancelled, and cancels it.
async fn cancels_another(workspace: &Arc<dyn Workspace>) {
    let (output, cancel) = (Output::default(), CancellationToken::new());
    let other = begin(workspace, "echo begun; sleep 1000", output.clone(), &cancel);
    wait_for_async("its beginning", || async {
        (output.text() == "begun\n").then_some(())
    })
    .await;
    cancel.cancel();
    assert_eq!(other.await.unwrap(), CommandEnd::Cancelled);
}

/// Counts what it takes.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl OutputSink for Counter {
    fn output(&mut self, _stream: Stream, bytes: &[u8]) {
        self.0.fetch_add(bytes.len(), Ordering::SeqCst);
    }
}

async fn one_command_floods_while_others_run_and_are_cancelled(fixture: Fixture) {
    let workspace: Arc<dyn Workspace> = fixture.start().await.into();
    let (counter, cancel) = (Counter::default(), CancellationToken::new());
    let flood = begin(&workspace, "yes flood", counter.clone(), &cancel);
    let taken = || counter.0.load(Ordering::SeqCst);
    for _ in 0..3 {
        let before = taken();
        wait_for_async("the flood", || async {
            (taken() > before + (8 << 20)).then_some(())
        })
        .await;
        cancels_another(&workspace).await;
        let output = run_exit(&*workspace, shell("echo beside"), 0).await;
        assert_eq!(output.text(), "beside\n");
    }
    cancel.cancel();
    assert_eq!(flood.await.unwrap(), CommandEnd::Cancelled);
    finish(&*workspace).await;
}

/// Takes nothing until it is opened.
#[derive(Clone, Default)]
struct Gate {
    is_open: Arc<(Mutex<bool>, Condvar)>,
    taken: Counter,
}

impl Gate {
    fn open(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

impl OutputSink for Gate {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        // The thread is one of the runtime, whose other tasks go on meanwhile.
        tokio::task::block_in_place(|| {
            let mut is_open = self.is_open.0.lock().unwrap();
            while !*is_open {
                is_open = self.is_open.1.wait(is_open).unwrap();
            }
        });
        self.taken.output(stream, bytes);
    }
}

async fn a_sink_that_takes_nothing_holds_up_nothing_else(fixture: Fixture) {
    let workspace: Arc<dyn Workspace> = fixture.start().await.into();
    let (gate, cancel) = (Gate::default(), CancellationToken::new());
    let size = 30 << 20;
    let script = format!("head -c {size} /dev/zero; touch written");
    let held = begin(&workspace, &script, gate.clone(), &cancel);
    cancels_another(&workspace).await;
    for round in 0..20 {
        // More than there is credit for in all.
        let output = run_exit(&*workspace, shell("head -c 1000000 /dev/zero"), 0).await;
        assert_eq!(output.stdout().len(), 1_000_000, "{round}");
    }
    let early = run_exit(&*workspace, shell("test ! -e written"), 0).await;
    assert_eq!(early.text(), "");
    gate.open();
    assert_eq!(held.await.unwrap(), CommandEnd::Exited(0));
    assert_eq!(gate.taken.0.load(Ordering::SeqCst), size);
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_destroys_what_is_around_it_ends_with_the_run() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let workspace = fixture.start().await;
    for script in ["kill -9 -1; sleep 1000", "kill -9 $PPID; sleep 1000"] {
        let output = run_exit(&*workspace, shell(script), 137).await;
        let told = output.error_text();
        assert!(told.contains("supervises the command was killed"), "{told}");
    }
    // The workspace itself is mounted and stays; what is in it goes.
    run_exit(&*workspace, shell("rm -rf /work /work/.[!.]* || true"), 0).await;
    let output = run_exit(&*workspace, shell("pwd; ls -A"), 0).await;
    assert_eq!(output.text(), "/work\n");
    // Without a shell and without libraries, files can still be written and read.
    let (end, _) = run(&*workspace, argv(&["rm", "-rf", "--no-preserve-root", "/"])).await;
    assert!(matches!(end, Ok(CommandEnd::Exited(_))), "{end:?}");
    let output = run_exit(&*workspace, argv(&["sh", "-c", "true"]), 127).await;
    assert!(
        output.error_text().contains("sh"),
        "{}",
        output.error_text()
    );
    workspace
        .write_file("a/file", b"content".to_vec())
        .await
        .unwrap();
    assert_eq!(workspace.read_file("a/file").await.unwrap(), b"content");
    finish(&*workspace).await;
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_kill_all_other_commands_of_the_container() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let workspace = fixture.start().await;
    // As `pkill -9 sleep` does, which the image does not have: nothing that quire needs is a program of the image.
    let pkill = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = sleep ] && kill -9 ${p#/proc/}; done; true";
    run_exit(&*workspace, shell("sleep 1000 & echo $! >left"), 0).await;
    run_exit(&*workspace, shell(pkill), 0).await;
    // A process that was killed has its id until it is reaped.
    let until_reaped = "while kill -0 $(cat left) 2>/dev/null; do sleep 0.01; done; echo gone";
    let left = run_exit(&*workspace, shell(until_reaped), 0).await;
    assert_eq!(left.text(), "gone\n");
    // killall5 spares its own session only, and so not the process that supervises the command.
    for signal in ["-15", "-9"] {
        let script = format!("killall5 {signal}; echo after");
        let (end, output) = run(&*workspace, shell(&script)).await;
        let lost = output
            .error_text()
            .contains("supervises the command was killed");
        assert!(
            matches!(end, Ok(CommandEnd::Exited(0))) && output.text() == "after\n"
                || matches!(end, Ok(CommandEnd::Exited(137))) && lost,
            "{signal}: {end:?} {} {}",
            output.text(),
            output.error_text()
        );
        let output = run_exit(&*workspace, shell("echo well"), 0).await;
        assert_eq!(output.text(), "well\n");
    }
    finish(&*workspace).await;
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}
