//! Connecting back to the appliance: the socket, which becomes standard input and output, and the
//! handshake.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use quire_step::{ChannelToken, HelperHandshake, REPLY_LENGTH, SecureChannel};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::{Zeroize, Zeroizing};

use crate::timer;

/// How long the appliance is tried for in total: the network of a task can come up after it.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one address is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the reply of the handshake is waited for.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause after all addresses have been tried.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How long a connection lives without a sign of the other side. A lease ends the helper earlier;
/// this is for a link without one.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The variables that make the helper connect.
pub struct ConnectVariables {
    /// `ADDRESS:PORT`, and more of them after commas.
    pub addresses: &'static [u8],
    /// The token as text. It is overwritten.
    pub token: &'static mut [u8],
}

/// Why the helper has no connection.
pub(crate) enum ConnectError {
    Addresses,
    Token,
    System(Errno),
    /// The last address that was tried, as it was given.
    Timeout(&'static str, AddressFailure),
    Rejected(&'static str),
}

/// Why an address did not lead to a channel.
pub(crate) enum AddressFailure {
    Unreachable(Errno),
    /// The connection ended, or nothing came, before the reply of the handshake.
    NoReply,
    /// The reply was not made with the token.
    Rejected,
}

/// Connects, and makes the socket the descriptors 0 and 1.
pub(crate) fn connect(variables: ConnectVariables) -> Result<SecureChannel, ConnectError> {
    let token = ChannelToken::from_hex(variables.token);
    variables.token.zeroize();
    let token = token.ok_or(ConnectError::Token)?;
    let addresses = parse_addresses(variables.addresses).ok_or(ConnectError::Addresses)?;
    let total = timer::start(TOTAL_TIMEOUT).map_err(ConnectError::System)?;
    loop {
        for (text, address) in &addresses {
            let error = match attempt(*address, &token, &total) {
                Ok((socket, channel)) => {
                    install(&socket).map_err(ConnectError::System)?;
                    return Ok(channel);
                }
                Err(AddressFailure::Rejected) => return Err(ConnectError::Rejected(text)),
                Err(error) => error,
            };
            if is_ready(&total) {
                return Err(ConnectError::Timeout(text, error));
            }
        }
        let pause = timer::start(RETRY_PAUSE).map_err(ConnectError::System)?;
        wait(None, [&pause, &total]);
    }
}

fn parse_addresses(text: &'static [u8]) -> Option<Vec<(&'static str, SocketAddr)>> {
    let text = core::str::from_utf8(text).ok()?;
    text.split(',')
        .map(|part| Some((part, part.parse().ok()?)))
        .collect()
}

fn attempt(
    address: SocketAddr,
    token: &ChannelToken,
    total: &OwnedFd,
) -> Result<(OwnedFd, SecureChannel), AddressFailure> {
    let socket = open(address, total).map_err(AddressFailure::Unreachable)?;
    let timer = timer::start(REPLY_TIMEOUT).map_err(AddressFailure::Unreachable)?;
    // A key of its own for each attempt: an appliance that has seen this message takes it only once.
    let mut random = Zeroizing::new([0; 32]);
    match getrandom(random.as_mut_slice(), GetRandomFlags::empty()) {
        Ok(32) => {}
        Ok(_) => return Err(AddressFailure::Unreachable(Errno::IO)),
        Err(errno) => return Err(AddressFailure::Unreachable(errno)),
    }
    let (handshake, message) =
        HelperHandshake::begin(token, *random).map_err(|_| AddressFailure::Rejected)?;
    // A new socket takes so few bytes at once.
    if rustix::io::write(&socket, &message) != Ok(message.len()) {
        return Err(AddressFailure::NoReply);
    }
    let reply = read_reply(&socket, [&timer, total]).ok_or(AddressFailure::NoReply)?;
    let channel = handshake
        .finish(&reply)
        .map_err(|_| AddressFailure::Rejected)?;
    Ok((socket, channel))
}

/// A connected socket that does not block.
fn open(address: SocketAddr, total: &OwnedFd) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let timer = timer::start(CONNECT_TIMEOUT)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            if !wait(Some((socket.as_fd(), PollFlags::OUT)), [&timer, total]) {
                return Err(Errno::TIMEDOUT);
            }
            sockopt::socket_error(&socket)??;
        }
        Err(errno) => return Err(errno),
    }
    // Frames are small, and their answers are waited for.
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, SILENCE_TIMEOUT / 2)?;
    sockopt::set_tcp_keepintvl(&socket, SILENCE_TIMEOUT / 6)?;
    let silence = u32::try_from(SILENCE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, silence)?;
    Ok(socket)
}

fn read_reply(socket: &OwnedFd, timers: [&OwnedFd; 2]) -> Option<[u8; REPLY_LENGTH]> {
    let mut reply = [0; REPLY_LENGTH];
    let mut length = 0;
    while length < reply.len() {
        if !wait(Some((socket.as_fd(), PollFlags::IN)), timers) {
            return None;
        }
        match rustix::io::read(socket, reply.get_mut(length..)?) {
            Ok(0) => return None,
            Ok(count) => length += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
    Some(reply)
}

/// Waits for a descriptor until one of the timers ends. Returns whether the descriptor is ready.
fn wait(fd: Option<(BorrowedFd<'_>, PollFlags)>, timers: [&OwnedFd; 2]) -> bool {
    let mut polled: Vec<PollFd<'_>> = timers
        .iter()
        .map(|timer| PollFd::new(*timer, PollFlags::IN))
        .collect();
    polled.extend(fd.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
    polled
        .get(timers.len())
        .is_some_and(|polled| !polled.revents().is_empty())
}

fn is_ready(timer: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(timer, PollFlags::IN)];
    poll(&mut polled, Some(&rustix::event::Timespec::default())) == Ok(1)
}

fn install(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(socket)?;
    rustix::stdio::dup2_stdout(socket)
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses => f.write_str("QUIRE_CONNECT is not a list of ADDRESS:PORT"),
            Self::Token => f.write_str("QUIRE_TOKEN is not a token"),
            Self::System(errno) => write!(f, "the helper cannot connect: {errno}"),
            Self::Timeout(address, error) => {
                let seconds = TOTAL_TIMEOUT.as_secs();
                write!(f, "no connection within {seconds} s; {address}: {error}")
            }
            Self::Rejected(address) => {
                write!(f, "{address}: {}", AddressFailure::Rejected)
            }
        }
    }
}

impl fmt::Display for AddressFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(Errno::CONNREFUSED) => f.write_str("the connection was refused"),
            Self::Unreachable(Errno::NETUNREACH | Errno::HOSTUNREACH) => {
                f.write_str("the network is unreachable")
            }
            Self::Unreachable(Errno::TIMEDOUT) => f.write_str("the connection timed out"),
            Self::Unreachable(errno) => write!(f, "{errno}"),
            Self::NoReply => f.write_str("the handshake was not answered"),
            Self::Rejected => f.write_str("the answer to the handshake does not match the token"),
        }
    }
}
