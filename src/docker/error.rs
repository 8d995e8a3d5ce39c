//! What can go wrong between quire and the engine, told apart by what it means for the caller.

use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error as Bollard;

/// Why the engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The configured endpoint is of no kind that quire can use.
    #[error("`{0}` is not an engine's address; write `unix:///var/run/docker.sock`")]
    Endpoint(String),
    /// Nothing lies at the socket's path.
    #[error("there is no socket at {}; is Docker installed, and its socket mounted?", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket may not be opened.
    #[error(
        "no permission for the socket {}: it belongs to user {uid} and group {gid}; give quire's process group {gid} (compose: `group_add: [\"{gid}\"]`)",
        path.display()
    )]
    Permission {
        /// The path.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Nobody listens at the socket.
    #[error("nothing listens at {}; is the Docker engine running?", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be opened for another reason.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The engine took too long.
    #[error("the engine did not answer within {} s (to {attempt})", after.as_secs_f32())]
    TimedOut {
        /// What was attempted.
        attempt: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The engine lives, and what it waits for does not come.
    #[error("its registry sent nothing for {} s", after.as_secs_f32())]
    Silent {
        /// The limit.
        after: Duration,
    },
    /// The engine is older than quire can use.
    #[error("Docker Engine 20.10 or newer is needed (API 1.41); this one speaks API {version}")]
    TooOld {
        /// Its API version.
        version: String,
    },
    /// The connection broke.
    #[error("the connection to the engine broke (to {attempt}): {message}")]
    Lost {
        /// What was attempted.
        attempt: &'static str,
        /// What broke it.
        message: String,
    },
    /// What was asked for does not exist.
    #[error("cannot {attempt}: {message}")]
    NotFound {
        /// What was attempted.
        attempt: &'static str,
        /// The engine's words.
        message: String,
    },
    /// It does not fit the state of things.
    #[error("cannot {attempt}: {message}")]
    Conflict {
        /// What was attempted.
        attempt: &'static str,
        /// The engine's words.
        message: String,
    },
    /// The engine refused or failed.
    #[error("cannot {attempt}: {message}")]
    Engine {
        /// What was attempted.
        attempt: &'static str,
        /// The status code; 0 where it said so within a stream.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The engine answered something that quire does not understand.
    #[error("the engine's answer is not understood (to {attempt}): {message}")]
    Answer {
        /// What was attempted.
        attempt: &'static str,
        /// Why.
        message: String,
    },
    /// The tar stream that was to be sent could not be read.
    #[error("the tree could not be read while it was sent: {0}")]
    Source(String),
}

impl DockerError {
    /// Whether the engine as a whole cannot be used now.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Endpoint(_)
                | Self::NoSocket { .. }
                | Self::Permission { .. }
                | Self::Refused { .. }
                | Self::Connect { .. }
                | Self::TimedOut { .. }
                | Self::TooOld { .. }
                | Self::Lost { .. }
        )
    }

    /// Whether the engine answers and the fault is its own: it failed at what it could have done, or said what makes no sense.
    #[must_use]
    pub fn is_engines_fault(&self) -> bool {
        matches!(
            self,
            Self::Engine { status: 500.., .. } | Self::Answer { .. }
        )
    }

    /// Whether what was asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The engine's own words, without what was attempted.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::NotFound { message, .. }
            | Self::Conflict { message, .. }
            | Self::Engine { message, .. } => message.clone(),
            other => other.chain(),
        }
    }

    /// The message with its causes.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }

    pub(super) fn from_bollard(attempt: &'static str, error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError {
                status_code,
                message,
            } => {
                let message = tidy(&message);
                match status_code {
                    404 => Self::NotFound { attempt, message },
                    409 => Self::Conflict { attempt, message },
                    status => Self::Engine {
                        attempt,
                        status,
                        message,
                    },
                }
            }
            Bollard::DockerStreamError { error } => Self::Engine {
                attempt,
                status: 0,
                message: tidy(&error),
            },
            Bollard::RequestTimeoutError => Self::TimedOut {
                attempt,
                after: super::connect::FOREVER,
            },
            error @ (Bollard::HyperLegacyError { .. }
            | Bollard::HyperResponseError { .. }
            | Bollard::IOError { .. }) => Self::Lost {
                attempt,
                message: chain(&error),
            },
            error => Self::Answer {
                attempt,
                message: chain(&error),
            },
        }
    }
}

/// An error and its causes on one line, without saying anything twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

/// The engine's message as one line of sensible length.
fn tidy(message: &str) -> String {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(1000) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None if one_line.is_empty() => "no reason was given".to_owned(),
        None => one_line,
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
        assert!(
            !of(500).is_unavailable() && of(500).is_engines_fault() && !of(400).is_engines_fault()
        );
    }

    #[test]
    fn every_text_says_what_to_do_or_what_was_attempted() {
        let path = PathBuf::from("/run/d.sock");
        let attempt = "start the container";
        let message = || "why".to_owned();
        let texts: Vec<String> = [
            DockerError::Endpoint("ftp://x".into()),
            DockerError::NoSocket { path: path.clone() },
            DockerError::Permission {
                path: path.clone(),
                uid: 0,
                gid: 998,
            },
            DockerError::Refused { path: path.clone() },
            DockerError::Connect {
                path,
                source: std::io::Error::other("odd"),
            },
            DockerError::TimedOut {
                attempt,
                after: Duration::from_secs(2),
            },
            DockerError::Silent {
                after: Duration::from_secs(600),
            },
            DockerError::TooOld {
                version: "1.40".into(),
            },
            DockerError::Lost {
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
            DockerError::Engine {
                attempt,
                status: 500,
                message: message(),
            },
            DockerError::Answer {
                attempt,
                message: message(),
            },
            DockerError::Source("why".into()),
        ]
        .iter()
        .map(DockerError::chain)
        .collect();
        insta::assert_snapshot!(texts.join("\n"), @r#"
        `ftp://x` is not an engine's address; write `unix:///var/run/docker.sock`
        there is no socket at /run/d.sock; is Docker installed, and its socket mounted?
        no permission for the socket /run/d.sock: it belongs to user 0 and group 998; give quire's process group 998 (compose: `group_add: ["998"]`)
        nothing listens at /run/d.sock; is the Docker engine running?
        cannot connect to /run/d.sock: odd
        the engine did not answer within 2 s (to start the container)
        its registry sent nothing for 600 s
        Docker Engine 20.10 or newer is needed (API 1.41); this one speaks API 1.40
        the connection to the engine broke (to start the container): why
        cannot start the container: why
        cannot start the container: why
        cannot start the container: why
        the engine's answer is not understood (to start the container): why
        the tree could not be read while it was sent: why
        "#);
    }

    #[test]
    fn messages_are_kept_short() {
        assert_eq!(tidy(" a\n\tb "), "a b");
        assert_eq!(tidy(""), "no reason was given");
        assert_eq!(tidy(&"ä".repeat(5000)).chars().count(), 1001);
    }
}
