//! The batch API, and the transfers that it asks for (`basic`), over HTTPS.

use std::error::Error;
use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::batch::{
    LfsAction, MEDIA_TYPE, ObjectStep, ObjectTransfer, PlannedObject, parse, request, verification,
};
use super::endpoint::{LfsEndpoint, secrets_in};
use super::error::LfsError;
use super::room::{self, RoomCheck};
use super::stall::unless_stalled;
use crate::addresses::ReachableAddresses;
use crate::outgoing::{
    ConnectionError, KeptConnection, OpenConnection, PROGRAM_NAME, error_words, read_answer,
};
use quire_git::lfs::{
    LfsDirection, LfsPointer, LfsProgress, LfsStore, LfsUpload, TransferredObjects,
};
use quire_runtime::blocking::run_blocking;
use quire_types::error_chain::chain;
use quire_types::http_url::HttpUrl;
use quire_types::secret::Redactor;

/// How large an answer of the batch API may be, in bytes.
const MAX_BATCH_ANSWER: usize = 4 << 20;
/// The size of a read of an object.
const CHUNK: usize = 128 << 10;
/// How many pieces of an object are received before they are written.
const MAX_UNWRITTEN: usize = 8;

type LfsBody = UnsyncBoxBody<Bytes, io::Error>;

/// The batch API of one remote.
pub(super) struct LfsHttp<'a> {
    pub(super) endpoint: LfsEndpoint,
    pub(super) direction: LfsDirection,
    pub(super) reachable: ReachableAddresses<'a>,
    pub(super) redactor: &'a Redactor,
    pub(super) progress: LfsProgress,
    pub(super) connection: KeptConnection<LfsBody>,
}

/// A request that can be made again over another connection.
struct ObjectRequest<'r> {
    method: Method,
    url: &'r HttpUrl,
    headers: HeaderMap,
    content: RequestContent<'r>,
}

#[derive(Clone, Copy)]
enum RequestContent<'r> {
    Nothing,
    Json(&'r [u8]),
    Object(&'r LfsStore, &'r LfsPointer),
}

/// An answer and its connection, which is kept once the answer was read.
struct LfsResponse {
    open: OpenConnection<LfsBody>,
    response: Response<Incoming>,
}

#[derive(Deserialize)]
struct LfsMessageJson {
    message: String,
}

