//! Asks a child whether it still answers: a connection to its port, and the first bytes of its answer.
//!
//! ```text
//!          due                    answered, refused, or too late
//! Idle ───────────► Connected ─────────────────────────────────► Idle { until: now + interval }
//! ```
//!
//! Nothing in here waits, but for [`CONNECT_TIMEOUT`]: each call of [`Prober::advance`] takes the step that is possible now.
//! The next one is possible at [`Prober::next_step`], or once [`Prober::awaited_fd`] can be read. A child is
//! unresponsive only if it has answered before, so a program that listens nowhere is never taken for one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a connection within this machine may take: it is made at once, unless the queue of the child is full.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(20);

/// How often a child is asked, and how long an answer may take.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// How a child answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protocol {
    /// What is sent first; empty if the child sends first.
    pub(super) request: &'static [u8],
    /// How an answer begins.
    pub(super) answer: &'static [u8],
}

/// Both sides begin with their version. Without one from us, sshd would log an error.
pub(super) const SSH: Protocol = Protocol {
    request: b"SSH-2.0-quire_health\r\n",
    answer: b"SSH-",
};
/// The server answers from its start on, also while it migrates the database.
pub(super) const HTTP: Protocol = Protocol {
    request: b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    answer: b"HTTP",
};

#[derive(Debug)]
enum ProbeState {
    Idle {
        until: Instant,
    },
    /// The request is sent, and the answer is awaited.
    Connected {
        socket: TcpStream,
        since: Instant,
    },
}

/// The probes of one child.
#[derive(Debug)]
pub(super) struct Prober {
    protocol: Protocol,
    address: SocketAddr,
    interval: Duration,
    state: ProbeState,
    /// When it answered last, or was started; `None` if it has never answered.
    answered: Option<Instant>,
    /// The ports of the last probes on our side, so that what sshd logs about them is known.
    ports: [u16; 4],
}

impl Prober {
    pub(super) fn new(protocol: Protocol, listen: SocketAddr, interval: Duration) -> Self {
        Self {
            protocol,
            address: listen,
            interval,
            state: ProbeState::Idle {
                until: Instant::now() + interval,
            },
            answered: None,
            ports: [0; 4],
        }
    }

    /// Whether a line of the child's log is about the end of one of the last probes.
    pub(super) fn is_about_probe(&self, line: &[u8]) -> bool {
        // The kernel resets a connection that is closed before all of the answer was read.
        const STARTS: [&[u8]; 2] = [b"Connection closed by ", b"Connection reset by "];
        let Some(rest) = STARTS.iter().find_map(|start| line.strip_prefix(*start)) else {
            return false;
        };
        let mut words = rest.split(|b| *b == b' ');
        let words = [words.next(), words.next(), words.next()];
        let [Some(_), Some(b"port"), Some(port)] = words else {
            return false;
        };
        std::str::from_utf8(port)
            .ok()
            .and_then(|port| port.parse().ok())
            .is_some_and(|port: u16| port != 0 && self.ports.contains(&port))
    }

    /// Starts anew with another process of the child.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.state = ProbeState::Idle {
            until: now + self.interval,
        };
        self.answered = self.answered.map(|_| now);
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// For how long the child has not answered, if it has answered before.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        self.answered
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// When the next step is due.
    pub(super) fn next_step(&self) -> Instant {
        match &self.state {
            ProbeState::Idle { until } => *until,
            ProbeState::Connected { since, .. } => *since + self.interval,
        }
    }

    /// The connection whose answer is awaited.
    pub(super) fn awaited_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            ProbeState::Idle { .. } => None,
            ProbeState::Connected { socket, .. } => Some(socket.as_fd()),
        }
    }

    /// Takes the next step.
    pub(super) fn advance(&mut self, now: Instant) {
        let idle = ProbeState::Idle {
            until: now + self.interval,
        };
        match &mut self.state {
            ProbeState::Idle { until } if *until > now => {}
            ProbeState::Idle { .. } => {
                self.state = match self.connect() {
                    Ok(socket) => ProbeState::Connected { socket, since: now },
                    Err(_) => idle,
                };
            }
            ProbeState::Connected { socket, since } => {
                match read_answer(socket, self.protocol.answer) {
                    Ok(true) => {
                        self.answered = Some(now);
                        self.state = idle;
                    }
                    Ok(false) if now.saturating_duration_since(*since) < self.interval => {}
                    _ => self.state = idle,
                }
            }
        }
    }

    /// Connects, notes the port and sends the request.
    fn connect(&mut self) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT)?;
        socket.set_nonblocking(true)?;
        self.ports.rotate_right(1);
        self.ports[0] = socket.local_addr()?.port();
        // It fits into the buffer of a new connection.
        socket.write_all(self.protocol.request)?;
        Ok(socket)
    }
}

/// Reads what has been received; true if the child has answered as it should.
fn read_answer(socket: &mut TcpStream, expected: &[u8]) -> io::Result<bool> {
    let mut answer = [0; 4];
    match socket.read(&mut answer) {
        Ok(0) => Err(ErrorKind::ConnectionReset.into()),
        Ok(received) if answer[..received] == *expected => Ok(true),
        Ok(_) => Err(ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn prober(protocol: Protocol, listener: &TcpListener) -> Prober {
        Prober::new(protocol, listener.local_addr().unwrap(), INTERVAL)
    }

    /// Advances until the child has answered.
    fn until_answered(prober: &mut Prober, now: Instant) {
        while prober.answered.is_none() {
            prober.advance(now);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_child_that_answered_once_and_then_not_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut prober = prober(SSH, &listener);
        let start = Instant::now();
        prober.advance(start - INTERVAL / 2);
        assert!(
            matches!(prober.state, ProbeState::Idle { .. }),
            "not due yet"
        );
        let first = start + INTERVAL;
        prober.advance(first);
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(
            prober.silent_for(first + INTERVAL),
            Duration::ZERO,
            "it never answered"
        );
        peer.write_all(b"SSH-2.0-x\r\n").unwrap();
        until_answered(&mut prober, first);
        // The kernel goes on to accept connections for a process that hangs.
        let mut now = first;
        for _ in 0..12 {
            now += INTERVAL;
            prober.advance(now);
        }
        assert_eq!(prober.silent_for(now), INTERVAL * 12);
        prober.restarted(now);
        assert_eq!(prober.silent_for(now), Duration::ZERO);
    }

    #[test]
    fn a_server_is_asked_before_it_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut prober = prober(HTTP, &listener);
        let start = Instant::now();
        let now = start + INTERVAL * 2;
        prober.advance(now);
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = [0; 16];
        peer.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET /livez HTTP/");
        assert_eq!(prober.next_step(), now + INTERVAL);
        assert!(prober.awaited_fd().is_some());
        peer.write_all(b"HTTP/1.1 503 Service Unavailable\r\n")
            .unwrap();
        until_answered(&mut prober, now);
    }
}
