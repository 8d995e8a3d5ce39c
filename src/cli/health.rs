//! `quire health`: asks the server on this machine how it is. Runs every few seconds, so it
//! brings no HTTP client and no runtime: one request over a plain socket, with a deadline.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::report::Failure;
use crate::paths::Paths;

/// How long the exchange may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const MAX_ANSWER: u64 = 256 << 10;
const DEFAULT_PORT: u16 = 3000;

/// Where the server listens, as `serve` wrote it down ([`Paths::endpoint`]).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Endpoint {
    /// To reach it from within.
    pub(super) listen: SocketAddr,
    /// What people type.
    pub(super) url: String,
}

/// The server's endpoint; by `QUIRE_HTTP_PORT` or the default port where it has written none.
pub(super) fn endpoint(paths: &Paths) -> Endpoint {
    let written = fs::read(paths.endpoint())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    written.unwrap_or_else(|| {
        let port = std::env::var("QUIRE_HTTP_PORT")
            .ok()
            .and_then(|port| port.parse().ok())
            .unwrap_or(DEFAULT_PORT);
        Endpoint {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            url: format!("http://localhost:{port}"),
        }
    })
}

/// The health page's answer.
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) code: u16,
    /// The JSON in it; null where there is none.
    pub(super) body: serde_json::Value,
}

impl Answer {
    /// The overall status in a word.
    pub(super) fn status(&self) -> &str {
        self.body
            .get("status")
            .and_then(serde_json::Value::as_str)
            .unwrap_or("unknown")
    }
}

/// Seconds that a probe of a healthy server may stay, set for the image's health check alone.
///
/// Docker's engine looks for the first time one interval after the start, so the interval is short;
/// and it starts the next probe one interval after the last one ended, so a probe that stays makes
/// them rare once the server has proved itself. A server that falls ill ends the wait at once.
const HOLD_VARIABLE: &str = "QUIRE_HEALTH_HOLD";
/// No longer than Docker waits for a probe.
const LONGEST_HOLD: Duration = Duration::from_secs(40);
/// A server this old has proved itself.
const PROVED_SECONDS: u64 = 60;

/// How long a start is waited for: a migration may take its time, and Docker's engine is not to hear of health before it is over.
const START: Duration = Duration::from_secs(30);
const STARTING: &str = "starting";

/// Asks, until the server has started, and while all is well asks again until the hold is over.
fn ask_patiently(listen: SocketAddr) -> io::Result<Answer> {
    let begun = Instant::now();
    let hold = std::env::var(HOLD_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs);
    let until = Instant::now() + hold.min(LONGEST_HOLD);
    loop {
        let answer = ask(listen)?;
        if answer.status() == STARTING && begun.elapsed() < START {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let proved = answer.code == 200
            && answer
                .body
                .get("uptime_seconds")
                .and_then(serde_json::Value::as_u64)
                > Some(PROVED_SECONDS);
        if !proved || Instant::now() >= until {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// `quire health`.
pub(super) fn health(paths: &Paths) -> ExitCode {
    let listen = endpoint(paths).listen;
    match ask_patiently(listen) {
        Ok(answer) if answer.code == 200 && answer.status() != STARTING => {
            let _ = writeln!(io::stdout(), "{}", word(answer.status()));
            ExitCode::SUCCESS
        }
        Ok(answer) => Failure::failed(format!(
            "the server at {listen} is {} (HTTP {})",
            word(answer.status()),
            answer.code
        ))
        .print(),
        Err(error) => {
            Failure::failed(format!("the server at {listen} does not answer: {error}")).print()
        }
    }
}

fn word(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// One `GET /healthz`.
pub(super) fn ask(listen: SocketAddr) -> io::Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&listen, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || text.len() as u64 > MAX_ANSWER {
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
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is no HTTP answer"))
}

fn parse(text: &[u8]) -> Option<Answer> {
    let end = text.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let code = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        code,
        body: serde_json::from_slice(&text[end + 4..]).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes.
    fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\nHost: "));
            let _ = stream.write_all(answer);
        });
        address
    }

    #[test]
    fn answers_are_read() {
        let fine = ask(server(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"status\":\"ok\"}",
        ))
        .unwrap();
        assert_eq!((fine.code, fine.status()), (200, "ok"));
        let down = ask(server(
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"down\"}",
        ))
        .unwrap();
        assert_eq!((down.code, down.status()), (503, "down"));
        let bare = ask(server(b"HTTP/1.1 200 OK\r\n\r\nfine")).unwrap();
        assert_eq!((bare.code, bare.status()), (200, "unknown"));
        for nonsense in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
        ] {
            assert!(ask(server(nonsense)).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn the_endpoint_is_what_serve_wrote_down() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        for text in ["", "{", r#"{"listen":"nowhere","url":"x"}"#] {
            fs::write(paths.endpoint(), text).unwrap();
            assert_eq!(endpoint(&paths).listen.ip().to_string(), "127.0.0.1");
        }
        fs::write(
            paths.endpoint(),
            r#"{"listen":"127.0.0.1:4000","url":"https://git.example.org"}"#,
        )
        .unwrap();
        let found = endpoint(&paths);
        assert_eq!(
            (found.listen.port(), found.url.as_str()),
            (4000, "https://git.example.org")
        );
    }
}
