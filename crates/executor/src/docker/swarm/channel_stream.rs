//! The two directions of an encrypted connection, as a link takes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use quire_step::{ChannelReceiver, ChannelSender, MAX_RECORD, SecureChannel};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::lease::HelperContact;
use crate::error::ExecutorError;
use crate::link::HelperStreams;

/// How much is read at once.
const READ_BUFFER: usize = 256 << 10;

/// How much is encrypted before it is written: one record with its tag.
const MAX_PIECE: usize = MAX_RECORD - 16;

/// The connection of a helper that has proven who it is.
pub(super) struct HelperConnection {
    pub(super) socket: TcpStream,
    pub(super) channel: SecureChannel,
    /// What it has sent so far.
    pub(super) received: Vec<u8>,
}

impl HelperConnection {
    /// The streams of the connection. It is closed with the first of: the end of the connection, an error,
    /// and a request to close it.
    pub(super) fn into_streams(self, contact: Arc<HelperContact>) -> HelperStreams {
        let (input, output) = self.socket.into_split();
        let SecureChannel { sender, receiver } = self.channel;
        let reader = DecryptingReader {
            socket: input,
            receiver,
            contact,
            buffer: vec![0; READ_BUFFER],
        };
        HelperStreams {
            input: Box::pin(EncryptingWriter {
                socket: output,
                sender,
                sealed: Vec::new(),
                written: 0,
            }),
            output: reader.into_stream(self.received),
        }
    }
}

struct DecryptingReader {
    socket: OwnedReadHalf,
    receiver: ChannelReceiver,
    contact: Arc<HelperContact>,
    buffer: Vec<u8>,
}

impl DecryptingReader {
    fn into_stream(self, received: Vec<u8>) -> BoxStream<'static, Result<Bytes, ExecutorError>> {
        let first = stream::iter([Ok(Bytes::from(received))]);
        let rest = stream::unfold(self, |mut reader| async move {
            let plain = reader.read().await;
            if plain.is_none() {
                reader.contact.close();
            }
            Some((Ok(plain?), reader))
        });
        first.chain(rest).boxed()
    }

    fn closed_by_helper(&self) -> Option<Bytes> {
        self.contact.close_by_helper();
        None
    }

    /// Returns what the next records hold; `None` at the end of the connection.
    async fn read(&mut self) -> Option<Bytes> {
        let mut plain = Vec::new();
        while plain.is_empty() {
            let reading = self.socket.read(&mut self.buffer);
            let count = self.contact.closing.run_until_cancelled(reading).await?;
            let count = match count {
                Ok(0) => return self.closed_by_helper(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return self.closed_by_helper();
                }
                // The network has failed, which says nothing about the helper.
                Err(_) => return None,
            };
            self.contact.hear();
            let received = self.buffer.get(..count)?;
            // A record that is not authentic ends the connection, because later ones may be altered as well.
            self.receiver.open(received, &mut plain).ok()?;
        }
        Some(Bytes::from(plain))
    }
}

/// Encrypts what is written.
struct EncryptingWriter {
    socket: OwnedWriteHalf,
    sender: ChannelSender,
    /// Records of which not everything is written.
    sealed: Vec<u8>,
    written: usize,
}

impl EncryptingWriter {
    fn poll_sealed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .sealed
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.sealed.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EncryptingWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        plain: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sealed(context))?;
        let piece = plain.get(..MAX_PIECE).unwrap_or(plain);
        let Self { sender, sealed, .. } = &mut *self;
        sender.seal(piece, sealed).map_err(io::Error::other)?;
        // What cannot be written at once is written before the next piece, or by a flush.
        if let Poll::Ready(Err(error)) = self.poll_sealed(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sealed(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sealed(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
