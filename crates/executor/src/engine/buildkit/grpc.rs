//! Calls of gRPC on connections of HTTP/2, as far as BuildKit needs them: messages without compression in frames with a head of
//! five bytes, and the status of a call in its trailers.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use prost::Message;

/// The head of a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// The longest message that is read. BuildKit itself sends none above 16 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// The status of a call that succeeded.
const OK: u32 = 0;

/// The status of a call of a method that is not served.
pub(super) const UNIMPLEMENTED: u32 = 12;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrpcError {
    /// The other side answered with another status than success.
    #[error("{message}")]
    Status { code: u32, message: String },
    /// The connection broke.
    #[error("the connection broke")]
    Connection(#[from] h2::Error),
    #[error("the stream ended early")]
    Ended,
    #[error("the answer cannot be read")]
    Decode(#[from] prost::DecodeError),
    #[error("a message has {0} bytes, which is too much")]
    TooLong(usize),
    /// The build's folder cannot be read.
    #[error("{0}")]
    Folder(String),
    #[error("a message is compressed, which was not asked for")]
    Compressed,
}

/// The messages that come in on one stream.
pub(super) struct IncomingMessages {
    stream: RecvStream,
    buffer: BytesMut,
}

impl IncomingMessages {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Returns the next message, `None` at the end of the stream.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, GrpcError> {
        loop {
            if let Some(body) = take_frame(&mut self.buffer)? {
                return Ok(Some(M::decode(body)?));
            }
            let Some(chunk) = self.stream.data().await else {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(GrpcError::Ended),
                };
            };
            let chunk = chunk?;
            self.stream.flow_control().release_capacity(chunk.len())?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// Reads the status of the call, once its messages have ended.
    async fn status(&mut self) -> Result<(), GrpcError> {
        match self.stream.trailers().await? {
            Some(trailers) => status_of(&trailers).unwrap_or(Ok(())),
            None => Err(GrpcError::Ended),
        }
    }
}

fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, GrpcError> {
    let Some((head, _)) = buffer.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let [compressed, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if compressed != 0 {
        return Err(GrpcError::Compressed);
    }
    if length > MAX_MESSAGE {
        return Err(GrpcError::TooLong(length));
    }
    if buffer.len() - HEAD < length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows, so encoding cannot fail.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// The status in headers or trailers, if they have one.
fn status_of(headers: &HeaderMap) -> Option<Result<(), GrpcError>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(u32::MAX);
    let message = text("grpc-message").unwrap_or_default();
    Some(match code {
        OK => Ok(()),
        code => Err(GrpcError::Status {
            code,
            message: percent_decode_str(message).decode_utf8_lossy().into_owned(),
        }),
    })
}

/// The messages that go out on one stream.
pub(super) struct OutgoingMessages(SendStream<Bytes>);

impl OutgoingMessages {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self(stream)
    }

    /// Sends a message, as fast as the other side takes it.
    pub(super) async fn send(&mut self, message: &impl Message) -> Result<(), GrpcError> {
        self.send_frame(message, false).await
    }

    async fn send_frame(&mut self, message: &impl Message, is_last: bool) -> Result<(), GrpcError> {
        let mut rest = frame(message);
        while !rest.is_empty() {
            self.0.reserve_capacity(rest.len());
            let granted = std::future::poll_fn(|context| self.0.poll_capacity(context)).await;
            let granted = granted.ok_or(GrpcError::Ended)??;
            let part = rest.split_to(granted.min(rest.len()));
            self.0.send_data(part, is_last && rest.is_empty())?;
        }
        Ok(())
    }

    /// Ends the stream with the status of the call.
    pub(super) fn finish(&mut self, code: u32, message: &str) -> Result<(), GrpcError> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        if let Ok(message) = HeaderValue::from_str(message)
            && code != OK
        {
            trailers.insert("grpc-message", message);
        }
        Ok(self.0.send_trailers(trailers)?)
    }

    /// Ends the stream of a call that succeeded.
    pub(super) fn finish_ok(&mut self) -> Result<(), GrpcError> {
        self.finish(OK, "")
    }
}

/// A connection on which quire makes calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    sender: h2::client::SendRequest<Bytes>,
}

impl Client {
    pub(super) fn new(sender: h2::client::SendRequest<Bytes>) -> Self {
        Self { sender }
    }

    /// Makes a call whose answer is a stream, with `metadata` as headers.
    pub(super) async fn open(
        &self,
        method: &'static str,
        metadata: &[(&'static str, &str)],
        message: &impl Message,
    ) -> Result<IncomingMessages, GrpcError> {
        let mut request = http::Request::post(format!("http://docker{method}"))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        // Neither a method nor an id of quire's making can be an invalid header.
        let request = request.body(()).map_err(|_| GrpcError::Ended)?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, stream) = sender.send_request(request, false)?;
        let mut outgoing = OutgoingMessages::new(stream);
        // The other side may answer, with an error for example, before it has read the message whole. Its answer counts.
        let sent = outgoing.send_frame(message, true).await;
        let (head, body) = match (response.await, sent) {
            (Ok(response), _) => response.into_parts(),
            (Err(_), Err(error)) => return Err(error),
            (Err(error), Ok(())) => return Err(error.into()),
        };
        match status_of(&head.headers) {
            Some(Err(error)) => Err(error),
            _ => Ok(IncomingMessages::new(body)),
        }
    }

    /// Makes a call with one answer.
    pub(super) async fn call<M: Message + Default>(
        &self,
        method: &'static str,
        metadata: &[(&'static str, &str)],
        message: &impl Message,
    ) -> Result<M, GrpcError> {
        let mut incoming = self.open(method, metadata, message).await?;
        let answer = incoming.next::<M>().await?;
        if answer.is_some() {
            while incoming.next::<M>().await?.is_some() {}
        }
        incoming.status().await?;
        answer.ok_or(GrpcError::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::buildkit::messages::health::CheckResponse;

    #[test]
    fn frames_are_taken_whole() {
        let sent = CheckResponse { status: 300 };
        let bytes = frame(&sent);
        let mut buffer = BytesMut::new();
        for byte in &bytes[..bytes.len() - 1] {
            buffer.put_u8(*byte);
            assert_eq!(take_frame(&mut buffer).unwrap(), None);
        }
        buffer.extend_from_slice(&bytes[bytes.len() - 1..]);
        let taken = take_frame(&mut buffer).unwrap().unwrap();
        assert_eq!(CheckResponse::decode(taken).unwrap(), sent);
        assert!(buffer.is_empty());
        let mut long = BytesMut::from(&[0, 255, 255, 255, 255][..]);
        assert!(matches!(take_frame(&mut long), Err(GrpcError::TooLong(_))));
        let mut compressed = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        let taken = take_frame(&mut compressed);
        assert!(matches!(taken, Err(GrpcError::Compressed)));
    }

    #[test]
    fn a_status_is_read_from_headers() {
        let mut headers = HeaderMap::new();
        assert!(status_of(&headers).is_none());
        headers.insert("grpc-status", HeaderValue::from(0));
        assert!(matches!(status_of(&headers), Some(Ok(()))));
        headers.insert("grpc-status", HeaderValue::from(2));
        headers.insert("grpc-message", HeaderValue::from_static("no%20%C3%A9"));
        let Some(Err(GrpcError::Status { code, message })) = status_of(&headers) else {
            panic!("no status");
        };
        assert_eq!((code, message.as_str()), (2, "no é"));
    }
}
