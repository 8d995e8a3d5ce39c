//! The other end of `run attach`: a socket of its own, over which a person's command runs in the
//! container of a run. Only the server reaches the engine.
//!
//! Whoever may open the socket may attach: it lies in a folder of the server's, like the event socket.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Runner;
use crate::executor::{Attached, Stream};
use crate::names::RunId;
use crate::run::attach::{
    AttachAnswer, AttachRequest, FrameKind, HEAD, MAX_FRAME, head, parse_head,
};
use crate::run::{ExecutorKind, RunState};

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

impl Runner {
    /// Serves people until told to stop; their commands end with it.
    pub async fn attend(&self, listener: UnixListener, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (runner, stop) = (self.clone(), stop.clone());
            tracker.spawn(async move {
                if let Err(error) = runner.attend_one(stream, &stop).await {
                    tracing::debug!(%error, "somebody attached to a run went away");
                }
            });
        }
        tracker.close();
        let _ = tokio::time::timeout(PATIENCE, tracker.wait()).await;
    }

    async fn attend_one(
        &self,
        stream: UnixStream,
        stop: &CancellationToken,
    ) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        tokio::time::timeout(
            PATIENCE,
            (&mut reader).take(MAX_REQUEST).read_until(b'\n', &mut line),
        )
        .await??;
        let attached = match serde_json::from_slice::<AttachRequest>(&line) {
            Ok(request) => self.attach(request).await,
            Err(error) => Err(format!("not a request: {error}")),
        };
        let answer = AttachAnswer {
            error: attached.as_ref().err().cloned(),
        };
        writer
            .write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes())
            .await?;
        let Ok(attached) = attached else {
            return Ok(());
        };
        carry(attached, reader, writer, stop).await
    }

    /// Starts the command, or says in a sentence why not.
    async fn attach(&self, request: AttachRequest) -> Result<Attached, String> {
        let run = request.run;
        let found = self
            .0
            .store
            .call(move |store| Ok((store.run(run)?, store.kept_container(run)?)))
            .await;
        let (row, kept) = found.map_err(|error| error.to_string())?;
        let row = row.ok_or_else(|| format!("there is no run `{run}`"))?;
        if row.executor == Some(ExecutorKind::Host) {
            return Err(
                "the run is executed on the host, without a container to attach to".to_owned(),
            );
        }
        if kept.is_none() && row.container_id.is_none() {
            return Err(match row.state {
                RunState::Pending => "the run has not started".to_owned(),
                RunState::Active => "the run has no container at the moment".to_owned(),
                _ => no_container(run),
            });
        }
        let executor = self
            .0
            .executors
            .iter()
            .find(|executor| executor.kind() == ExecutorKind::Docker);
        let executor = executor.ok_or("there is no engine")?;
        executor
            .attach(run, request.argv)
            .await
            .map_err(|error| error.to_string())
    }
}

fn no_container(run: RunId) -> String {
    format!(
        "run {run} has ended, and its container is gone: `run retry --keep` keeps that of one that fails, as push option ci.keep does"
    )
}

/// Carries bytes both ways until the command ends, or the person goes away, upon which the command is ended.
async fn carry(
    mut attached: Attached,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let end = attached.end;
    let mut feeding = std::pin::pin!(feed(&mut reader, &mut attached.input));
    let outcome = loop {
        tokio::select! {
            frame = attached.output.next() => match frame {
                Some(Ok((stream, bytes))) => {
                    let kind = match stream {
                        Stream::Stdout => FrameKind::Stdout,
                        Stream::Stderr => FrameKind::Stderr,
                    };
                    if let Err(error) = say(&mut writer, kind, &bytes).await {
                        break Err(error);
                    }
                }
                Some(Err(error)) => break say(&mut writer, FrameKind::Stderr, format!("quire: {error}\n").as_bytes()).await,
                None => break Ok(()),
            },
            gone = &mut feeding => break Err(gone),
            () = stop.cancelled() => break Err(std::io::ErrorKind::ConnectionAborted.into()),
        }
    };
    if outcome.is_err() {
        end.end().await;
        return outcome;
    }
    let code = end
        .exit_code()
        .await
        .map(|code| code.to_string())
        .unwrap_or_default();
    say(&mut writer, FrameKind::Exit, code.as_bytes()).await
}

/// Feeds the command until the person goes away; gives why.
async fn feed(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut (impl AsyncWrite + Unpin),
) -> std::io::Error {
    loop {
        let mut start = [0; HEAD];
        if let Err(error) = reader.read_exact(&mut start).await {
            return error;
        }
        let Some((FrameKind::Input, length)) = parse_head(start) else {
            return std::io::ErrorKind::InvalidData.into();
        };
        let mut bytes = vec![0; length];
        if let Err(error) = reader.read_exact(&mut bytes).await {
            return error;
        }
        // A command that does not read its input, or has ended, is not wrong.
        let _ = if bytes.is_empty() {
            input.shutdown().await
        } else {
            input.write_all(&bytes).await
        };
        let _ = input.flush().await;
    }
}

async fn say(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    bytes: &[u8],
) -> std::io::Result<()> {
    // One frame at least: an exit code that is not known is an empty one.
    let mut chunks = bytes.chunks(MAX_FRAME);
    let mut next = Some(chunks.next().unwrap_or_default());
    while let Some(chunk) = next {
        writer.write_all(&head(kind, chunk.len())).await?;
        writer.write_all(chunk).await?;
        next = chunks.next();
    }
    Ok(())
}
