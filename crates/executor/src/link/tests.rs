//! The connection and the workspace against a helper that is played by the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use quire_run_files::logs::Stream;
use quire_step::{
    ExitStatus, FrameDecoder, FromHelper, INPUT_CREDIT, OUTPUT_CREDIT, TaskIds, ToHelper,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::connection::HelperLink;
use super::frame::CommandUser;
use super::place::{HelperPlace, HelperStreams};
use super::session::HelperSession;
use super::workspace::LinkWorkspace;
use crate::api::{CommandEnd, CommandSpec, OutputSink, Workspace};
use crate::error::{ContainerFailure, ExecutorError};

/// A place that has ended as soon as it is asked.
struct EndedPlace;

impl HelperPlace for EndedPlace {
    fn check_alive(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        std::future::ready(Ok(())).boxed()
    }
    fn explain_loss(&self) -> BoxFuture<'_, ExecutorError> {
        std::future::ready(ContainerFailure::EndedFromOutside.into()).boxed()
    }
    fn out_of_memory(&self) -> ExecutorError {
        ContainerFailure::OutOfMemory { limit: 1 << 20 }.into()
    }
    fn end(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        std::future::ready(Ok(())).boxed()
    }
    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        std::future::ready(Ok(())).boxed()
    }
    fn service_failures(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The helper's side of a connection.
struct Peer {
    stream: DuplexStream,
    decoder: FrameDecoder,
    /// What was received and not looked at: the id and a word for the kind, with the length of input.
    received: VecDeque<(u32, &'static str, usize)>,
}

impl Peer {
    async fn send(&mut self, id: u32, frame: &FromHelper<'_>) {
        let mut bytes = Vec::new();
        let rest = frame.encode(id, &mut bytes);
        bytes.extend_from_slice(rest);
        // The connection may be lost by now, as some tests want it.
        let _ = self.stream.write_all(&bytes).await;
    }

    /// Returns the next frame.
    async fn next(&mut self) -> (u32, &'static str, usize) {
        loop {
            if let Some(frame) = self.received.pop_front() {
                return frame;
            }
            let mut buffer = vec![0; 64 << 10];
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the connection was closed");
            self.decoder.add(&buffer[..count]);
            while let Some((header, body)) = self.decoder.next_frame().unwrap() {
                let (word, length) = match ToHelper::decode(header.kind, body).unwrap() {
                    ToHelper::Start(_) => ("start", 0),
                    ToHelper::Kill => ("kill", 0),
                    ToHelper::Credit(bytes) => ("credit", bytes as usize),
                    ToHelper::Stdin(bytes) => ("input", bytes.len()),
                    ToHelper::StdinEof => ("end of input", 0),
                    ToHelper::Read { .. } => ("read", 0),
                    ToHelper::Export(_) => ("export", 0),
                    _ => ("other", 0),
                };
                self.received.push_back((header.id, word, length));
            }
        }
    }

    /// Waits for a frame of this kind and returns its id.
    async fn wait_for(&mut self, word: &str) -> u32 {
        loop {
            let (id, found, _) = self.next().await;
            if found == word {
                return id;
            }
        }
    }
}

fn connect() -> (Arc<HelperSession>, Peer) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (read, write) = tokio::io::split(near);
    let streams = HelperStreams {
        input: Box::pin(write),
        output: ReaderStream::new(read)
            .map(|chunk| chunk.map_err(|error| ExecutorError::failed("read", &error)))
            .boxed(),
    };
    let place = Arc::new(EndedPlace);
    let connection = HelperLink::new(streams, place.clone(), Duration::from_secs(3600));
    let user = CommandUser {
        ids: TaskIds::default(),
        home: "/root".to_owned(),
    };
    let session = HelperSession::new(place, connection, "/work".to_owned(), user, Vec::new());
    let peer = Peer {
        stream: far,
        decoder: FrameDecoder::new(),
        received: VecDeque::new(),
    };
    (Arc::new(session), peer)
}

fn command() -> CommandSpec {
    CommandSpec {
        argv: vec!["true".to_owned()],
        env: Vec::new(),
        cwd: None,
        stdin: None,
        timeout: None,
        merge: false,
    }
}

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl OutputSink for Collected {
    fn output(&mut self, _: Stream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

/// A sink that takes nothing until the gate opens.
struct Gated(Arc<Semaphore>);

impl OutputSink for Gated {
    fn output(&mut self, _: Stream, _: &[u8]) {
        tokio::task::block_in_place(|| {
            let gate = self.0.acquire();
            tokio::runtime::Handle::current()
                .block_on(gate)
                .unwrap()
                .forget();
        });
    }
}

fn run(
    session: &Arc<HelperSession>,
    command: CommandSpec,
    sink: impl OutputSink + 'static,
    cancel: &CancellationToken,
) -> tokio::task::JoinHandle<Result<CommandEnd, ExecutorError>> {
    let workspace = LinkWorkspace::new(Arc::clone(session));
    let cancel = cancel.clone();
    tokio::spawn(async move { workspace.run_command(command, Box::new(sink), cancel).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_sink_that_takes_nothing_holds_up_no_other_command() {
    let (session, mut peer) = connect();
    let never = CancellationToken::new();
    let gate = Arc::new(Semaphore::new(0));
    let slow = run(&session, command(), Gated(Arc::clone(&gate)), &never);
    let slow_id = peer.wait_for("start").await;
    // As much as it may send without more credit.
    let chunk = vec![b'x'; 512 << 10];
    for _ in 0..OUTPUT_CREDIT as usize / chunk.len() {
        peer.send(slow_id, &FromHelper::Stdout(&chunk)).await;
    }
    let quick = Collected::default();
    let cancel = CancellationToken::new();
    let cancelled = run(&session, command(), Collected::default(), &cancel);
    let cancelled_id = peer.wait_for("start").await;
    let ended = run(&session, command(), quick.clone(), &never);
    let quick_id = peer.wait_for("start").await;
    peer.send(quick_id, &FromHelper::Stdout(b"quick")).await;
    peer.send(quick_id, &FromHelper::Exited(ExitStatus::Code(3)))
        .await;
    peer.send(quick_id, &FromHelper::Done).await;
    assert_eq!(ended.await.unwrap().unwrap(), CommandEnd::Exited(3));
    assert_eq!(quick.text(), "quick");
    cancel.cancel();
    assert_eq!(peer.wait_for("kill").await, cancelled_id);
    peer.send(cancelled_id, &FromHelper::Done).await;
    assert_eq!(cancelled.await.unwrap().unwrap(), CommandEnd::Cancelled);
    // Credit comes once the sink takes something.
    gate.add_permits(1000);
    assert_eq!(peer.wait_for("credit").await, slow_id);
    peer.send(slow_id, &FromHelper::Exited(ExitStatus::Signal(15)))
        .await;
    peer.send(slow_id, &FromHelper::Done).await;
    assert_eq!(slow.await.unwrap().unwrap(), CommandEnd::Exited(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_reads_no_input_can_still_be_killed() {
    let (session, mut peer) = connect();
    let cancel = CancellationToken::new();
    let command = CommandSpec {
        stdin: Some(vec![7; 3 * INPUT_CREDIT as usize]),
        ..command()
    };
    let running = run(&session, command, Collected::default(), &cancel);
    let id = peer.wait_for("start").await;
    let mut sent = 0;
    while sent < INPUT_CREDIT as usize {
        sent += peer.next().await.2;
    }
    assert_eq!(sent, INPUT_CREDIT as usize);
    cancel.cancel();
    assert_eq!(peer.next().await, (id, "kill", 0));
    peer.send(id, &FromHelper::Done).await;
    assert_eq!(running.await.unwrap().unwrap(), CommandEnd::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_after_the_end_of_a_command_reaches_its_sink() {
    let (session, mut peer) = connect();
    let output = Collected::default();
    let running = run(
        &session,
        command(),
        output.clone(),
        &CancellationToken::new(),
    );
    let id = peer.wait_for("start").await;
    peer.send(id, &FromHelper::Stdout(b"first,")).await;
    peer.send(id, &FromHelper::Exited(ExitStatus::Code(0)))
        .await;
    assert_eq!(running.await.unwrap().unwrap(), CommandEnd::Exited(0));
    peer.send(id, &FromHelper::Stderr(b"later")).await;
    peer.send(id, &FromHelper::Done).await;
    // A stop waits until everything has been passed on.
    LinkWorkspace::new(session).stop().await.unwrap();
    assert_eq!(output.text(), "first,later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_longer_wanted_is_cancelled() {
    let (session, mut peer) = connect();
    let workspace = LinkWorkspace::new(Arc::clone(&session));
    let reading = tokio::spawn(async move { workspace.read_file("a").await });
    let id = peer.wait_for("read").await;
    reading.abort();
    assert!(reading.await.is_err());
    assert_eq!(peer.wait_for("kill").await, id);
    // What was under way is dropped, and the connection goes on.
    peer.send(id, &FromHelper::Data(b"late")).await;
    peer.send(id, &FromHelper::Done).await;
    let workspace = LinkWorkspace::new(session);
    let reading = tokio::spawn(async move { workspace.read_file("b").await });
    let id = peer.wait_for("read").await;
    peer.send(id, &FromHelper::Data(b"con")).await;
    peer.send(id, &FromHelper::Data(b"tent")).await;
    peer.send(id, &FromHelper::Done).await;
    assert_eq!(reading.await.unwrap().unwrap(), b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_violates_the_protocol_loses_its_run() {
    let too_much = vec![0; 1 << 19];
    let mut messages = Vec::new();
    for case in 0..5 {
        let (session, mut peer) = connect();
        let running = run(
            &session,
            command(),
            Gated(Arc::new(Semaphore::new(0))),
            &CancellationToken::new(),
        );
        let id = peer.wait_for("start").await;
        match case {
            0 => peer.send(id + 1, &FromHelper::Done).await,
            1 => peer.stream.write_all(&[0xff; 9]).await.unwrap(),
            2 => peer
                .stream
                .write_all(&[0, 0, 0, 5, 0x77, 0, 0, 0, 1])
                .await
                .unwrap(),
            3 => peer.send(id, &FromHelper::Credit(1)).await,
            _ => {
                for _ in 0..=(OUTPUT_CREDIT as usize / too_much.len()) {
                    peer.send(id, &FromHelper::Data(&too_much)).await;
                }
            }
        }
        messages.push(running.await.unwrap().unwrap_err().to_string());
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_is_explained_by_the_place() {
    let (session, mut peer) = connect();
    let running = run(
        &session,
        command(),
        Collected::default(),
        &CancellationToken::new(),
    );
    peer.wait_for("start").await;
    drop(peer);
    let lost = ContainerFailure::EndedFromOutside.to_string();
    assert_eq!(running.await.unwrap().unwrap_err().to_string(), lost);
    let workspace = LinkWorkspace::new(session);
    assert_eq!(
        workspace.read_file("a").await.unwrap_err().to_string(),
        lost
    );
    workspace.stop().await.unwrap();
    let refused = workspace.read_file("a").await;
    assert!(matches!(refused, Err(ExecutorError::Cancelled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_for_want_of_memory_is_told_once() {
    let (session, mut peer) = connect();
    for (kills, status, expected) in [
        (1, ExitStatus::Signal(9), None),
        (1, ExitStatus::Signal(9), Some(137)),
        (2, ExitStatus::Code(2), Some(2)),
    ] {
        let output = Collected::default();
        let running = run(
            &session,
            command(),
            output.clone(),
            &CancellationToken::new(),
        );
        let id = peer.wait_for("start").await;
        peer.send(id, &FromHelper::Stderr(b"Killed\n")).await;
        peer.send(0, &FromHelper::Oom { kills }).await;
        peer.send(id, &FromHelper::Exited(status)).await;
        peer.send(id, &FromHelper::Done).await;
        let end = running.await.unwrap();
        match expected {
            Some(code) => assert_eq!(end.unwrap(), CommandEnd::Exited(code)),
            None => assert!(end.unwrap_err().to_string().contains("out of memory")),
        }
        assert_eq!(output.text().contains("a process was killed"), kills == 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_export_of_a_folder_that_is_cut_ends_with_an_error() {
    let (session, mut peer) = connect();
    let workspace = LinkWorkspace::new(session);
    let exporting = tokio::spawn(async move { workspace.export_archive("a").await });
    let id = peer.wait_for("export").await;
    peer.send(id, &FromHelper::Data(b"head")).await;
    let mut archive = exporting.await.unwrap().unwrap();
    assert_eq!(archive.next().await.unwrap().unwrap(), Bytes::from("head"));
    drop(peer);
    assert!(archive.next().await.unwrap().is_err());
    assert!(archive.next().await.is_none());
}
