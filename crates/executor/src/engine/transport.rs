//! The transport under bollard: a connection of its own for each request, which ends once it has received more than an
//! answer, or a piece of it, may have.
//!
//! bollard reads an answer whole before it parses it, and a stream line by line or frame by frame. An engine, or what a
//! registry makes it repeat, must not fill the server's memory with it.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// The most bytes of an answer that is read whole. A list has some kilobytes for each container.
const MAX_ANSWER: u64 = 32 << 20;

/// The most bytes of a piece of a stream: a line of JSON, or a frame.
const MAX_PIECE: u64 = 4 << 20;

/// The credentials for a registry, which bollard writes in the common alphabet of base64.
const REGISTRY_AUTH: &str = "x-registry-auth";

/// The value of a limit that was exceeded.
const EXCEEDED: u64 = u64::MAX;

/// How many bytes of an answer may still be received. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct AnswerLimit(Arc<AtomicU64>);

impl AnswerLimit {
    fn of(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// The limit of a stream of which each piece renews it.
    pub(super) fn of_pieces() -> Self {
        Self::of(MAX_PIECE)
    }

    /// Returns a client whose requests have this limit in place of one of their own.
    pub(super) fn attach(&self, docker: Docker) -> Docker {
        let limit = self.clone();
        docker.with_request_modifier(move |request| limit.apply(request))
    }

    pub(super) fn apply(&self, mut request: BollardRequest) -> BollardRequest {
        request.extensions_mut().insert(self.clone());
        request
    }

    /// A piece of a stream was received whole: the next one may be as long.
    pub(super) fn renew(&self) {
        self.0.store(MAX_PIECE, Ordering::Relaxed);
    }

    /// Whether more was received than may be.
    pub(super) fn is_exceeded(&self) -> bool {
        self.0.load(Ordering::Relaxed) == EXCEEDED
    }

    /// Counts received bytes and returns whether they are within the limit.
    fn count(&self, bytes: u64) -> bool {
        let remaining = self.0.load(Ordering::Relaxed).checked_sub(bytes);
        self.0
            .store(remaining.unwrap_or(EXCEEDED), Ordering::Relaxed);
        remaining.is_some()
    }
}

/// An answer was longer than [`MAX_ANSWER`], or a piece of a stream than [`MAX_PIECE`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is too long: a whole one has at most {} MiB, a piece of one {} MiB", MAX_ANSWER >> 20, MAX_PIECE >> 20)]
pub(super) struct AnswerTooLong;

/// A response, or why there is none.
type Answer = Result<Response<Incoming>, bollard::errors::Error>;

/// Returns the function that sends requests to the engine's socket at `path`.
pub(super) fn socket_transport(
    path: PathBuf,
) -> impl Fn(BollardRequest) -> BoxFuture<'static, Answer> + Send + Sync + 'static {
    let path: Arc<Path> = path.into();
    move |request| {
        let path = Arc::clone(&path);
        async move { send(&path, request).await }.boxed()
    }
}

async fn send(path: &Path, mut request: BollardRequest) -> Answer {
    let limit = request.extensions_mut().remove::<AnswerLimit>();
    let stream = CappedStream {
        stream: UnixStream::connect(path).await?,
        limit: limit.unwrap_or_else(|| AnswerLimit::of(MAX_ANSWER)),
    };
    // A connection takes the path alone, and the host in a header.
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = target.into();
    }
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("docker"));
    if let Some(login) = request.headers_mut().get_mut(REGISTRY_AUTH) {
        *login = in_url_alphabet(login);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body, with the upgraded stream, or if the answer is no longer waited for.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// The same base64 text in the alphabet of URLs, which is the only one that the engine decodes.
fn in_url_alphabet(base64: &HeaderValue) -> HeaderValue {
    let digit = |digit: &u8| match digit {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    };
    let text: Vec<u8> = base64.as_bytes().iter().map(digit).collect();
    let mut value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| base64.clone());
    value.set_sensitive(true);
    value
}

/// Gets the answer to a request without a body. Without a version in its path the engine answers in its newest.
pub(super) async fn get(path: PathBuf, target: String) -> Result<Bytes, bollard::errors::Error> {
    let request = hyper::Request::get(target)
        .body(bollard::body_full(Bytes::new()))
        .map_err(std::io::Error::other)?;
    let response = send(&path, request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    Err(bollard::errors::Error::DockerResponseServerError {
        status_code: status.as_u16(),
        message: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Why a connection was not turned into one of another protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error("cannot connect")]
    Connect(#[from] std::io::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the engine answered with the status {0}")]
    Refused(hyper::StatusCode),
}

/// Asks the engine to speak HTTP/2 on a new connection, as the engine's own protocol of sessions does.
pub(super) async fn upgrade(
    path: &Path,
    target: &'static str,
    headers: &[(&'static str, &str)],
) -> Result<TokioIo<hyper::upgrade::Upgraded>, UpgradeError> {
    let stream = UnixStream::connect(path).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let mut request = hyper::Request::post(target)
        .header(HOST, "docker")
        .header("Connection", "Upgrade")
        .header("Upgrade", "h2c");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(bollard::body_full(Bytes::new()))
        .map_err(std::io::Error::other)?;
    let response = sender.send_request(request).await?;
    if response.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Refused(response.status()));
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await?))
}

/// A stream from which a limited number of bytes can be read.
struct CappedStream {
    stream: UnixStream,
    limit: AnswerLimit,
}

impl AsyncRead for CappedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = (buffer.filled().len() - before) as u64;
        if self.limit.count(count) {
            read
        } else {
            Poll::Ready(Err(std::io::Error::other(AnswerTooLong)))
        }
    }
}

impl AsyncWrite for CappedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Whether an error says that an answer was too long.
pub(super) fn is_answer_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<AnswerTooLong>()) {
            return true;
        }
        next = error.source();
    }
    false
}
