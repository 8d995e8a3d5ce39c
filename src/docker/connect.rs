//! The connection to one engine: made when first needed, diagnosed when it fails.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use tokio::sync::{Mutex, OnceCell};

use super::DockerError;

/// bollard's own limit: the limits here are set call by call, and a build may take long.
pub(super) const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The oldest API that has all that is used: Engine 20.10's.
const OLDEST_API: (usize, usize) = (1, 41);

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// Asking whether the engine lives.
    pub ping: Duration,
    /// An ordinary call.
    pub call: Duration,
    /// Creating, starting and removing a container.
    pub heavy: Duration,
    /// Removing one of many things, or something that is tried again.
    pub removal: Duration,
    /// How long an upload may stand still.
    pub stall: Duration,
    /// How long a pull may be silent; moving, it may take any time.
    pub pull: Duration,
    /// How long a stream may be silent before the engine is asked whether it lives.
    pub watch: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // An engine on a small machine that is busy may take seconds for its shortest answer, and is not away.
        Self {
            ping: seconds(10),
            call: seconds(30),
            heavy: seconds(120),
            removal: seconds(10),
            stall: seconds(60),
            // Some storage drivers copy all of an image's lower layers before they unpack one, and say nothing meanwhile.
            pull: seconds(600),
            watch: seconds(15),
        }
    }
}

/// A Docker engine. Cheap to clone; connects when first used, and anew after a failure.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// Which engine one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its own id; empty where it has none.
    pub id: String,
    /// Its time in Unix milliseconds; one that never comes where it does not say.
    pub now_ms: i64,
}

struct Inner {
    endpoint: String,
    timings: Timings,
    client: Mutex<Option<Docker>>,
    cpus: OnceCell<u64>,
}

impl Engine {
    /// The engine at `endpoint`, such as `unix:///var/run/docker.sock`. Does not connect yet.
    #[must_use]
    pub fn new(endpoint: &str, timings: Timings) -> Self {
        Self(Arc::new(Inner {
            endpoint: endpoint.to_owned(),
            timings,
            client: Mutex::new(None),
            cpus: OnceCell::new(),
        }))
    }

    /// The time limits.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.0.timings
    }

    /// Asks the engine whether it lives.
    ///
    /// # Errors
    /// When it does not answer soon, with the reason.
    pub async fn ping(&self) -> Result<(), DockerError> {
        self.call(
            "ask whether the engine lives",
            self.0.timings.ping,
            |docker| async move { docker.ping().await.map(|_| ()) },
        )
        .await
    }

    /// How many CPUs the engine has.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn cpus(&self) -> Result<u64, DockerError> {
        let ask = || async {
            let info = self
                .call(
                    "ask for the engine's CPUs",
                    self.0.timings.call,
                    |docker| async move { docker.info().await },
                )
                .await?;
            Ok(info
                .ncpu
                .and_then(|n| u64::try_from(n).ok())
                .filter(|n| *n > 0)
                .unwrap_or(1))
        };
        self.0.cpus.get_or_try_init(ask).await.copied()
    }

    /// Which engine this is, and what time it is there. Asked anew each time: another one may have taken its place.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn identity(&self) -> Result<Identity, DockerError> {
        let info = self
            .call(
                "ask which engine it is",
                self.0.timings.call,
                |docker| async move { docker.info().await },
            )
            .await?;
        let time = info
            .system_time
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Ok(Identity {
            id: info.id.unwrap_or_default(),
            now_ms: time.map_or(i64::MAX, jiff::Timestamp::as_millisecond),
        })
    }

    /// Makes one call with a time limit.
    pub(super) async fn call<T, F>(
        &self,
        attempt: &'static str,
        limit: Duration,
        make: impl FnOnce(Docker) -> F,
    ) -> Result<T, DockerError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let made = tokio::time::timeout(limit, async {
            let docker = self.client().await?;
            make(docker)
                .await
                .map_err(|error| DockerError::from_bollard(attempt, error))
        });
        let result = made.await.unwrap_or(Err(DockerError::TimedOut {
            attempt,
            after: limit,
        }));
        match result {
            Err(error) => Err(self.diagnose(error).await),
            ok => ok,
        }
    }

    /// The client; connects where there is none.
    pub(super) async fn client(&self) -> Result<Docker, DockerError> {
        let mut slot = self.0.client.lock().await;
        if let Some(docker) = &*slot {
            return Ok(docker.clone());
        }
        let path = self.path()?;
        // Opening it once tells a missing socket from one without permission; the client does not.
        tokio::net::UnixStream::connect(&path)
            .await
            .map_err(|source| connect_error(path.clone(), source))?;
        let attempt = "agree on an API version";
        let lost = |error| DockerError::from_bollard(attempt, error);
        let docker = Docker::connect_with_unix(
            &path.to_string_lossy(),
            FOREVER.as_secs(),
            API_DEFAULT_VERSION,
        )
        .map_err(lost)?;
        let limit = self.0.timings.ping;
        let agreed = tokio::time::timeout(limit, docker.negotiate_version()).await;
        let docker = agreed
            .map_err(|_| DockerError::TimedOut {
                attempt,
                after: limit,
            })?
            .map_err(lost)?;
        let version = docker.client_version();
        if (version.major_version, version.minor_version) < OLDEST_API {
            return Err(DockerError::TooOld {
                version: format!("{}.{}", version.major_version, version.minor_version),
            });
        }
        *slot = Some(docker.clone());
        Ok(docker)
    }

    /// Replaces "the connection broke" by the reason, where the socket shows one, and forgets the
    /// client: the engine that comes back may be another version.
    pub(super) async fn diagnose(&self, error: DockerError) -> DockerError {
        if !error.is_unavailable() {
            return error;
        }
        *self.0.client.lock().await = None;
        let DockerError::Lost { .. } = error else {
            return error;
        };
        let Ok(path) = self.path() else { return error };
        match tokio::time::timeout(self.0.timings.ping, tokio::net::UnixStream::connect(&path))
            .await
        {
            Ok(Err(source)) => connect_error(path, source),
            _ => error,
        }
    }

    /// The next item of a stream from the engine. While it is silent, the engine is asked now and then whether it lives.
    pub(super) async fn next_of<T>(
        &self,
        stream: &mut (impl Stream<Item = T> + Unpin),
    ) -> Result<Option<T>, DockerError> {
        loop {
            match tokio::time::timeout(self.0.timings.watch, stream.next()).await {
                Ok(item) => return Ok(item),
                Err(_) => self.check().await?,
            }
        }
    }

    /// Asks twice whether the engine lives, for one answer may be lost.
    ///
    /// # Errors
    /// When it does not answer, with the reason.
    pub async fn check(&self) -> Result<(), DockerError> {
        match self.ping().await {
            Ok(()) => Ok(()),
            Err(_) => self.ping().await,
        }
    }

    /// The socket.
    pub(super) fn path(&self) -> Result<PathBuf, DockerError> {
        let path = self
            .0
            .endpoint
            .strip_prefix("unix://")
            .unwrap_or(&self.0.endpoint);
        if path.starts_with('/') {
            Ok(path.into())
        } else {
            Err(DockerError::Endpoint(self.0.endpoint.clone()))
        }
    }
}

