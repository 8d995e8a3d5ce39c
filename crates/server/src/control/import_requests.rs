//! Imports over the control socket: progress while it is made, and an end if the client disconnects.

use std::io::ErrorKind;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::protocol::{ControlResponse, ImportRequest};
use super::send_response::send_response;
use crate::mirror::MirrorService;
use quire_git::ProgressLine;
use quire_types::error_chain;

/// Imports a repository for a client. Fails if the client has disconnected; what was fetched stays for the next import.
pub(super) async fn import_repo(
    mirrors: &MirrorService,
    request: &ImportRequest,
    (reader, writer): (&mut (impl AsyncRead + Unpin), &mut OwnedWriteHalf),
) -> std::io::Result<ControlResponse> {
    let (sender, mut receiver) = unbounded_channel();
    let importing = mirrors.import(request, &sender);
    tokio::select! {
        imported = importing => {
            while let Ok(line) = receiver.try_recv() {
                send_response(writer, &progress(line)).await?;
            }
            Ok(match imported {
                Ok(report) => ControlResponse::Imported(report),
                Err(error) => ControlResponse::Error {
                    message: error_chain::chain(&error),
                },
            })
        }
        error = send_progress(&mut receiver, writer) => Err(error),
        () = closed(reader) => Err(ErrorKind::ConnectionAborted.into()),
    }
}

/// Sends progress until the client does not read it.
async fn send_progress(
    lines: &mut UnboundedReceiver<ProgressLine>,
    writer: &mut OwnedWriteHalf,
) -> std::io::Error {
    while let Some(line) = lines.recv().await {
        if let Err(error) = send_response(writer, &progress(line)).await {
            return error;
        }
    }
    std::future::pending().await
}

fn progress(line: ProgressLine) -> ControlResponse {
    ControlResponse::Progress {
        text: line.text,
        is_final: line.is_final,
    }
}

/// Returns when the client has disconnected. It sends nothing after its request.
async fn closed(reader: &mut (impl AsyncRead + Unpin)) {
    let mut byte = [0];
    let _ = reader.read(&mut byte).await;
}
