//! A registry of one small image, as far as an engine asks when it pulls: on loopback, without a library.

#![expect(clippy::disallowed_methods, reason = "tests start real programs")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// What it serves: answers to paths that end so.
struct Parts {
    manifest: String,
    config: String,
    layer: Vec<u8>,
}

pub(crate) struct Registry {
    port: u16,
    /// `None` once it is stopped.
    parts: Arc<Mutex<Option<Arc<Parts>>>>,
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// `sleep` and what it needs: all that a container has to hold.
fn layer() -> Vec<u8> {
    let needed = Command::new("ldd").arg("/bin/sleep").output().unwrap();
    let listed = String::from_utf8_lossy(&needed.stdout).into_owned();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned);
    let mut builder = tar::Builder::new(Vec::new());
    for path in libraries.chain(["/bin/sleep".to_owned()]) {
        let content = fs::read(&path).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder
            .append_data(
                &mut header,
                path.trim_start_matches('/'),
                content.as_slice(),
            )
            .unwrap();
    }
    builder.into_inner().unwrap()
}

impl Parts {
    /// Those of an image that is like no other.
    fn new() -> Arc<Self> {
        let layer = layer();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "2001-02-03T04:05:06Z",
            "config": {"Env": ["PATH=/bin"], "Labels": {"test": uuid::Uuid::now_v7().to_string()}},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(config.as_bytes())},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer.len(), "digest": digest(&layer)}],
        });
        Arc::new(Self {
            manifest: manifest.to_string(),
            config,
            layer,
        })
    }
}

impl Registry {
    /// One whose image is like no other's.
    pub(crate) fn start() -> Self {
        let parts = Arc::new(Mutex::new(Some(Parts::new())));
        let served = Arc::clone(&parts);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let parts = served.lock().unwrap().clone();
                std::thread::spawn(move || parts.map(|parts| answer(&stream, &parts)));
            }
        });
        Self { port, parts }
    }

    /// Has another image under all names from now on.
    pub(crate) fn publish(&self) {
        *self.parts.lock().unwrap() = Some(Parts::new());
    }

    /// Closes each connection from now on.
    pub(crate) fn stop(&self) {
        *self.parts.lock().unwrap() = None;
    }

    /// The name under which its image is pulled, whatever the repository and tag.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

/// One request; an engine first tries TLS, which gets no answer.
fn answer(mut stream: &TcpStream, parts: &Parts) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 || !line.is_ascii() {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
        if line == b"\r\n" {
            break;
        }
        head.push(String::from_utf8_lossy(&line).into_owned());
    }
    let mut words = head.first().map_or("", |line| line).split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let manifest = "application/vnd.docker.distribution.manifest.v2+json";
    let (kind, body): (&str, &[u8]) = match path {
        "/v2/" => ("application/json", b"{}"),
        path if path.contains("/manifests/") => (manifest, parts.manifest.as_bytes()),
        path if path.ends_with(&digest(parts.config.as_bytes())) => {
            ("application/octet-stream", parts.config.as_bytes())
        }
        path if path.contains("/blobs/") => ("application/octet-stream", &parts.layer),
        _ => return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    };
    let length = body.len();
    let digest = digest(body);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {digest}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    if method == "HEAD" {
        Ok(())
    } else {
        stream.write_all(body)
    }
}