impl LfsHttp<'_> {
    /// Transfers those of these objects that the other side, or this one, does not have. `room` is asked before an object is stored.
    pub(super) async fn transfer(
        &mut self,
        store: &LfsStore,
        objects: &[LfsPointer],
        room: &RoomCheck,
    ) -> Result<TransferredObjects, LfsError> {
        let mut transferred = TransferredObjects::default();
        for PlannedObject { pointer, step } in self.batch(objects).await? {
            match step {
                ObjectStep::Nothing => {}
                ObjectStep::Missing => transferred.absent.push(pointer.oid.clone()),
                ObjectStep::Refused(words) => {
                    let words = self.redacted(&words, &self.endpoint.headers());
                    transferred.refuse(pointer, words);
                }
                ObjectStep::Transfer(transfer) => {
                    match self.transfer_one(store, pointer, *transfer, room).await {
                        Ok(true) => transferred.moved += 1,
                        Ok(false) => transferred.absent.push(pointer.oid.clone()),
                        Err(error) if error.is_of_object() => {
                            transferred.refuse(pointer, chain(&error));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(transferred)
    }

    /// Transfers an object. Returns false if it does not exist where it should come from.
    async fn transfer_one(
        &mut self,
        store: &LfsStore,
        pointer: &LfsPointer,
        ObjectTransfer { action, verify }: ObjectTransfer,
        room: &RoomCheck,
    ) -> Result<bool, LfsError> {
        match self.direction {
            LfsDirection::Upload => self.upload(store, pointer, &action, verify.as_ref()).await,
            LfsDirection::Download => {
                room::ask(room, pointer.size).await?;
                self.download(store, pointer, &action).await
            }
        }
    }

    /// Asks what has to be done for objects.
    async fn batch<'o>(
        &mut self,
        objects: &'o [LfsPointer],
    ) -> Result<Vec<PlannedObject<'o>>, LfsError> {
        let url = self.endpoint.url.join("objects/batch");
        let body = request(self.direction, objects);
        let asked = ObjectRequest {
            method: Method::POST,
            url: &url,
            headers: with_media_type(self.endpoint.headers()),
            content: RequestContent::Json(&body),
        };
        let answer = self.send(&asked).await?;
        let status = answer.response.status();
        let protocol = |problem: String| LfsError::Protocol {
            origin: url.origin(),
            problem: self.redacted(&problem, &asked.headers),
        };
        if !status.is_success() {
            let failed = self.failed(answer, &asked).await;
            let words = failed.to_string();
            return Err(match is_unknown(status) {
                true => LfsError::None { words },
                false => failed,
            });
        }
        let is_json = |found: &HeaderValue| found.to_str().is_ok_and(|text| text.contains("json"));
        let LfsResponse { open, response } = answer;
        if !response.headers().get(CONTENT_TYPE).is_some_and(is_json) {
            let words = format!("{} answers with something else", url.origin());
            return Err(LfsError::None { words });
        }
        let body = Limited::new(response.into_body(), MAX_BATCH_ANSWER).collect();
        let body = self.unless_stalled(body).await?;
        let body = body.map_err(|error| protocol(error.to_string()))?;
        let planned = parse(self.direction, &body.to_bytes(), objects).map_err(protocol)?;
        self.connection.keep(open);
        Ok(planned)
    }

    /// Sends an object. Returns false if it is not here.
    async fn upload(
        &mut self,
        store: &LfsStore,
        object: &LfsPointer,
        action: &LfsAction,
        verify: Option<&LfsAction>,
    ) -> Result<bool, LfsError> {
        let (asked, oid) = (store.clone(), object.oid.clone());
        let found = run_blocking(move || asked.size(&oid)).await?;
        if found.map_err(LfsError::Read)? != Some(object.size) {
            return Ok(false);
        }
        let mut headers = self.headers_of(action)?;
        let binary = HeaderValue::from_static("application/octet-stream");
        headers.entry(CONTENT_TYPE).or_insert(binary);
        let upload = ObjectRequest {
            method: Method::PUT,
            url: &action.url,
            headers,
            content: RequestContent::Object(store, object),
        };
        self.send_to_success(&upload).await?;
        if let Some(verify) = verify {
            let body = verification(object);
            let request = ObjectRequest {
                method: Method::POST,
                url: &verify.url,
                headers: with_media_type(self.headers_of(verify)?),
                content: RequestContent::Json(&body),
            };
            self.send_to_success(&request).await?;
        }
        Ok(true)
    }

    /// Receives an object and stores it. Returns false if the other side has none.
    async fn download(
        &mut self,
        store: &LfsStore,
        object: &LfsPointer,
        action: &LfsAction,
    ) -> Result<bool, LfsError> {
        let request = ObjectRequest {
            method: Method::GET,
            url: &action.url,
            headers: self.headers_of(action)?,
            content: RequestContent::Nothing,
        };
        let answer = self.send(&request).await?;
        match answer.response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(false),
            _ => return Err(self.failed(answer, &request).await),
        }
        let LfsResponse { open, response } = answer;
        let (target, begun) = (store.clone(), object.clone());
        let upload = run_blocking(move || target.upload(&begun.oid, begun.size)).await??;
        self.receive(response.into_body(), upload).await?;
        self.connection.keep(open);
        Ok(true)
    }

    /// Stores the body of an answer.
    async fn receive(&self, mut body: Incoming, mut upload: LfsUpload) -> Result<(), LfsError> {
        let (pieces, mut received) = tokio::sync::mpsc::channel::<Bytes>(MAX_UNWRITTEN);
        let store = run_blocking(move || {
            while let Some(piece) = received.blocking_recv() {
                upload.write(&piece)?;
            }
            Ok(upload)
        });
        let receive = async {
            while let Some(frame) = self.unless_stalled(body.frame()).await? {
                let frame = frame.map_err(ConnectionError::from)?;
                if let Ok(piece) = frame.into_data() {
                    self.progress.add(piece.len());
                    // The one that stores them ends early with an error of its own.
                    if pieces.send(piece).await.is_err() {
                        break;
                    }
                }
            }
            drop(pieces);
            Ok::<_, LfsError>(())
        };
        let (received, stored) = tokio::join!(receive, store);
        let upload: Result<LfsUpload, LfsError> = stored?;
        let upload = upload?;
        // What was cut off is not the object, and would be named as one of a wrong size.
        received?;
        Ok(run_blocking(move || upload.finish()).await??)
    }

    /// The headers of a request that the other side asks for, if it may be made.
    fn headers_of(&self, action: &LfsAction) -> Result<HeaderMap, LfsError> {
        match action.url.is_tls() {
            true => Ok(self.endpoint.headers_of(action)),
            false => Err(LfsError::NotTls {
                origin: action.url.origin(),
            }),
        }
    }

    async fn send_to_success(&mut self, request: &ObjectRequest<'_>) -> Result<(), LfsError> {
        let answer = self.send(request).await?;
        if !answer.response.status().is_success() {
            return Err(self.failed(answer, request).await);
        }
        let LfsResponse { open, response } = answer;
        let read = short_answer(&self.progress, response.into_body()).await?;
        if read.is_some() {
            self.connection.keep(open);
        }
        Ok(())
    }

    /// Makes a request, and waits for the head of its answer.
    async fn send(&mut self, request: &ObjectRequest<'_>) -> Result<LfsResponse, LfsError> {
        let url = request.url;
        let invalid = |problem: String| LfsError::Protocol {
            origin: url.origin(),
            problem,
        };
        let uri: Uri = url
            .path_and_query()
            .parse()
            .map_err(|error| invalid(format!("its address cannot be requested: {error}")))?;
        let host = HeaderValue::from_str(&url.authority());
        let host = host.map_err(|error| invalid(error.to_string()))?;
        let progress = self.progress.clone();
        let build = || {
            let mut built = Request::new(body(request.content, &progress));
            *built.method_mut() = request.method.clone();
            *built.uri_mut() = uri.clone();
            let headers = built.headers_mut();
            headers.insert(USER_AGENT, HeaderValue::from_static(PROGRAM_NAME));
            headers.extend(request.headers.clone());
            headers.insert(HOST, host.clone());
            if let RequestContent::Object(_, object) = request.content {
                headers.insert(CONTENT_LENGTH, object.size.into());
            }
            built
        };
        let sent = self.connection.send(build, url, self.reachable);
        let sent = unless_stalled(&progress, sent).await;
        let (open, response) = sent.map_err(|_| LfsError::Stalled)??;
        Ok(LfsResponse { open, response })
    }

    async fn unless_stalled<T>(&self, part: impl Future<Output = T>) -> Result<T, LfsError> {
        let done = unless_stalled(&self.progress, part).await;
        done.map_err(|_| LfsError::Stalled)
    }

    /// What an answer to a request means that is no success.
    async fn failed(&self, answer: LfsResponse, request: &ObjectRequest<'_>) -> LfsError {
        let (status, origin) = (answer.response.status(), request.url.origin());
        if status.is_redirection() {
            return LfsError::Redirected { origin };
        }
        let text = short_answer(&self.progress, answer.response.into_body());
        let text = text.await.ok().flatten().unwrap_or_default();
        let message: Option<LfsMessageJson> = serde_json::from_slice(&text).ok();
        let text = message.map_or_else(
            || String::from_utf8_lossy(&text).into_owned(),
            |json| json.message,
        );
        let text = self.redacted(&text, &request.headers);
        LfsError::Answered {
            origin,
            status,
            words: error_words(&text, request.url, self.redactor),
        }
    }

    /// What the other side says to a request. It may quote the headers, which may have secrets that it has named itself.
    fn redacted(&self, text: &str, headers: &HeaderMap) -> String {
        secrets_in(headers).redact_text(&self.redactor.redact_text(text))
    }
}

/// The whole body of an answer, if it is short.
async fn short_answer<B>(progress: &LfsProgress, body: B) -> Result<Option<Bytes>, LfsError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let read = unless_stalled(progress, read_answer(body)).await;
    read.map_err(|_| LfsError::Stalled)
}

