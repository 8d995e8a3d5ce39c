//! Where helpers connect back: one port, on which a connection is of no use without a token.
//!
//! A connection that does not prove within a moment that its helper has a token is dropped without a
//! word. A token is used up when the first bytes of its helper have been decrypted, not before: someone who
//! has seen a first message on the network, and repeats it, can neither read nor write the channel, and keeps
//! the helper from nothing.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quire_step::{
    ChannelToken, FIRST_MESSAGE_LENGTH, SecureChannel, TOKEN_BYTES, answer_helper, first_message_id,
};
use quire_types::callback_address::CallbackAddress;
use quire_types::token::random_bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::AbortHandle;
use tokio_util::task::AbortOnDropHandle;

use super::channel_stream::HelperConnection;
use crate::error::ExecutorError;

/// How long a connection may take to prove that it is a helper's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many connections may be without a proof at the same time.
const MAX_UNPROVEN: usize = 64;

/// The pause after an error of accepting, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many addresses of the callback's name are tried.
const MAX_ADDRESSES: usize = 8;

/// Receives the connections of helpers. Cheap to clone.
#[derive(Clone)]
pub(super) struct CallbackServer {
    address: Option<CallbackAddress>,
    expected: ExpectedHelpers,
    listener: Arc<OnceCell<AbortOnDropHandle<()>>>,
}

/// The helpers that have not connected yet, by the ids of their tokens.
#[derive(Clone, Default)]
struct ExpectedHelpers(Arc<Mutex<HashMap<[u8; 16], ExpectedHelper>>>);

struct ExpectedHelper {
    token: ChannelToken,
    connected: oneshot::Sender<HelperConnection>,
}

/// One helper that is expected. When this is dropped, its token is of no use any more.
pub(super) struct Callback {
    pub(super) token: ChannelToken,
    connected: oneshot::Receiver<HelperConnection>,
    expected: ExpectedHelpers,
}

impl Callback {
    /// Waits for the helper.
    pub(super) async fn connection(&mut self) -> Option<HelperConnection> {
        (&mut self.connected).await.ok()
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.expected.lock().remove(&self.token.id());
    }
}

impl ExpectedHelpers {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], ExpectedHelper>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, id: &[u8; 16]) -> Option<ChannelToken> {
        Some(self.lock().get(id)?.token.clone())
    }

    /// Hands the connection to the one who expects it, unless another connection with this token was faster.
    fn deliver(&self, id: &[u8; 16], connection: HelperConnection) {
        if let Some(expected) = self.lock().remove(id) {
            let _ = expected.connected.send(connection);
        }
    }
}

impl CallbackServer {
    pub(super) fn new(address: Option<CallbackAddress>) -> Self {
        Self {
            address,
            expected: ExpectedHelpers::default(),
            listener: Arc::default(),
        }
    }

    /// Where nodes reach this process.
    pub(super) fn address(&self) -> Result<&CallbackAddress, ExecutorError> {
        self.address.as_ref().ok_or(ExecutorError::NoCallback)
    }

    /// Listens from now on, unless it does already.
    pub(super) async fn listen(&self) -> Result<(), ExecutorError> {
        let port = self.address()?.port;
        let listening = self.listener.get_or_try_init(|| async {
            let listener = bind(port).await?;
            let accepting = accept(listener, self.expected.clone());
            std::io::Result::Ok(AbortOnDropHandle::new(tokio::spawn(accepting)))
        });
        match listening.await {
            Ok(_) => Ok(()),
            Err(error) => Err(ExecutorError::caused_by(
                "listen on the port of `:ci {:callback}`",
                &error,
            )),
        }
    }

    /// Expects a helper.
    pub(super) fn expect(&self) -> Result<Callback, ExecutorError> {
        let random: [u8; TOKEN_BYTES] = random_bytes()
            .map_err(|error| ExecutorError::caused_by("make a token for the helper", &error))?;
        let token = ChannelToken::from_random(&random);
        let (sender, receiver) = oneshot::channel();
        let expected = ExpectedHelper {
            token: token.clone(),
            connected: sender,
        };
        self.expected.lock().insert(token.id(), expected);
        Ok(Callback {
            token,
            connected: receiver,
            expected: self.expected.clone(),
        })
    }

    /// The addresses of the appliance as nodes reach it, in the form that the helper understands. The helper
    /// resolves no names.
    pub(super) async fn resolve(&self) -> Result<String, ExecutorError> {
        let CallbackAddress { host, port } = self.address()?;
        let found = lookup_host((host.as_str(), *port)).await;
        let found = found.map_err(|error| {
            ExecutorError::caused_by("resolve the host of `:ci {:callback}`", &error)
        })?;
        let addresses: Vec<_> = found
            .take(MAX_ADDRESSES)
            .map(|address| address.to_string())
            .collect();
        Ok(addresses.join(","))
    }
}

/// Listens on all addresses, of both families where the system has both.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await
        }
        bound => bound,
    }
}

async fn accept(listener: TcpListener, expected: ExpectedHelpers) {
    let mut unproven = VecDeque::<AbortHandle>::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        unproven.retain(|connection| !connection.is_finished());
        // The oldest goes: a helper needs one round trip, and what keeps silent does not hold the place of another.
        if unproven.len() >= MAX_UNPROVEN
            && let Some(oldest) = unproven.pop_front()
        {
            oldest.abort();
        }
        let expected = expected.clone();
        let proving = tokio::spawn(async move {
            let proof = tokio::time::timeout(HANDSHAKE_TIMEOUT, prove(socket, &expected));
            if let Ok(Some((id, connection))) = proof.await {
                expected.deliver(&id, connection);
            }
        });
        unproven.push_back(proving.abort_handle());
    }
}

/// Makes the handshake, and reads the first bytes of the helper.
async fn prove(
    mut socket: TcpStream,
    expected: &ExpectedHelpers,
) -> Option<([u8; 16], HelperConnection)> {
    let mut message = [0; FIRST_MESSAGE_LENGTH];
    socket.read_exact(&mut message).await.ok()?;
    let id = first_message_id(&message);
    let token = expected.token(&id)?;
    let random = random_bytes().ok()?;
    let (reply, channel) = answer_helper(&token, &message, random).ok()?;
    socket.set_nodelay(true).ok()?;
    // At its end the connection is reset: nothing that waits to be sent arrives after the helper counts as
    // lost.
    socket.set_zero_linger().ok()?;
    socket.write_all(&reply).await.ok()?;
    let SecureChannel {
        sender,
        mut receiver,
    } = channel;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while received.is_empty() {
        let count = socket.read(&mut buffer).await.ok()?;
        receiver
            .open(
                buffer.get(..count).filter(|read| !read.is_empty())?,
                &mut received,
            )
            .ok()?;
    }
    let channel = SecureChannel { sender, receiver };
    let connection = HelperConnection {
        socket,
        channel,
        received,
    };
    Some((id, connection))
}
