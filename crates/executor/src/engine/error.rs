//! What can go wrong between quire and the engine, by what it means for the caller.

use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error as Bollard;

use super::timeouts::CLIENT_TIMEOUT;
use super::transport::{AnswerLimit, AnswerTooLong, is_answer_too_long};

/// How many characters of the engine's message are kept.
const MAX_MESSAGE_CHARS: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("`{0}` is not the address of a Docker engine; write `unix:///var/run/docker.sock`")]
    InvalidEndpoint(String),
    #[error(
        "there is no socket at {}; check that Docker is installed and that its socket is mounted",
        path.display()
    )]
    NoSocket { path: PathBuf },
    #[error(
        "permission to open the socket {} was denied: it belongs to user {uid} and group {gid}; \
         add group {gid} to quire's process (in compose.yaml: `group_add: [\"{gid}\"]`)",
        path.display()
    )]
    PermissionDenied { path: PathBuf, uid: u32, gid: u32 },
    #[error("no process listens at the socket {}; check that the Docker engine runs", path.display())]
    ConnectionRefused { path: PathBuf },
    #[error("cannot connect to the socket {}", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the engine did not respond within {} s while quire tried to {attempt}", after.as_secs_f32())]
    TimedOut {
        attempt: &'static str,
        after: Duration,
    },
    /// The engine responds, but the registry that it pulls from does not.
    #[error("the registry sent nothing for {} s", after.as_secs_f32())]
    RegistrySilent { after: Duration },
    #[error(
        "quire needs Docker Engine 20.10 or newer (API 1.41), and this engine has API {version}; upgrade it"
    )]
    ApiTooOld { version: String },
    #[error("the engine is not a manager of a swarm")]
    NoManager,
    #[error("the connection to the engine broke while quire tried to {attempt}: {message}")]
    ConnectionLost {
        attempt: &'static str,
        message: String,
    },
    /// The object of the request does not exist.
    #[error("cannot {attempt}: {message}")]
    NotFound {
        attempt: &'static str,
        message: String,
    },
    /// The request conflicts with the state of its object.
    #[error("cannot {attempt}: {message}")]
    Conflict {
        attempt: &'static str,
        message: String,
    },
    /// The engine responded with another error.
    #[error("cannot {attempt}: {message}")]
    Failed {
        attempt: &'static str,
        /// The HTTP status; 0 if the error came within a stream.
        status: u16,
        message: String,
    },
    #[error(
        "the engine sent a response that quire cannot read while it tried to {attempt}: {message}"
    )]
    InvalidResponse {
        attempt: &'static str,
        message: String,
    },
    /// It would change the URL of a request that it is a part of.
    #[error("`{name}` cannot be the name of an object of the engine")]
    InvalidName { name: String },
    /// The tar stream to upload ended with an error.
    #[error("the files to send to the engine could not be read: {0}")]
    UploadSource(String),
}

impl DockerError {
    /// Whether the engine as a whole cannot be used now.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::InvalidEndpoint(_)
                | Self::NoSocket { .. }
                | Self::PermissionDenied { .. }
                | Self::ConnectionRefused { .. }
                | Self::Connect { .. }
                | Self::TimedOut { .. }
                | Self::ApiTooOld { .. }
                | Self::ConnectionLost { .. }
        )
    }

    /// Whether the engine responds but failed at something that it should be able to do.
    #[must_use]
    pub fn is_server_error(&self) -> bool {
        matches!(
            self,
            Self::Failed { status: 500.., .. } | Self::InvalidResponse { .. }
        )
    }

    /// Whether a swarm refused a service because a config object that it names does not exist.
    #[must_use]
    pub fn is_missing_config(&self) -> bool {
        !self.is_unavailable() && self.engine_message().contains("config not found")
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The engine's own message, without what was attempted.
    #[must_use]
    pub fn engine_message(&self) -> String {
        match self {
            Self::NotFound { message, .. }
            | Self::Conflict { message, .. }
            | Self::Failed { message, .. } => message.clone(),
            other => other.chain(),
        }
    }

    /// The message with its causes.
    #[must_use]
    pub fn chain(&self) -> String {
        distinct_chain(self)
    }

    /// The error of a stream with a limit. bollard does not pass on why a stream broke.
    pub(super) fn of_stream(attempt: &'static str, error: Bollard, limit: &AnswerLimit) -> Self {
        if limit.is_exceeded() {
            let message = AnswerTooLong.to_string();
            return Self::InvalidResponse { attempt, message };
        }
        Self::from_bollard(attempt, error)
    }

    /// The error that a build ended with.
    pub(super) fn of_message(attempt: &'static str, message: &str) -> Self {
        Self::Failed {
            attempt,
            status: 0,
            message: without_foreign_answer(&one_line(message)),
        }
    }

    /// An error and its causes on one line.
    pub(super) fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
        distinct_chain(error)
    }

    pub(super) fn from_bollard(attempt: &'static str, error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError {
                status_code,
                message,
            } => {
                let message = without_foreign_answer(&one_line(&message));
                match status_code {
                    404 => Self::NotFound { attempt, message },
                    409 => Self::Conflict { attempt, message },
                    status => Self::Failed {
                        attempt,
                        status,
                        message,
                    },
                }
            }
            Bollard::DockerStreamError { error } => Self::Failed {
                attempt,
                status: 0,
                message: without_foreign_answer(&one_line(&error)),
            },
            Bollard::RequestTimeoutError => Self::TimedOut {
                attempt,
                after: CLIENT_TIMEOUT,
            },
            error if is_answer_too_long(&error) => Self::InvalidResponse {
                attempt,
                message: AnswerTooLong.to_string(),
            },
            error @ (Bollard::HyperLegacyError { .. }
            | Bollard::HyperResponseError { .. }
            | Bollard::IOError { .. }) => Self::ConnectionLost {
                attempt,
                message: distinct_chain(&error),
            },
            error => Self::InvalidResponse {
                attempt,
                message: distinct_chain(&error),
            },
        }
    }
}

