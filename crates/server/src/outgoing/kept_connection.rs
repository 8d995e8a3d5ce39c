//! The connection to a server, which is kept for the next request: to connect costs more than a request, above all with TLS.

use std::error::Error;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{IoStream, connect, secure};
use super::connection_error::ConnectionError;
use crate::addresses::ReachableAddresses;
use quire_types::http_url::HttpUrl;

/// A connection that may be kept, for requests with bodies of this type. Dropping it closes it.
pub(crate) struct KeptConnection<B>(Option<OpenConnection<B>>);

impl<B> Default for KeptConnection<B> {
    fn default() -> Self {
        Self(None)
    }
}

/// A connection to the server of a URL.
pub(crate) struct OpenConnection<B> {
    origin: String,
    sender: SendRequest<B>,
    _task: AbortOnDropHandle<hyper::Result<()>>,
}

impl<B> KeptConnection<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Sends a request, over the kept connection if it is one to this server. Returns the connection as well, which is kept
    /// once the answer was read to its end ([`KeptConnection::keep`]).
    pub(crate) async fn send(
        &mut self,
        request: impl Fn() -> Request<B>,
        url: &HttpUrl,
        reachable: ReachableAddresses<'_>,
    ) -> Result<(OpenConnection<B>, Response<Incoming>), ConnectionError> {
        let kept = self.0.take().filter(|kept| kept.origin == url.origin());
        if let Some(mut kept) = kept
            && kept.sender.ready().await.is_ok()
            // A server may close a connection at any time that is not used, so this is no failure of the server. What it
            // has received all the same it receives again: a message with the same id, an object with the same content.
            && let Ok(response) = kept.sender.send_request(request()).await
        {
            return Ok((kept, response));
        }
        let mut opened = OpenConnection::open(url, reachable).await?;
        let response = opened.sender.send_request(request()).await?;
        Ok((opened, response))
    }

    pub(crate) fn keep(&mut self, connection: OpenConnection<B>) {
        self.0 = Some(connection);
    }
}

impl<B> OpenConnection<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    pub(crate) async fn open(
        url: &HttpUrl,
        reachable: ReachableAddresses<'_>,
    ) -> Result<Self, ConnectionError> {
        let stream = connect(url.host(), url.port(), reachable).await?;
        let stream: Box<dyn IoStream> = if url.is_tls() {
            secure(stream, url.host()).await?
        } else {
            Box::new(stream)
        };
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            origin: url.origin(),
            sender,
            _task: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }
}
