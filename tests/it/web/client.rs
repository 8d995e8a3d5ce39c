//! A small HTTP/1.1 client that shows everything as it came.

use std::net::SocketAddr;

use quire_testkit::{Response, WAIT_TIMEOUT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let extra: String = headers
        .iter()
        .map(|(n, v)| format!("{n}: {v}\r\n"))
        .collect();
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    let host = if headers.iter().any(|(name, _)| *name == "Host") {
        ""
    } else {
        "Host: quire.test\r\n"
    };
    format!("{method} {path} HTTP/1.1\r\n{host}{length}{extra}")
}

/// Sends one request and reads the answer to its end.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let answer = try_send(address, method, path, headers).await;
    answer.unwrap_or_else(|| panic!("{method} {path}: the connection was closed"))
}

/// Like [`send`], but returns `None` if the connection was closed before the head of an answer.
pub(crate) async fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<Response> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!(
            "{}Connection: close\r\n\r\n",
            request(method, path, headers)
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        if bytes.is_empty() {
            return None;
        }
        let answer = Response::parse(&bytes);
        Some(answer.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&bytes))))
    };
    timeout(WAIT_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| panic!("{method} {path} was not answered"))
}

/// One server-sent event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: serde_json::Value,
}

/// An open event stream.
pub(crate) struct Events {
    stream: TcpStream,
    raw: Vec<u8>,
    text: String,
    pub(crate) head: String,
    ended: bool,
}

impl Events {
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{}\r\n", request("GET", path, headers)).as_bytes())
            .await
            .unwrap();
        let mut events = Self {
            stream,
            raw: Vec::new(),
            text: String::new(),
            head: String::new(),
            ended: false,
        };
        while events.head.is_empty() {
            events.read().await;
        }
        events
    }

    async fn read(&mut self) {
        let mut buffer = [0u8; 16384];
        let n = timeout(WAIT_TIMEOUT, self.stream.read(&mut buffer))
            .await
            .unwrap_or_else(|_| panic!("no event came; so far: {}", self.text))
            .unwrap();
        self.ended |= n == 0;
        self.raw.extend_from_slice(&buffer[..n]);
        if self.head.is_empty() {
            let Some(end) = self.raw.windows(4).position(|w| w == b"\r\n\r\n") else {
                return;
            };
            self.head = String::from_utf8_lossy(&self.raw[..end]).into_owned();
            self.raw.drain(..end + 4);
        }
        while let Some(end) = self.raw.windows(2).position(|w| w == b"\r\n") {
            let size =
                usize::from_str_radix(std::str::from_utf8(&self.raw[..end]).unwrap(), 16).unwrap();
            if self.raw.len() < end + 4 + size {
                break;
            }
            self.ended |= size == 0;
            self.text
                .push_str(std::str::from_utf8(&self.raw[end + 2..end + 2 + size]).unwrap());
            self.raw.drain(..end + 4 + size);
        }
    }

    /// The next event; none when the server ended the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(": ").unwrap_or((line, "")) {
                        ("event", name) => event.name = name.to_owned(),
                        ("id", id) => event.id = Some(id.to_owned()),
                        ("data", data) => event.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                if !event.name.is_empty() {
                    return Some(event);
                }
                continue;
            }
            if self.ended {
                return None;
            }
            self.read().await;
        }
    }

    /// The next event of this name, passing over others.
    pub(crate) async fn named(&mut self, name: &str) -> Event {
        while let Some(event) = self.next().await {
            if event.name == name {
                return event;
            }
        }
        panic!("the stream ended without `{name}`");
    }
}
