//! Connections: how many, how slow they may be, and how they end.
//!
//! A connection is dropped when its request head does not come in time or when it takes no
//! bytes of an answer for too long, so neither a slow client nor a dead one holds its place.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::client_address::ClientAddress;
use super::connection_limit::{CountedConnection, PerAddressLimit, TrustedProxies};

/// Connections that wait for their turn at most; more are closed at once.
const MAX_WAITING_CONNECTIONS: usize = 256;

/// What a connection may cost.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Connections at once; some more wait for their turn.
    pub connections: usize,
    /// Connections of one address; more are closed at once.
    pub per_address: usize,
    /// Addresses of which that does not hold.
    pub trusted_proxies: TrustedProxies,
    /// Connections beside those that are reserved for this machine, so that its health checks get through.
    pub reserved: usize,
    /// Time for a request's head, counted from when it could begin.
    pub head_time: Duration,
    /// Time without a byte of the answer being taken.
    pub write_time: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// Time for answers in progress once the shutdown has begun.
    pub grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_address: 256,
            trusted_proxies: TrustedProxies::default(),
            reserved: 8,
            head_time: Duration::from_secs(15),
            write_time: Duration::from_secs(30),
            head_bytes: 16 << 10,
            headers: 64,
            grace: Duration::from_secs(2),
        }
    }
}

/// Tells a stream that it has to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Shutdown(pub(super) CancellationToken);

/// Serves until `shutdown`: then live streams end at once, and other answers within the grace.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    limits: ConnectionLimits,
) -> io::Result<()> {
    let router = router.layer(Extension(Shutdown(shutdown.clone())));
    let places = ConnectionSlots::new(&limits);
    let connections = GracefulShutdown::new();
    let builder = builder(&limits);
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => (stream, from.ip()),
                Err(error) => {
                    // Out of file descriptors, or a client gone already: neither is a reason to stop.
                    tracing::warn!("web: accept: {error}");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let Some(turn) = places.turn(address) else {
            tracing::debug!(%address, "web: connection rejected: too many are open");
            continue;
        };
        // An event is small and should leave at once.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let proxies = limits.trusted_proxies.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let client = ClientAddress::of(address, request.headers(), &proxies);
            request.extensions_mut().insert(client);
            let answer = hyper::service::Service::call(&service, request);
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let (builder, watcher, shutdown, write_time) = (
            builder.clone(),
            connections.watcher(),
            shutdown.clone(),
            limits.write_time,
        );
        tokio::spawn(async move {
            let Some(_place) = shutdown.run_until_cancelled(turn.place()).await else {
                return;
            };
            let connection = builder.serve_connection(
                TokioIo::new(StallTimeoutStream::new(stream, write_time)),
                service,
            );
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!("web: connection: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.grace, connections.shutdown())
        .await
        .is_err()
    {
        tracing::debug!("web: closed the connections that were still open after the grace period");
    }
    Ok(())
}

/// The places that connections take.
struct ConnectionSlots {
    /// Those that are served.
    served: Arc<Semaphore>,
    /// Those that are served, and those that wait for it.
    held: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    peers: PerAddressLimit,
    trusted_proxies: TrustedProxies,
}

/// A connection that may wait for its place.
struct SlotWaiter {
    served: Arc<Semaphore>,
    /// One of the reserved places, where there was no other.
    reserved: Option<OwnedSemaphorePermit>,
    held: Option<OwnedSemaphorePermit>,
    peer: Option<CountedConnection>,
}

/// What a connection holds while it is served.
type ConnectionSlot = (
    Option<OwnedSemaphorePermit>,
    Option<OwnedSemaphorePermit>,
    Option<CountedConnection>,
);

impl ConnectionSlots {
    fn new(limits: &ConnectionLimits) -> Self {
        Self {
            served: Arc::new(Semaphore::new(limits.connections)),
            held: Arc::new(Semaphore::new(
                limits.connections.saturating_add(MAX_WAITING_CONNECTIONS),
            )),
            reserved: Arc::new(Semaphore::new(limits.reserved)),
            peers: PerAddressLimit::new(limits.per_address),
            trusted_proxies: limits.trusted_proxies.clone(),
        }
    }

    /// Lets a connection in, or not.
    fn turn(&self, address: IpAddr) -> Option<SlotWaiter> {
        let is_full = self.served.available_permits() == 0;
        let reserved = (is_full && address.to_canonical().is_loopback())
            .then(|| self.reserved.clone().try_acquire_owned().ok())
            .flatten();
        let peer = if self.trusted_proxies.holds(address) {
            None
        } else {
            Some(self.peers.count(address)?)
        };
        let held = if reserved.is_some() {
            None
        } else {
            Some(self.held.clone().try_acquire_owned().ok()?)
        };
        Some(SlotWaiter {
            served: self.served.clone(),
            reserved,
            held,
            peer,
        })
    }
}

impl SlotWaiter {
    /// Waits for a place.
    async fn place(self) -> ConnectionSlot {
        let place = match self.reserved {
            Some(reserved) => Some(reserved),
            // It is never closed.
            None => self.served.acquire_owned().await.ok(),
        };
        (place, self.held, self.peer)
    }
}

fn builder(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .max_headers(limits.headers)
        .pipeline_flush(false)
        .half_close(false);
    builder
}

/// A socket whose writes fail once the other side has taken nothing for a while.
struct StallTimeoutStream {
    stream: TcpStream,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl StallTimeoutStream {
    fn new(stream: TcpStream, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            deadline: Box::pin(sleep(limit)),
            waiting: false,
        }
    }

    /// Passes a finished write on, or starts and checks the clock of one that waits.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for StallTimeoutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for StallTimeoutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write_vectored(cx, slices);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}
