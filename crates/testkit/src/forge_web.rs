//! Requests to a forge's pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::forge::TestForge;
use crate::http::Response;
use crate::wait::WAIT_TIMEOUT;

impl TestForge {
    /// Asks the web; none where it does not answer.
    pub fn try_get(&self, path: &str) -> Option<Response> {
        self.try_get_as("localhost", path)
    }

    /// The same under this name for the host.
    pub fn try_get_as(&self, host: &str, path: &str) -> Option<Response> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        Response::parse(&bytes)
    }

    /// Sends a body with these headers.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        // A body that is too large is answered before it is read.
        let _ = stream.write_all((head + body).as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Response::parse(&bytes).unwrap_or_else(|| panic!("no answer to {path}: {}", self.log()))
    }

    /// Asks the web.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.try_get(path)
            .unwrap_or_else(|| panic!("no answer to {path}: {}", self.log()))
    }

    /// The server's health.
    #[track_caller]
    pub fn health(&self) -> serde_json::Value {
        self.get("/healthz").json()
    }

    /// Follows server-sent events to the event `end`; all data, by event name.
    #[track_caller]
    pub fn events(&self, path: &str) -> Vec<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .unwrap();
        let (mut events, mut name) = (Vec::new(), String::new());
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                events.push((name.clone(), data.to_owned()));
                if name == "end" {
                    return events;
                }
            }
        }
        panic!("the stream ended without an end: {events:?}")
    }
}
