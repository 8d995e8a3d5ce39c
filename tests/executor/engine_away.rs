//! The engine goes away in the middle: cut off, or accepting and silent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use quire_executor::engine::Timeouts;
use quire_executor::{CommandEnd, DockerConfig, ExecutorError, Tree};
use quire_testkit::wait_for_async;
use quire_types::names::RunId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::builds::{dockerfile, from_dockerfile, process_with};
use crate::support::{Fixture, IMAGE, Output, Seen, argv, endpoint, finish, run_exit, shell};

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

async fn pass(mut client: UnixStream, mode: watch::Receiver<Mode>) {
    let real = endpoint();
    let Ok(mut engine) = UnixStream::connect(real.trim_start_matches("unix://")).await else {
        return;
    };
    let mut cut = mode.clone();
    let (from_client, to_client) = client.split();
    let (from_engine, to_engine) = engine.split();
    tokio::select! {
        _ = async {
            tokio::try_join!(
                copy(from_client, to_engine, mode.clone()),
                copy(from_engine, to_client, mode.clone()),
            )
        } => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Copies one direction of a connection. While the engine is silent, the connection stays open, nothing moves, and nothing
/// is lost.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        let _ = mode.wait_for(|mode| *mode == Mode::Through).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

fn through(proxy: &Proxy) -> Option<Fixture> {
    let instance = format!("test-{}", RunId::new());
    let seconds = Duration::from_secs;
    let stream_idle = Duration::from_millis(500);
    let timeouts = Timeouts {
        ping: seconds(2),
        call: seconds(20),
        lifecycle: seconds(60),
        removal: seconds(5),
        upload_idle: seconds(5),
        stream_idle,
        ..Timeouts::default()
    };
    Fixture::docker_with(DockerConfig {
        timeouts,
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
    let running = workspace.run_command(
        shell("echo up; sleep 300"),
        Box::new(output.clone()),
        CancellationToken::new(),
    );
    let going = async {
        wait_for_async("it runs", || async {
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
    wait_for_async("the engine is back", || async {
        fixture.executor.probe().await.ok()
    })
    .await;
    finish(&*workspace).await;
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

async fn goes_away_under_a_build(mode: Mode) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let Some(fixture) = through(&proxy) else {
        return;
    };
    let marker = fixture.instance.clone();
    let text = format!("FROM {IMAGE}\nRUN echo {marker}; sleep 296\n");
    let spec = from_dockerfile(&fixture, dockerfile(&text));
    let seen = Seen::default();
    let mut observer = seen.clone();
    let starting = fixture
        .executor
        .start_workspace(spec, &mut observer, CancellationToken::new());
    let going = async {
        wait_for_async("the build runs", || async {
            seen.log().lines().any(|line| line == marker).then_some(())
        })
        .await;
        proxy.mode.send(mode).unwrap();
    };
    let (started, ()) = tokio::time::timeout(Duration::from_secs(120), async {
        tokio::join!(starting, going)
    })
    .await
    .expect("it hangs");
    let error = started.err().unwrap();
    assert!(matches!(error, ExecutorError::Unavailable(_)), "{error:?}");
    // The engine ends a build that has no client, and builds again once it is back.
    proxy.mode.send(Mode::Through).unwrap();
    wait_for_async("the command is gone", || async {
        (!process_with(&marker)).then_some(())
    })
    .await;
    let text = format!("FROM {IMAGE}\nRUN echo {marker}\n");
    let spec = from_dockerfile(&fixture, dockerfile(&text));
    let workspace = fixture.start_with(spec).await.unwrap();
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_under_a_build() {
    goes_away_under_a_build(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_under_a_build() {
    goes_away_under_a_build(Mode::Silent).await;
}

/// A tree without end, in the middle of which the engine falls silent.
struct Endless(Arc<Proxy>);

impl Tree for Endless {
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        let mut header = tar::Header::new_gnu();
        header.set_path("large").unwrap();
        header.set_mode(0o644);
        header.set_size(1 << 40);
        header.set_cksum();
        let head = Bytes::copy_from_slice(header.as_bytes());
        let proxy = Arc::clone(&self.0);
        let rest = stream::iter(0..).map(move |number| {
            if number == 100 {
                proxy.mode.send(Mode::Silent).unwrap();
            }
            Ok(Bytes::from_static(&[0; 64 << 10]))
        });
        stream::iter([Ok(head)]).chain(rest).boxed()
    }

    fn has_dockerfile(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_under_a_tree_and_under_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let Some(fixture) = through(&proxy) else {
        return;
    };
    let spec = fixture.spec(Endless(Arc::clone(&proxy)));
    let run = spec.run;
    let started = tokio::time::timeout(Duration::from_secs(120), fixture.start_with(spec));
    let error = started.await.expect("it hangs").err().unwrap();
    assert!(matches!(error, ExecutorError::Unavailable(_)), "{error:?}");
    proxy.mode.send(Mode::Through).unwrap();
    fixture.executor.destroy_run(run).await.unwrap();
    assert_eq!(fixture.containers().await, Vec::<String>::new());
    let workspace = fixture.start().await;
    workspace
        .write_file("large", vec![1; 2 << 20])
        .await
        .unwrap();
    proxy.mode.send(Mode::Silent).unwrap();
    let read = tokio::time::timeout(Duration::from_secs(120), workspace.read_file("large"));
    let read = read.await.expect("it hangs");
    assert!(
        matches!(read, Err(ExecutorError::Unavailable(_))),
        "{read:?}"
    );
    proxy.mode.send(Mode::Through).unwrap();
    wait_for_async("its end", || async { workspace.stop().await.ok() }).await;
    finish(&*workspace).await;
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
        .run_command(
            argv(&["true"]),
            Box::new(Output::default()),
            CancellationToken::new(),
        )
        .await;
    assert_eq!(end.unwrap(), CommandEnd::Exited(0));
    finish(&*workspace).await;
}
