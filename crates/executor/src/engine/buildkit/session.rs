//! The session of a build: what the engine calls in quire while it builds.
//!
//! It serves the build's folder and nothing else: no secrets, no SSH agent, no credentials of registries. A method that is not served
//! is answered with the status for it, which BuildKit takes for "the client has none".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::folder::{BuildFolder, Selection};
use super::grpc::{GrpcError, IncomingMessages, OutgoingMessages, UNIMPLEMENTED};
use super::messages::files::{FilePacket, PacketKind, Stat};
use super::messages::health::{CheckResponse, SERVING};

/// The methods that the engine is told of.
pub(super) const METHODS: [&str; 2] = [SEND_FOLDER, CHECK_HEALTH];

const SEND_FOLDER: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The status of a call that failed for a reason of its own.
const UNKNOWN: u32 = 2;

/// How many pieces of files wait to be sent.
const MAX_PIECES: usize = 16;

/// The first error of the folder, for the one who waits for the build.
#[derive(Clone, Default)]
pub(super) struct FolderError(Arc<Mutex<Option<String>>>);

impl FolderError {
    fn set(&self, message: String) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(message);
    }

    pub(super) fn take(&self) -> Option<String> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

/// Serves a session until the engine closes it.
pub(super) async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    folder: BuildFolder,
    error: FolderError,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(connection).await?;
    // Ended with the session.
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                calls.spawn(answer(request, respond, folder.clone(), error.clone()));
            }
            Some(_) = calls.join_next() => {}
        }
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    folder: BuildFolder,
    error: FolderError,
) {
    let (head, body) = request.into_parts();
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap_or_default();
    // A call that the engine has given up needs no answer.
    let Ok(stream) = respond.send_response(response, false) else {
        return;
    };
    let mut outgoing = OutgoingMessages::new(stream);
    let method = head.uri.path();
    let done = match method {
        CHECK_HEALTH => {
            let answer = CheckResponse { status: SERVING };
            outgoing.send(&answer).await
        }
        SEND_FOLDER => {
            send_folder(
                &head.headers,
                IncomingMessages::new(body),
                &mut outgoing,
                folder,
            )
            .await
        }
        _ => {
            let _ = outgoing.finish(UNIMPLEMENTED, "quire does not serve this");
            return;
        }
    };
    let _ = match done {
        Ok(()) => outgoing.finish_ok(),
        Err(failed) => {
            let message = failed.to_string();
            if let GrpcError::Folder(_) = failed {
                error.set(message.clone());
            }
            outgoing.finish(UNKNOWN, &message)
        }
    };
}

/// Sends the entries of the folder, then the contents that the engine asks for, until it has all that it wants.
async fn send_folder(
    headers: &HeaderMap,
    mut incoming: IncomingMessages,
    outgoing: &mut OutgoingMessages,
    folder: BuildFolder,
) -> Result<(), GrpcError> {
    let selection = selection_of(headers);
    let stats = folder
        .list(&selection)
        .await
        .map_err(|error| GrpcError::Folder(error.to_string()))?;
    let requests = Requests::default();
    let receiving = async {
        let received = receive_requests(&mut incoming, &stats, &requests).await;
        requests.end();
        received
    };
    let sending = async {
        for stat in &stats {
            outgoing
                .send(&packet_of(PacketKind::Stat, Some(stat)))
                .await?;
        }
        outgoing.send(&packet_of(PacketKind::Stat, None)).await?;
        while let Some(wanted) = requests.next().await {
            send_contents(&folder, wanted, outgoing).await?;
        }
        outgoing.send(&packet_of(PacketKind::End, None)).await
    };
    tokio::try_join!(receiving, sending)?;
    Ok(())
}

fn packet_of(kind: PacketKind, stat: Option<&Stat>) -> FilePacket {
    FilePacket {
        kind: kind.into(),
        stat: stat.cloned(),
        ..FilePacket::default()
    }
}

async fn send_contents(
    folder: &BuildFolder,
    wanted: BTreeMap<String, u32>,
    outgoing: &mut OutgoingMessages,
) -> Result<(), GrpcError> {
    let (sender, mut pieces) = mpsc::channel(MAX_PIECES);
    let reading = async {
        let read = folder.read(wanted, sender).await;
        read.map_err(|error| GrpcError::Folder(error.to_string()))
    };
    let sending = async {
        while let Some((id, data)) = pieces.recv().await {
            let packet = FilePacket {
                id,
                data,
                ..packet_of(PacketKind::Data, None)
            };
            outgoing.send(&packet).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, sending)?;
    Ok(())
}

/// The files that the engine has asked for and that were not sent yet.
#[derive(Default)]
struct Requests {
    state: Mutex<(BTreeMap<String, u32>, bool)>,
    changed: Notify,
}

impl Requests {
    fn add(&self, path: String, id: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.insert(path, id);
        self.changed.notify_one();
    }

    /// No request will follow.
    fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = true;
        self.changed.notify_one();
    }

    /// Takes all requests; waits for one. `None` once there will be none.
    async fn next(&self) -> Option<BTreeMap<String, u32>> {
        loop {
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if !state.0.is_empty() {
                    return Some(std::mem::take(&mut state.0));
                }
                if state.1 {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

async fn receive_requests(
    incoming: &mut IncomingMessages,
    stats: &[Stat],
    requests: &Requests,
) -> Result<(), GrpcError> {
    while let Some(packet) = incoming.next::<FilePacket>().await? {
        match packet.kind() {
            PacketKind::Request => {
                let stat = usize::try_from(packet.id).ok().and_then(|id| stats.get(id));
                let stat = stat.ok_or(GrpcError::Ended)?;
                requests.add(stat.path.clone(), packet.id);
            }
            PacketKind::End => return Ok(()),
            PacketKind::Error => {
                let message = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(GrpcError::Status {
                    code: UNKNOWN,
                    message,
                });
            }
            PacketKind::Stat | PacketKind::Data => {}
        }
    }
    Err(GrpcError::Ended)
}

/// Reads which entries are wanted from the headers of a call.
fn selection_of(headers: &HeaderMap) -> Selection {
    Selection {
        include: values(headers, "include-patterns"),
        follow: values(headers, "followpaths"),
        exclude: values(headers, "exclude-patterns"),
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let is_encoded = headers.contains_key(format!("{name}-encoded"));
    let text = |value: &http::HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match is_encoded {
            // As in a URL's query.
            true => percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned(),
            false => text,
        }
    };
    headers.get_all(name).iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_is_read_from_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("followpaths", "a b"),
            ("exclude-patterns", "%C3%A9+x"),
            ("exclude-patterns", "!b"),
            ("exclude-patterns-encoded", "1"),
        ] {
            let name = http::HeaderName::from_static(name);
            headers.append(name, value.parse().unwrap());
        }
        let selection = selection_of(&headers);
        assert_eq!(selection.follow, ["a b"]);
        assert_eq!(selection.exclude, ["é x", "!b"]);
        assert!(selection.include.is_empty());
    }
}
