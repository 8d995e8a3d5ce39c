//! The server of the attach socket: runs a client's command, or evaluates what the client types, in the container of
//! a run.
//!
//! Only the server reaches the engine, so `run attach` and `run repl` connect here and
//! [`attach_frames`](super::attach_frames) carry input and output. A client that disconnects ends its command.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attach_frames::{AttachRequest, AttachResponse, AttachedProgram, FrameKind};
use super::frame_stream::{read_frame, stream_kind, write_frame};
use super::repl;
use crate::runner::{ReplSession, Runner};
use quire_executor::{Attach, AttachedCommand, AttachedControl, Executor, Terminal};
use quire_store::Store;
use quire_types::names::RunId;
use quire_types::run::{Run, RunState};

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// How long a client may take to send its request, and commands to end at shutdown.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `run attach` and `run repl`. Cheap to clone.
#[derive(Clone)]
pub struct AttachServer {
    pub store: Store,
    pub executors: Vec<Arc<dyn Executor>>,
    pub runner: Runner,
}

/// A run with a container, and the executor that has it.
struct AttachedRun {
    run: Run,
    executor: Arc<dyn Executor>,
}

impl AttachedRun {
    fn attach(&self) -> Result<&dyn Attach, String> {
        self.executor.attach().ok_or_else(|| {
            "the run is executed on the host, so it has no container to attach to".to_owned()
        })
    }
}

/// What a client asked for, once it has started.
enum Started {
    Command(AttachedCommand),
    Repl(Box<ReplSession>),
}

impl AttachServer {
    /// Serves clients until `stop` is cancelled, which ends their commands too.
    pub async fn serve(self, listener: UnixListener, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (server, stop) = (self.clone(), stop.clone());
            tracker.spawn(async move {
                if let Err(error) = server.handle_client(stream, &stop).await {
                    tracing::debug!(%error, "a client of the attach socket disconnected");
                }
            });
        }
        tracker.close();
        let _ = tokio::time::timeout(CLIENT_TIMEOUT, tracker.wait()).await;
    }

    async fn handle_client(
        &self,
        stream: UnixStream,
        stop: &CancellationToken,
    ) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        tokio::time::timeout(
            CLIENT_TIMEOUT,
            (&mut reader).take(MAX_REQUEST).read_until(b'\n', &mut line),
        )
        .await??;
        let started = match serde_json::from_slice::<AttachRequest>(&line) {
            Ok(request) => self.begin(request).await,
            Err(error) => Err(format!("not a request: {error}")),
        };
        let response = AttachResponse {
            error: started.as_ref().err().cloned(),
        };
        writer
            .write_all(format!("{}\n", serde_json::to_string(&response)?).as_bytes())
            .await?;
        match started {
            Ok(Started::Command(command)) => relay(command, reader, writer, stop).await,
            Ok(Started::Repl(session)) => repl::serve(*session, reader, writer, stop).await,
            Err(_) => Ok(()),
        }
    }

    /// Starts what the client asks for. An error is one sentence.
    async fn begin(&self, request: AttachRequest) -> Result<Started, String> {
        let attached = self.find(request.run).await?;
        let attach = attached.attach()?;
        let id = request.run;
        match request.program {
            AttachedProgram::Command { argv, terminal } => {
                let terminal = terminal.map(|terminal| Terminal {
                    columns: terminal.columns,
                    rows: terminal.rows,
                    kind: terminal.kind,
                });
                let command = attach.start_command(id, argv, terminal).await;
                command
                    .map(Started::Command)
                    .map_err(|error| error.to_string())
            }
            AttachedProgram::Repl => {
                let workspace = attach.workspace(id).await;
                let workspace = workspace.map_err(|error| error.to_string())?;
                let session = self.runner.repl(&attached.run, workspace).await?;
                Ok(Started::Repl(Box::new(session)))
            }
        }
    }

    /// Finds a run that has a container, and its executor.
    async fn find(&self, run: RunId) -> Result<AttachedRun, String> {
        let found = self
            .store
            .call(move |store| Ok((store.runs().get(run)?, store.kept_containers().get(run)?)))
            .await;
        let (row, kept) = found.map_err(|error| error.to_string())?;
        let row = row.ok_or_else(|| format!("there is no run `{run}`"))?;
        let executor = row.executor.as_ref().and_then(|name| {
            let mut executors = self.executors.iter();
            executors.find(|executor| executor.name() == name).cloned()
        });
        let on_host = executor
            .as_ref()
            .is_some_and(|executor| executor.attach().is_none());
        if !on_host && kept.is_none() && row.container_id.is_none() {
            return Err(match row.state {
                RunState::Pending => "the run has not started yet".to_owned(),
                RunState::Active => "the run has no container at the moment".to_owned(),
                _ => no_container(run),
            });
        }
        let executor = executor.ok_or("the executor of the run is not available any more")?;
        Ok(AttachedRun { run: row, executor })
    }
}

fn no_container(run: RunId) -> String {
    format!(
        "run {run} has ended and its container was removed; `run retry --keep` or the push option ci.keep keeps the container of a run that fails"
    )
}

/// Copies bytes both ways until the command ends. If the client disconnects or the server stops, the command is ended.
async fn relay(
    mut attached: AttachedCommand,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let control = attached.control;
    let mut relaying = std::pin::pin!(relay_client(&mut reader, &mut attached.input, &*control));
    let outcome = loop {
        tokio::select! {
            frame = attached.output.next() => match frame {
                Some(Ok((stream, bytes))) => {
                    if let Err(error) = write_frame(&mut writer, stream_kind(stream), &bytes).await {
                        break Err(error);
                    }
                }
                Some(Err(error)) => break write_frame(&mut writer, FrameKind::Stderr, format!("quire: {error}\n").as_bytes()).await,
                None => break Ok(()),
            },
            gone = &mut relaying => break Err(gone),
            () = stop.cancelled() => break Err(std::io::ErrorKind::ConnectionAborted.into()),
        }
    };
    if outcome.is_err() {
        control.kill().await;
        return outcome;
    }
    let code = control
        .exit_code()
        .await
        .map(|code| code.to_string())
        .unwrap_or_default();
    write_frame(&mut writer, FrameKind::Exit, code.as_bytes()).await
}

/// Passes on to the command what the client sends. Returns the error that ended the connection.
async fn relay_client(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut (impl AsyncWrite + Unpin),
    control: &dyn AttachedControl,
) -> std::io::Error {
    loop {
        let (kind, bytes) = match read_frame(reader).await {
            Ok((kind @ (FrameKind::Input | FrameKind::Resize), bytes)) => (kind, bytes),
            Ok(_) => return std::io::ErrorKind::InvalidData.into(),
            Err(error) => return error,
        };
        if kind == FrameKind::Resize {
            let Ok([a, b, c, d]) = <[u8; 4]>::try_from(bytes) else {
                return std::io::ErrorKind::InvalidData.into();
            };
            control.resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            continue;
        }
        // A command may ignore its input or have ended: that is not an error of the client.
        let _ = if bytes.is_empty() {
            input.shutdown().await
        } else {
            input.write_all(&bytes).await
        };
        let _ = input.flush().await;
    }
}