/// Whether a server answers so that has no batch API.
fn is_unknown(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::GONE
            | StatusCode::NOT_IMPLEMENTED
    )
}

fn with_media_type(mut headers: HeaderMap) -> HeaderMap {
    let names: [HeaderName; 2] = [ACCEPT, CONTENT_TYPE];
    for name in names {
        headers.insert(name, HeaderValue::from_static(MEDIA_TYPE));
    }
    headers
}

fn body(content: RequestContent<'_>, progress: &LfsProgress) -> LfsBody {
    match content {
        RequestContent::Nothing => whole(Bytes::new()),
        RequestContent::Json(json) => whole(Bytes::copy_from_slice(json)),
        RequestContent::Object(store, object) => object_body(store, object, progress),
    }
}

fn whole(bytes: Bytes) -> LfsBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The content of an object, which is opened when the body is sent.
fn object_body(store: &LfsStore, object: &LfsPointer, progress: &LfsProgress) -> LfsBody {
    let (store, object, progress) = (store.clone(), object.clone(), progress.clone());
    let open = async move {
        let opened = run_blocking(move || store.open(&object.oid)).await;
        let opened = opened.map_err(io::Error::other)??;
        let (file, _) = opened.ok_or(io::ErrorKind::NotFound)?;
        let content = tokio::fs::File::from_std(file).take(object.size);
        Ok::<_, io::Error>(ReaderStream::with_capacity(content, CHUNK))
    };
    let pieces = stream::once(open).try_flatten();
    let frames = pieces.map(move |piece| {
        piece.map(|piece| {
            progress.add(piece.len());
            Frame::data(piece)
        })
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let progress = LfsProgress::default();
        let held = StreamBody::new(stream::pending::<io::Result<Frame<Bytes>>>());
        let read = short_answer(&progress, held).await;
        assert!(matches!(read, Err(LfsError::Stalled)), "{read:?}");
        let read = short_answer(&progress, whole(Bytes::from_static(b"done"))).await;
        assert_eq!(read.unwrap().as_deref(), Some(&b"done"[..]));
    }
}
