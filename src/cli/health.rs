//! `quire health`: asks the server on this machine for its health. Docker runs it every few seconds,
//! so it uses neither an HTTP client nor a runtime: one request over a plain socket, with a deadline.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::error::CommandError;
use quire_types::base_url::{BaseUrl, UrlHost};
use quire_types::paths::Paths;
use quire_types::text::excerpt_name;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A longer response is not read.
const MAX_RESPONSE_BYTES: usize = 256 << 10;
const DEFAULT_PORT: u16 = 3000;

/// Where the server listens, as `quire serve` wrote it to [`Paths::server_address`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ServerAddress {
    /// The address by which this machine reaches it.
    pub(super) listen: SocketAddr,
    /// The address that links begin with.
    #[serde(flatten)]
    pub(super) base: BaseUrl,
}

/// The address of the server. If the server has written none, the port is `QUIRE_HTTP_PORT` or the
/// default one.
pub(super) fn server_address(paths: &Paths) -> ServerAddress {
    let written = fs::read(paths.server_address())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    written.unwrap_or_else(|| {
        let port = std::env::var("QUIRE_HTTP_PORT")
            .ok()
            .and_then(|port| port.parse().ok())
            .unwrap_or(DEFAULT_PORT);
        ServerAddress {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            base: BaseUrl {
                url: format!("http://localhost:{port}"),
                host: UrlHost::Unknown,
            },
        }
    })
}

/// The response of `/healthz`.
pub(super) struct HealthResponse {
    /// The HTTP status code.
    pub(super) code: u16,
    /// The JSON; null if there is none.
    pub(super) body: serde_json::Value,
}

impl HealthResponse {
    /// The overall status, such as `ok`.
    pub(super) fn status(&self) -> &str {
        self.body
            .get("status")
            .and_then(serde_json::Value::as_str)
            .unwrap_or("unknown")
    }
}

/// For how many seconds a probe of a healthy server holds back its answer. Only the health check of
/// the image sets it.
///
/// Docker probes for the first time one interval after the start, so the interval is short. It starts
/// the next probe one interval after the last one has ended, so that a probe that takes long makes
/// probes rare. A server that becomes unhealthy ends the hold immediately.
const HOLD_ENV: &str = "QUIRE_HEALTH_HOLD";
/// Less than the time-out of the image's health check.
const MAX_HOLD: Duration = Duration::from_secs(40);
/// A probe is held only if the server has been up for longer than this.
const STABLE_AFTER_SECS: u64 = 60;
const HOLD_INTERVAL: Duration = Duration::from_secs(1);

/// How long a start is waited for: Docker must not see `healthy` before a migration has ended.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
const STARTUP_INTERVAL: Duration = Duration::from_millis(50);
const STARTING: &str = "starting";

/// Polls until the server has started, and then for as long as it is healthy and the hold lasts.
fn poll_until_ready(listen: SocketAddr) -> io::Result<HealthResponse> {
    let started = Instant::now();
    let hold = std::env::var(HOLD_ENV)
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs);
    let hold_until = started + hold.min(MAX_HOLD);
    loop {
        let response = request_health(listen)?;
        if response.status() == STARTING && started.elapsed() < STARTUP_TIMEOUT {
            std::thread::sleep(STARTUP_INTERVAL);
            continue;
        }
        let stable = response.code == 200
            && response
                .body
                .get("uptime_seconds")
                .and_then(serde_json::Value::as_u64)
                > Some(STABLE_AFTER_SECS);
        if !stable || Instant::now() >= hold_until {
            return Ok(response);
        }
        std::thread::sleep(HOLD_INTERVAL);
    }
}

/// `quire health`.
pub(super) fn health(paths: &Paths) -> ExitCode {
    let listen = server_address(paths).listen;
    match poll_until_ready(listen) {
        Ok(response) if response.code == 200 && response.status() != STARTING => {
            let _ = writeln!(io::stdout(), "{}", excerpt_name(response.status()));
            ExitCode::SUCCESS
        }
        Ok(response) => CommandError::failed(format!(
            "the server at {listen} is {} (HTTP {})",
            excerpt_name(response.status()),
            response.code
        ))
        .print(),
        Err(error) => {
            CommandError::failed(format!("the server at {listen} does not respond: {error}"))
                .print()
        }
    }
}

/// Sends one `GET /healthz`.
pub(super) fn request_health(listen: SocketAddr) -> io::Result<HealthResponse> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&listen, REQUEST_TIMEOUT)?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || text.len() > MAX_RESPONSE_BYTES {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    parse(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP"))
}

fn parse(text: &[u8]) -> Option<HealthResponse> {
    let end = text.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let code = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(HealthResponse {
        code,
        body: serde_json::from_slice(&text[end + 4..]).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes.
    fn server(response: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\nHost: "));
            let _ = stream.write_all(response);
        });
        address
    }

    #[test]
    fn responses_are_parsed() {
        let fine = request_health(server(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":\"ok\"}",
        ))
        .unwrap();
        assert_eq!((fine.code, fine.status()), (200, "ok"));
        let down = request_health(server(
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"down\"}",
        ))
        .unwrap();
        assert_eq!((down.code, down.status()), (503, "down"));
        let bare = request_health(server(b"HTTP/1.1 200 OK\r\n\r\nfine")).unwrap();
        assert_eq!((bare.code, bare.status()), (200, "unknown"));
        for nonsense in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
        ] {
            assert!(request_health(server(nonsense)).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn the_address_is_the_one_that_serve_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        for text in ["", "{", r#"{"listen":"nowhere","url":"x"}"#] {
            fs::write(paths.server_address(), text).unwrap();
            assert_eq!(server_address(&paths).listen.ip().to_string(), "127.0.0.1");
        }
        fs::write(
            paths.server_address(),
            r#"{"listen":"127.0.0.1:4000","url":"https://git.example.org"}"#,
        )
        .unwrap();
        let found = server_address(&paths);
        assert_eq!(
            (found.listen.port(), found.base.url.as_str()),
            (4000, "https://git.example.org")
        );
    }
}