fn connect_error(path: PathBuf, source: std::io::Error) -> DockerError {
    match source.kind() {
        ErrorKind::NotFound => DockerError::NoSocket { path },
        ErrorKind::ConnectionRefused => DockerError::Refused { path },
        ErrorKind::PermissionDenied => permission_error(path),
        _ => DockerError::Connect { path, source },
    }
}

fn permission_error(path: PathBuf) -> DockerError {
    let owner = |path: &Path| std::fs::metadata(path).map(|meta| (meta.uid(), meta.gid()));
    match owner(&path) {
        Ok((uid, gid)) => DockerError::Permission { path, uid, gid },
        // The folder is closed to us, so the socket cannot even be looked at.
        Err(source) => DockerError::Connect { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasty() -> Timings {
        let short = Duration::from_millis(200);
        Timings {
            ping: short,
            call: short,
            heavy: short,
            removal: short,
            stall: short,
            pull: short,
            watch: short,
        }
    }

    async fn error_of(endpoint: &str) -> DockerError {
        Engine::new(endpoint, hasty()).ping().await.unwrap_err()
    }

    #[tokio::test]
    async fn a_socket_that_is_no_engine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.sock");
        let endpoint = format!("unix://{}", path.display());
        assert!(matches!(
            error_of("tcp://127.0.0.1:1").await,
            DockerError::Endpoint(_)
        ));
        assert!(matches!(error_of("").await, DockerError::Endpoint(_)));
        assert!(matches!(
            error_of(&endpoint).await,
            DockerError::NoSocket { .. }
        ));
        // A listener that is gone leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(
            error_of(&endpoint).await,
            DockerError::Refused { .. }
        ));
    }

    #[tokio::test]
    async fn a_hanging_engine_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.sock");
        // Accepts (the kernel does) and says nothing.
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = error_of(&format!("unix://{}", path.display())).await;
        assert!(matches!(error, DockerError::TimedOut { .. }), "{error}");
        assert!(error.is_unavailable());
    }

    #[tokio::test]
    async fn an_engine_that_is_too_old() {
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
            matches!(&error, DockerError::TooOld { version } if version == "1.39"),
            "{error}"
        );
    }
}
