//! The connection to one engine: opened when first needed, diagnosed when it fails.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OnceCell};

use super::error::DockerError;
use super::timeouts::{CLIENT_TIMEOUT, Timeouts};
use super::transport::{get, socket_transport};

/// The oldest API that has everything quire uses: that of Engine 20.10.
const MIN_API: (usize, usize) = (1, 41);

/// A Docker engine. Cheap to clone; connects when first used, and again after a failure.
#[derive(Clone)]
pub struct Engine(Arc<Connection>);

struct Connection {
    endpoint: String,
    timeouts: Timeouts,
    client: Mutex<Option<Docker>>,
    cpus: OnceCell<u64>,
}

/// Tells one engine from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineIdentity {
    /// The engine's own id; empty if it has none.
    pub id: String,
    /// The engine's time in Unix milliseconds; `i64::MAX` if it does not report it.
    pub now_ms: i64,
}

impl Engine {
    /// The engine at `endpoint`, such as `unix:///var/run/docker.sock`. Does not connect yet.
    #[must_use]
    pub fn new(endpoint: &str, timeouts: Timeouts) -> Self {
        Self(Arc::new(Connection {
            endpoint: endpoint.to_owned(),
            timeouts,
            client: Mutex::new(None),
            cpus: OnceCell::new(),
        }))
    }

    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.0.timeouts
    }

    pub async fn ping(&self) -> Result<(), DockerError> {
        self.call(
            "ping the engine",
            self.0.timeouts.ping,
            |docker| async move { docker.ping().await.map(|_| ()) },
        )
        .await
    }

    /// Pings twice, because one response may be lost.
    pub async fn check_alive(&self) -> Result<(), DockerError> {
        match self.ping().await {
            Ok(()) => Ok(()),
            Err(_) => self.ping().await,
        }
    }

    /// The number of CPUs of the engine.
    pub async fn cpus(&self) -> Result<u64, DockerError> {
        let read = || async {
            let info = self
                .call(
                    "read the engine's number of CPUs",
                    self.0.timeouts.call,
                    |docker| async move { docker.info().await },
                )
                .await?;
            Ok(info
                .ncpu
                .and_then(|n| u64::try_from(n).ok())
                .filter(|n| *n > 0)
                .unwrap_or(1))
        };
        self.0.cpus.get_or_try_init(read).await.copied()
    }

    /// Identifies the engine. Read anew each time: another engine may have taken its place.
    pub async fn identity(&self) -> Result<EngineIdentity, DockerError> {
        let info = self
            .call(
                "read the engine's id",
                self.0.timeouts.call,
                |docker| async move { docker.info().await },
            )
            .await?;
        let time = info
            .system_time
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Ok(EngineIdentity {
            id: info.id.unwrap_or_default(),
            now_ms: time.map_or(i64::MAX, jiff::Timestamp::as_millisecond),
        })
    }

    /// Makes one call with a time limit.
    pub(super) async fn call<T, F>(
        &self,
        attempt: &'static str,
        limit: Duration,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T, DockerError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let response = tokio::time::timeout(limit, async {
            let docker = self.client().await?;
            request(docker)
                .await
                .map_err(|error| DockerError::from_bollard(attempt, error))
        });
        let result = response.await.unwrap_or(Err(DockerError::TimedOut {
            attempt,
            after: limit,
        }));
        match result {
            Err(error) => Err(self.diagnose(error).await),
            ok => ok,
        }
    }

    /// Makes one call about an object that has a name or an id, of which bollard makes a part of a
    /// URL as it is: [`url_part`] refuses what would change the URL.
    pub(super) async fn call_on<T, F>(
        &self,
        attempt: &'static str,
        limit: Duration,
        object: &str,
        request: impl FnOnce(Docker, String) -> F,
    ) -> Result<T, DockerError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let object = url_part(object)?;
        self.call(attempt, limit, |docker| request(docker, object))
            .await
    }

    /// Makes a request of which bollard knows no answer, or not all of it.
    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        attempt: &'static str,
        target: &str,
    ) -> Result<T, DockerError> {
        let path = self.socket_path()?;
        let limit = self.0.timeouts.call;
        let answer = self.call(attempt, limit, |_| get(path, target.to_owned()));
        serde_json::from_slice(&answer.await?).map_err(|error| DockerError::InvalidResponse {
            attempt,
            message: error.to_string(),
        })
    }

    /// Returns the client, and connects if there is none.
    pub(super) async fn client(&self) -> Result<Docker, DockerError> {
        let mut slot = self.0.client.lock().await;
        if let Some(docker) = &*slot {
            return Ok(docker.clone());
        }
        let path = self.socket_path()?;
        // Opening the socket here tells a missing socket from one without permission; bollard
        // reports both alike.
        UnixStream::connect(&path)
            .await
            .map_err(|source| connect_error(path.clone(), source))?;
        let attempt = "agree on an API version";
        let from_bollard = |error| DockerError::from_bollard(attempt, error);
        let docker = Docker::connect_with_custom_transport(
            socket_transport(path),
            Some("http://docker"),
            CLIENT_TIMEOUT.as_secs(),
            API_DEFAULT_VERSION,
        )
        .map_err(from_bollard)?;
        let limit = self.0.timeouts.ping;
        let docker = tokio::time::timeout(limit, docker.negotiate_version())
            .await
            .map_err(|_| DockerError::TimedOut {
                attempt,
                after: limit,
            })?
            .map_err(from_bollard)?;
        let version = docker.client_version();
        if (version.major_version, version.minor_version) < MIN_API {
            return Err(DockerError::ApiTooOld {
                version: format!("{}.{}", version.major_version, version.minor_version),
            });
        }
        *slot = Some(docker.clone());
        Ok(docker)
    }

    /// Replaces "the connection broke" by the reason, if the socket shows one, and drops the
    /// client: the engine that comes back may have another version.
    pub(super) async fn diagnose(&self, error: DockerError) -> DockerError {
        if !error.is_unavailable() {
            return error;
        }
        *self.0.client.lock().await = None;
        let DockerError::ConnectionLost { .. } = error else {
            return error;
        };
        let Ok(path) = self.socket_path() else {
            return error;
        };
        match tokio::time::timeout(self.0.timeouts.ping, UnixStream::connect(&path)).await {
            Ok(Err(source)) => connect_error(path, source),
            _ => error,
        }
    }

    /// Returns the next item of a stream from the engine. While the stream is silent, the engine
    /// is pinged now and then.
    pub(super) async fn next_with_liveness<T>(
        &self,
        stream: &mut (impl Stream<Item = T> + Unpin),
    ) -> Result<Option<T>, DockerError> {
        loop {
            match tokio::time::timeout(self.0.timeouts.stream_idle, stream.next()).await {
                Ok(item) => return Ok(item),
                Err(_) => self.check_alive().await?,
            }
        }
    }

    pub(super) fn socket_path(&self) -> Result<PathBuf, DockerError> {
        let path = self
            .0
            .endpoint
            .strip_prefix("unix://")
            .unwrap_or(&self.0.endpoint);
        if path.starts_with('/') {
            Ok(path.into())
        } else {
            Err(DockerError::InvalidEndpoint(self.0.endpoint.clone()))
        }
    }
}