/// An error and its causes on one line. Unlike the chain of quire's own errors it leaves out a
/// cause whose text was there before: bollard's and hyper's errors repeat their causes.
fn distinct_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = next.source();
    }
    text
}

/// Cuts off what a registry answered: the engine quotes the body of any HTTP server that a reference
/// names, and a log must not show what that server tells the engine's host alone.
fn without_foreign_answer(message: &str) -> String {
    match message.find(" response body:") {
        Some(body) => format!(
            "{} response: it is not that of a registry",
            &message[..body]
        ),
        None => message.to_owned(),
    }
}

/// The engine's message on one line of limited length.
fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "no reason was given".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_become_kinds() {
        let of = |status_code| {
            DockerError::from_bollard(
                "start",
                Bollard::DockerResponseServerError {
                    status_code,
                    message: "No such\n container".into(),
                },
            )
        };
        assert!(of(404).is_not_found());
        assert!(matches!(of(409), DockerError::Conflict { .. }));
        assert_eq!(of(500).to_string(), "cannot start: No such container");
        assert!(!of(500).is_unavailable() && of(500).is_server_error());
        assert!(!of(400).is_server_error());
    }

    #[test]
    fn messages_of_engine_errors() {
        let path = PathBuf::from("/run/d.sock");
        let attempt = "start the container";
        let message = || "why".to_owned();
        let texts: Vec<String> = [
            DockerError::InvalidEndpoint("ftp://x".into()),
            DockerError::NoSocket { path: path.clone() },
            DockerError::PermissionDenied {
                path: path.clone(),
                uid: 0,
                gid: 998,
            },
            DockerError::ConnectionRefused { path: path.clone() },
            DockerError::Connect {
                path,
                source: std::io::Error::other("odd"),
            },
            DockerError::TimedOut {
                attempt,
                after: Duration::from_secs(2),
            },
            DockerError::RegistrySilent {
                after: Duration::from_secs(600),
            },
            DockerError::ApiTooOld {
                version: "1.40".into(),
            },
            DockerError::ConnectionLost {
                attempt,
                message: message(),
            },
            DockerError::NotFound {
                attempt,
                message: message(),
            },
            DockerError::Conflict {
                attempt,
                message: message(),
            },
            DockerError::Failed {
                attempt,
                status: 500,
                message: message(),
            },
            DockerError::InvalidResponse {
                attempt,
                message: message(),
            },
            DockerError::UploadSource("why".into()),
        ]
        .iter()
        .map(DockerError::chain)
        .collect();
        insta::assert_snapshot!(texts.join("\n"), @r#"
        `ftp://x` is not the address of a Docker engine; write `unix:///var/run/docker.sock`
        there is no socket at /run/d.sock; check that Docker is installed and that its socket is mounted
        permission to open the socket /run/d.sock was denied: it belongs to user 0 and group 998; add group 998 to quire's process (in compose.yaml: `group_add: ["998"]`)
        no process listens at the socket /run/d.sock; check that the Docker engine runs
        cannot connect to the socket /run/d.sock: odd
        the engine did not respond within 2 s while quire tried to start the container
        the registry sent nothing for 600 s
        quire needs Docker Engine 20.10 or newer (API 1.41), and this engine has API 1.40; upgrade it
        the connection to the engine broke while quire tried to start the container: why
        cannot start the container: why
        cannot start the container: why
        cannot start the container: why
        the engine sent a response that quire cannot read while it tried to start the container: why
        the files to send to the engine could not be read: why
        "#);
    }

    #[test]
    fn what_another_server_answered_is_left_out() {
        let message =
            "error parsing HTTP 404 response body: invalid character '<': \"<p>private</p>\"";
        assert_eq!(
            without_foreign_answer(message),
            "error parsing HTTP 404 response: it is not that of a registry"
        );
        assert_eq!(without_foreign_answer("no such image"), "no such image");
    }

    #[test]
    fn messages_are_kept_short() {
        assert_eq!(one_line(" a\n\tb "), "a b");
        assert_eq!(one_line(""), "no reason was given");
        assert_eq!(one_line(&"ä".repeat(5000)).chars().count(), 1001);
    }
}
