//! The server of the attach socket: runs a client's command in the container of a run.
//!
//! Only the server reaches the engine, so `run attach` connects here and [`attach_frames`](super::attach_frames)
//! carry input and output. A client that disconnects ends its command.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attach_frames::{
    AttachRequest, AttachResponse, FrameKind, HEADER_LEN, MAX_FRAME, decode_header, encode_header,
};
use quire_executor::{AttachedCommand, AttachedControl, Executor, Stream, Terminal};
use quire_store::Store;
use quire_types::names::RunId;
use quire_types::run::RunState;

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// How long a client may take to send its request, and commands to end at shutdown.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `run attach`. Cheap to clone.
#[derive(Clone)]
pub struct AttachServer {
    pub store: Store,
    pub executors: Vec<Arc<dyn Executor>>,
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
        let attached = match serde_json::from_slice::<AttachRequest>(&line) {
            Ok(request) => self.attach(request).await,
            Err(error) => Err(format!("not a request: {error}")),
        };
        let response = AttachResponse {
            error: attached.as_ref().err().cloned(),
        };
        writer
            .write_all(format!("{}\n", serde_json::to_string(&response)?).as_bytes())
            .await?;
        let Ok(attached) = attached else {
            return Ok(());
        };
        relay(attached, reader, writer, stop).await
    }

    /// Starts the command. An error is one sentence.
    async fn attach(&self, request: AttachRequest) -> Result<AttachedCommand, String> {
        let run = request.run;
        let found = self
            .store
            .call(move |store| Ok((store.runs().get(run)?, store.kept_containers().get(run)?)))
            .await;
        let (row, kept) = found.map_err(|error| error.to_string())?;
        let row = row.ok_or_else(|| format!("there is no run `{run}`"))?;
        let executor = row.executor.as_ref().and_then(|name| {
            let mut executors = self.executors.iter();
            executors.find(|executor| executor.name() == name)
        });
        if executor.is_some_and(|executor| executor.attach().is_none()) {
            return Err(
                "the run is executed on the host, so it has no container to attach to".to_owned(),
            );
        }
        if kept.is_none() && row.container_id.is_none() {
            return Err(match row.state {
                RunState::Pending => "the run has not started yet".to_owned(),
                RunState::Active => "the run has no container at the moment".to_owned(),
                _ => no_container(run),
            });
        }
        let attach = executor
            .and_then(|executor| executor.attach())
            .ok_or("the executor of the run is not available any more")?;
        let terminal = request.terminal.map(|terminal| Terminal {
            columns: terminal.columns,
            rows: terminal.rows,
            kind: terminal.kind,
        });
        attach
            .start_command(run, request.argv, terminal)
            .await
            .map_err(|error| error.to_string())
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
                    let kind = match stream {
                        Stream::Stdout => FrameKind::Stdout,
                        Stream::Stderr => FrameKind::Stderr,
                    };
                    if let Err(error) = write_frame(&mut writer, kind, &bytes).await {
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
        let mut start = [0; HEADER_LEN];
        if let Err(error) = reader.read_exact(&mut start).await {
            return error;
        }
        let (kind, length) = match decode_header(start) {
            Some((kind @ (FrameKind::Input | FrameKind::Resize), length)) => (kind, length),
            _ => return std::io::ErrorKind::InvalidData.into(),
        };
        let mut bytes = vec![0; length];
        if let Err(error) = reader.read_exact(&mut bytes).await {
            return error;
        }
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

async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    bytes: &[u8],
) -> std::io::Result<()> {
    // At least one frame: an unknown exit code is an empty one.
    let mut chunks = bytes.chunks(MAX_FRAME);
    let mut next = Some(chunks.next().unwrap_or_default());
    while let Some(chunk) = next {
        writer.write_all(&encode_header(kind, chunk.len())).await?;
        writer.write_all(chunk).await?;
        next = chunks.next();
    }
    Ok(())
}