/// The one check of what becomes a part of a URL: returns a name or an id if it stays what it is as a part of a URL's path: of letters, digits and
/// punctuation without a meaning there, and without an empty part, `.` or `..`.
pub(super) fn url_part(object: &str) -> Result<String, DockerError> {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'-' | b':' | b'@' | b'/' | b'[' | b']')
    };
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    if object.bytes().all(is_plain) && object.split('/').all(is_part) {
        Ok(object.to_owned())
    } else {
        Err(DockerError::InvalidName {
            name: object.to_owned(),
        })
    }
}

fn connect_error(path: PathBuf, source: std::io::Error) -> DockerError {
    match source.kind() {
        ErrorKind::NotFound => DockerError::NoSocket { path },
        ErrorKind::ConnectionRefused => DockerError::ConnectionRefused { path },
        ErrorKind::PermissionDenied => permission_error(path),
        _ => DockerError::Connect { path, source },
    }
}

fn permission_error(path: PathBuf) -> DockerError {
    let owner = |path: &Path| std::fs::metadata(path).map(|meta| (meta.uid(), meta.gid()));
    match owner(&path) {
        Ok((uid, gid)) => DockerError::PermissionDenied { path, uid, gid },
        // The directory cannot be searched, so the socket cannot even be looked up.
        Err(source) => DockerError::Connect { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short_timeouts() -> Timeouts {
        let short = Duration::from_millis(200);
        Timeouts {
            ping: short,
            call: short,
            lifecycle: short,
            removal: short,
            upload_idle: short,
            pull_idle: short,
            stream_idle: short,
        }
    }

    async fn error_of(endpoint: &str) -> DockerError {
        Engine::new(endpoint, short_timeouts())
            .ping()
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn a_socket_without_an_engine_is_diagnosed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.sock");
        let endpoint = format!("unix://{}", path.display());
        assert!(matches!(
            error_of("tcp://127.0.0.1:1").await,
            DockerError::InvalidEndpoint(_)
        ));
        assert!(matches!(
            error_of("").await,
            DockerError::InvalidEndpoint(_)
        ));
        assert!(matches!(
            error_of(&endpoint).await,
            DockerError::NoSocket { .. }
        ));
        // A listener that is closed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(
            error_of(&endpoint).await,
            DockerError::ConnectionRefused { .. }
        ));
    }

    #[tokio::test]
    async fn an_engine_that_hangs_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.sock");
        // The kernel accepts the connection; nothing ever responds.
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = error_of(&format!("unix://{}", path.display())).await;
        assert!(matches!(error, DockerError::TimedOut { .. }), "{error}");
        assert!(error.is_unavailable());
    }

    #[tokio::test]
    async fn an_engine_that_is_too_old_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                    let body = r#"{"ApiVersion":"1.39"}"#;
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                }
            }
        });
        let error = error_of(&format!("unix://{}", path.display())).await;
        assert!(
            matches!(&error, DockerError::ApiTooOld { version } if version == "1.39"),
            "{error}"
        );
    }
}
