//! The engine goes away in the middle: cut off, or accepting and silent.

use std::sync::Arc;
use std::time::Duration;

use quire::docker::Timings;
use quire::executor::{CommandEnd, DockerConfig, ExecutorError};
use quire::names::RunId;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Output, argv, endpoint, run_exit, shell, wait_for};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Through,
    Cut,
    Silent,
}

/// Stands between quire and the engine.
struct Proxy {
    mode: watch::Sender<Mode>,
    path: std::path::PathBuf,
}

impl Proxy {
    fn start(folder: &std::path::Path) -> Arc<Self> {
        let path = folder.join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (mode, seen) = watch::channel(Mode::Through);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, seen.clone()));
            }
        });
        Arc::new(Self { mode, path })
    }
}

async fn pass(mut client: UnixStream, mut mode: watch::Receiver<Mode>) {
    let real = endpoint();
    let Ok(mut engine) = UnixStream::connect(real.trim_start_matches("unix://")).await else {
        return;
    };
    let mut cut = mode.clone();
    let mut silent = mode.clone();
    tokio::select! {
        _ = async {
            let _ = mode.wait_for(|m| *m == Mode::Through).await;
            tokio::io::copy_bidirectional(&mut client, &mut engine).await
        } => return,
        _ = cut.wait_for(|m| *m == Mode::Cut) => return,
        _ = silent.wait_for(|m| *m == Mode::Silent) => {}
    }
    // Silent: both ends stay open and nothing moves, until the engine is let through again.
    let _ = mode.wait_for(|m| *m != Mode::Silent).await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
}

fn through(proxy: &Proxy) -> Option<Fixture> {
    let instance = format!("test-{}", RunId::new());
    let seconds = Duration::from_secs;
    let watch = Duration::from_millis(500);
    let timings = Timings {
        ping: seconds(2),
        call: seconds(20),
        heavy: seconds(60),
        removal: seconds(5),
        stall: seconds(5),
        watch,
        ..Timings::default()
    };
    Fixture::docker_with(DockerConfig {
        timings,
        ..DockerConfig::new(&format!("unix://{}", proxy.path.display()), &instance)
    })
}

async fn goes_away(mode: Mode) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let Some(fixture) = through(&proxy) else {
        return;
    };
    let workspace = fixture.start().await;
    let output = Output::default();
    let running = workspace.run(
        shell("echo up; sleep 300"),
        Box::new(output.clone()),
        CancellationToken::new(),
    );
    let going = async {
        wait_for("it runs", || async {
            (output.text() == "up\n").then_some(())
        })
        .await;
        proxy.mode.send(mode).unwrap();
    };
    let (end, ()) = tokio::time::timeout(Duration::from_secs(120), async {
        tokio::join!(running, going)
    })
    .await
    .expect("it hangs");
    assert!(matches!(end, Err(ExecutorError::Unavailable(_))), "{end:?}");
    assert!(fixture.executor.probe().await.is_err());
    assert!(workspace.stop().await.is_err());
    // It comes back: the same workspace can be stopped.
    proxy.mode.send(Mode::Through).unwrap();
    wait_for("the engine is back", || async {
        fixture.executor.probe().await.ok()
    })
    .await;
    workspace.stop().await.unwrap();
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_under_a_command() {
    goes_away(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_under_a_command() {
    goes_away(Mode::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_command_is_not_taken_for_a_dead_engine() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let Some(fixture) = through(&proxy) else {
        return;
    };
    let workspace = fixture.start().await;
    assert_eq!(
        run_exit(&*workspace, shell("sleep 2; echo done"), 0)
            .await
            .text(),
        "done\n"
    );
    // Its output is held open by what it left running: it ends all the same.
    assert_eq!(
        run_exit(&*workspace, shell("sleep 300 & echo left"), 0)
            .await
            .text(),
        "left\n"
    );
    let end = workspace
        .run(
            argv(&["true"]),
            Box::new(Output::default()),
            CancellationToken::new(),
        )
        .await;
    assert_eq!(end.unwrap(), CommandEnd::Exited(0));
    workspace.stop().await.unwrap();
}
