//! A connection to a mail server, as lettre takes it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Bytes;
use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::outgoing::IoStream;

/// A connection whose reader first gets the greeting of the server, if that was read already: after STARTTLS a server
/// does not repeat it.
#[derive(Debug)]
pub(super) struct GreetedStream {
    greeting: Bytes,
    stream: Box<dyn IoStream>,
}

impl GreetedStream {
    /// A connection whose greeting has not been read yet.
    pub(super) fn new(stream: Box<dyn IoStream>) -> Self {
        Self::after_greeting(Bytes::new(), stream)
    }

    pub(super) fn after_greeting(greeting: Bytes, stream: Box<dyn IoStream>) -> Self {
        Self { greeting, stream }
    }
}

impl AsyncRead for GreetedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let size = self.greeting.len().min(buffer.remaining());
        buffer.put_slice(&self.greeting.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GreetedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for GreetedStream {
    /// lettre asks for it only to show it in its own logs, which are not compiled in.
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::UNSPECIFIED, 0).into())
    }
}
