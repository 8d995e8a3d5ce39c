//! A receiver of HTTP requests that answers as a test plans it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::wait::wait_for;

/// What a receiver does with one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Answers with this status line and further headers, each ended by `\r\n`, and this body.
    Status(String, String),
    /// Closes the connection in the middle of the answer.
    Close,
    /// Holds the connection open and says nothing.
    Hang,
}

impl Answer {
    /// An answer without further headers.
    pub fn status(status: &str, body: &str) -> Self {
        Self::Status(format!("{status}\r\n"), body.to_owned())
    }
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl ReceivedRequest {
    /// A header, whose name is in lower case.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// A receiver on loopback. It answers `200` to what no answer is planned for.
#[derive(Debug)]
pub struct HttpReceiver {
    pub port: u16,
    scheme: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<ReceivedRequest>>,
    answers: Mutex<VecDeque<Answer>>,
    held: Mutex<Vec<Box<dyn Connection>>>,
    ended: AtomicBool,
    connections: AtomicUsize,
}

/// A connection with or without TLS.
trait Connection: Read + Write + Send + std::fmt::Debug {}

impl<T: Read + Write + Send + std::fmt::Debug> Connection for T {}

impl HttpReceiver {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Listens on this port; 0 stands for any that is free.
    pub fn start_on(port: u16) -> Self {
        Self::listen(port, None)
    }

    /// Speaks TLS. `certificate` is a file with a certificate and its key.
    pub fn start_tls(certificate: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::listen(0, Some(Arc::new(config)))
    }

    fn listen(port: u16, tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_thread.clone();
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => shared.serve(Box::new(stream)),
                    Some(config) => {
                        let tls = ServerConnection::new(config).unwrap();
                        shared.serve(Box::new(StreamOwned::new(tls, stream)));
                    }
                });
            }
        });
        Self {
            port,
            scheme,
            shared,
            thread: Some(thread),
        }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Plans the answers to the next requests.
    pub fn plan(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.answers.lock().unwrap().extend(answers);
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until this many requests were received, and returns all.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<ReceivedRequest> {
        wait_for(&format!("{count} requests"), || {
            let received = self.shared.requests.lock().unwrap().len();
            (received >= count).then_some(())
        });
        self.requests()
    }
}

impl Shared {
    /// Answers the requests of a connection until the client closes it.
    fn serve(&self, mut stream: Box<dyn Connection>) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        while let Some(request) = read_request(&mut stream) {
            self.requests.lock().unwrap().push(request);
            let answer = self.answers.lock().unwrap().pop_front();
            let written = match answer.unwrap_or_else(|| Answer::status("200 OK", "")) {
                Answer::Status(head, body) => stream.write_all(
                    format!(
                        "HTTP/1.1 {head}Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .as_bytes(),
                ),
                Answer::Close => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConte");
                    return;
                }
                Answer::Hang => {
                    self.held.lock().unwrap().push(stream);
                    return;
                }
            };
            if written.is_err() {
                return;
            }
        }
    }
}

/// Reads one request; `None` if the client closes before its end.
fn read_request(stream: &mut dyn Read) -> Option<ReceivedRequest> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(ReceivedRequest {
        method,
        path,
        headers,
        body: String::from_utf8(body).ok()?,
    })
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.held.lock().unwrap().clear();
        // Ends the wait for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
