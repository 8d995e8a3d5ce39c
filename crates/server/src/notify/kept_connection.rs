//! The connection to a receiver, which is kept for the next request: to connect costs more than a request, above all with TLS.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{IoStream, connect, secure};
use super::delivery_error::DeliveryError;
use quire_types::http_url::HttpUrl;
use quire_types::network::Network;

/// A connection that may be kept. Dropping it closes it.
#[derive(Default)]
pub(super) struct KeptConnection(Option<OpenConnection>);

/// A connection to the receiver of a URL.
pub(super) struct OpenConnection {
    origin: String,
    sender: SendRequest<Full<Bytes>>,
    _task: AbortOnDropHandle<hyper::Result<()>>,
}

impl KeptConnection {
    /// Sends a request, over the kept connection if it is one to this receiver. Returns the connection as well, which is kept
    /// once the answer was read to its end ([`KeptConnection::keep`]).
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        url: &HttpUrl,
        allowed: &[Network],
    ) -> Result<(OpenConnection, Response<Incoming>), DeliveryError> {
        let kept = self.0.take().filter(|kept| kept.origin == url.origin());
        if let Some(mut kept) = kept
            && kept.sender.ready().await.is_ok()
            // A receiver may close a connection at any time that is not used, so this is no failure of the receiver. What it
            // has received all the same it receives again with the same id.
            && let Ok(response) = kept.sender.send_request(request.clone()).await
        {
            return Ok((kept, response));
        }
        let mut opened = OpenConnection::open(url, allowed).await?;
        let response = opened.sender.send_request(request).await?;
        Ok((opened, response))
    }

    pub(super) fn keep(&mut self, connection: OpenConnection) {
        self.0 = Some(connection);
    }
}

impl OpenConnection {
    pub(super) async fn open(url: &HttpUrl, allowed: &[Network]) -> Result<Self, DeliveryError> {
        let stream = connect(url.host(), url.port(), allowed).await?;
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
