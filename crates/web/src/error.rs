//! What went wrong, as a status and one sentence for the person who asked. Details go to the log only.
//!
//! A [`WebError`] becomes a bare response that carries a [`ClientMessage`]; the outermost layer
//! ([`super::page::response_middleware`]) knows who asked and renders it as a page or as JSON.

use std::io;
use std::net::IpAddr;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use quire_git::GitError;
use quire_git::read::ReadError;
use quire_server::forge::ForgeError;
use quire_store::StoreError;
use quire_types::error_chain;
use quire_types::ssh_keys::KeyDenied;
use quire_types::token::RandomError;

use super::strangers::StrangerRefused;

/// When a request may be repeated that was not served for want of time.
const RETRY_SECONDS: u64 = 5;

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// No such page, or not for this user: a response does not tell which.
    #[error("there is nothing at this address")]
    NotFound,
    /// The page needs a session.
    #[error("the page requires a session")]
    SignIn,
    /// The request needs an access token, and has none or one that is not valid.
    #[error("the request requires an access token")]
    TokenRequired,
    /// The access token allows only reading.
    #[error("the access token allows only reading")]
    ReadOnlyToken,
    /// A push over HTTP.
    #[error("pushes are not possible over HTTP")]
    PushOverHttp {
        /// Where to push instead.
        url: String,
    },
    /// The git program failed.
    #[error("git failed")]
    Git(#[from] GitError),
    /// The request's parameters cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// The request came from another site.
    #[error("the request did not come from a page of this appliance")]
    CrossSite,
    /// The appliance is open to everyone, and the `Host` is not one of its names.
    #[error("the host name of the request is not one of this appliance")]
    OtherName,
    /// The sign-in link is used, expired or unknown.
    #[error("the sign-in link is used or expired")]
    LinkSpent,
    /// The key of the link may not connect now, or not from there.
    #[error("the key of the sign-in link may not connect from {address} now")]
    KeyDenied {
        /// Why not.
        why: KeyDenied,
        /// Where the request came from.
        address: IpAddr,
    },
    /// Too late for what was asked.
    #[error("{0}")]
    Conflict(&'static str),
    /// The page is for people and for clients that are signed in.
    #[error("a stranger has to press a button first")]
    VisitRequired,
    /// A client that is not signed in asks for more than it may.
    #[error("a request of a stranger is not served now")]
    Stranger(#[from] StrangerRefused),
    /// As many live streams as allowed are open.
    #[error("too many live streams are open")]
    TooManyFollowers,
    /// A file or a patch is larger than what is sent.
    #[error("what was asked for is too large to be sent")]
    TooLarge,
    /// The handler took too long.
    #[error("the response took too long")]
    Slow,
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] StoreError),
    /// An operation failed for a reason that no page causes.
    #[error("the operation failed")]
    Forge(#[source] ForgeError),
    /// A file could not be read.
    #[error("cannot {attempt}")]
    Io {
        /// What was attempted, with the path.
        attempt: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A repository could not be read.
    #[error("the repository could not be read")]
    Read(#[source] ReadError),
    /// A page could not be rendered.
    #[error("the page could not be rendered")]
    Render(#[from] askama::Error),
    /// No session token could be made.
    #[error("cannot create a session token")]
    Token(#[from] RandomError),
    /// A task of the server panicked or was cancelled.
    #[error("a task of the web server ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchRun { .. } => Self::NotFound,
            StoreError::AmbiguousRun { .. } => {
                Self::BadRequest("This names more than one run. Use more of the id.".to_owned())
            }
            StoreError::NotFinished { .. } => {
                Self::Conflict("This run has not ended yet. Cancel it first, or wait for its end.")
            }
            StoreError::NothingFailed(_) => Self::Conflict(
                "All jobs of this run are complete, so there are no failed jobs to retry.",
            ),
            other => Self::Store(other),
        }
    }
}

impl From<ReadError> for WebError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoRevision | ReadError::NoPath => Self::NotFound,
            ReadError::Busy | ReadError::OutOfTime => Self::Slow,
            ReadError::TooLarge { .. } => Self::TooLarge,
            other => Self::Read(other),
        }
    }
}

impl From<ForgeError> for WebError {
    fn from(error: ForgeError) -> Self {
        match error {
            ForgeError::Store(error) => error.into(),
            ForgeError::NoRun(_) | ForgeError::NoRepository { .. } => Self::NotFound,
            ForgeError::AlreadyFinished { .. } => {
                Self::Conflict("This run has already ended, so there is nothing to cancel.")
            }
            ForgeError::NoKeptContainer(_) => {
                Self::Conflict("The container of this run is no longer kept.")
            }
            other => Self::Forge(other),
        }
    }
}

/// What the person who asked is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientMessage {
    /// What happened, short.
    pub(super) title: &'static str,
    /// One sentence, no detail from within.
    pub(super) sentence: String,
}

impl WebError {
    /// The status code that stands for it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::SignIn | Self::TokenRequired => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) | Self::Read(ReadError::Ambiguous { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Self::CrossSite
            | Self::VisitRequired
            | Self::KeyDenied { .. }
            | Self::ReadOnlyToken
            | Self::PushOverHttp { .. } => StatusCode::FORBIDDEN,
            Self::OtherName => StatusCode::MISDIRECTED_REQUEST,
            Self::LinkSpent => StatusCode::GONE,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Stranger(StrangerRefused::Client { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stranger(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyFollowers | Self::Slow | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Forge(_)
            | Self::Git(_)
            | Self::Io { .. }
            | Self::Read(_)
            | Self::Render(_)
            | Self::Token(_)
            | Self::Task(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn client_message(&self) -> ClientMessage {
        let (title, sentence) = match self {
            Self::NotFound => ("Not found", "There is nothing at this address, or you may not see it.".to_owned()),
            Self::SignIn => ("Sign in", "Sign in to see the repositories of this appliance.".to_owned()),
            Self::TokenRequired => (
                "Access token required",
                "This needs an access token, as the password or as `Authorization: Bearer`; `login --token NAME` over SSH creates one.".to_owned(),
            ),
            Self::ReadOnlyToken => (
                "Not allowed",
                "This access token allows only reading; `login --token NAME --scope write` over SSH creates one that allows more.".to_owned(),
            ),
            Self::PushOverHttp { url } => ("Not possible", format!("Pushes are not possible over HTTP. Push over SSH: git push {url}")),
            Self::Read(ReadError::Ambiguous { prefix, .. }) => (
                "Ambiguous",
                format!("Several commits begin with {prefix}. Use more digits of the id."),
            ),
            Self::BadRequest(why) => ("Bad request", format!("{}.", why.trim_end_matches('.'))),
            Self::CrossSite => ("Request rejected", "The request did not come from a page of this appliance, so nothing was changed.".to_owned()),
            Self::OtherName => (
                "Unknown host name",
                "This appliance is open to everyone, so it answers only under the host of `:http {:url …}` (QUIRE_HTTP_URL) or \
                 `:ssh {:host …}`, localhost and IP addresses. Set one of them to the name that you use."
                    .to_owned(),
            ),
            Self::LinkSpent => ("Sign-in link expired", "A sign-in link works once, within five minutes. Ask for a new one.".to_owned()),
            Self::KeyDenied { why: KeyDenied::NotAuthorized, .. } => {
                ("Key not authorized", "The key that asked for this link may no longer connect.".to_owned())
            }
            Self::KeyDenied { why: KeyDenied::Expired, .. } => (
                "Key expired",
                "The key that asked for this link has expired (`expiry-time=` of its line, or its certificate).".to_owned(),
            ),
            Self::KeyDenied { why: KeyDenied::Address, address } => (
                "Not from this address",
                format!(
                    "The key that asked for this link may not connect from {address} (`from=` of its line, or its certificate). \
                     If that is the address of a proxy, list it in `:http {{:trusted-proxies […]}}`."
                ),
            ),
            Self::KeyDenied { why: KeyDenied::Limited, .. } => (
                "Key with limits",
                "The key that asked for this link may only use git, and not the pages.".to_owned(),
            ),
            Self::Conflict(why) => ("Not possible", (*why).to_owned()),
            Self::VisitRequired => (
                "Not allowed",
                "Programs that are not signed in see what branches and tags point to. Open this page in a browser, or use an access token.".to_owned(),
            ),
            Self::Stranger(refused @ StrangerRefused::Client { .. }) => (
                "Too many requests",
                format!("This address has asked for much in a short time. Try again in {} s, or sign in.", refused.retry_after()),
            ),
            Self::Stranger(refused) => (
                "Temporarily unavailable",
                format!("Clients that are not signed in ask for more than the appliance reads for them. Try again in {} s, or sign in.", refused.retry_after()),
            ),
            Self::TooManyFollowers => {
                ("Too many live pages", "Too many pages receive live updates. Close some, then reload this one.".to_owned())
            }
            Self::Slow | Self::Store(_) => ("Temporarily unavailable", "The appliance is too busy to answer. Try again in a moment.".to_owned()),
            Self::TooLarge => ("Too large", "This is too large to be sent by the web. Clone the repository to read it.".to_owned()),
            Self::Forge(_) | Self::Git(_) | Self::Io { .. } | Self::Read(_) | Self::Render(_) | Self::Token(_) | Self::Task(_) => {
                ("Internal error", "quire could not complete the request. The log of the server has the details.".to_owned())
            }
        };
        ClientMessage { title, sentence }
    }
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let status = self.status();
        let is_token_required = matches!(self, Self::TokenRequired);
        let retry_after = match &self {
            Self::Stranger(refused) => Some(refused.retry_after()),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_SECONDS),
            _ => None,
        };
        if status.is_server_error() && !matches!(self, Self::Stranger(_)) {
            tracing::error!(
                status = status.as_u16(),
                "web: {}",
                error_chain::chain(&self)
            );
        }
        let mut response = status.into_response();
        response.extensions_mut().insert(self.client_message());
        if let Some(seconds) = retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if is_token_required {
            // Upon this, git asks its user or its credential helper.
            let challenge = HeaderValue::from_static("Basic realm=\"quire\", charset=\"UTF-8\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_client_message_has_no_internal_detail() {
        let error = WebError::Io {
            attempt: "read /var/quire/runs/work/x".to_owned(),
            source: io::Error::other("disk on fire"),
        };
        let message = error.client_message();
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            !message.sentence.contains("/var") && !message.sentence.contains("fire"),
            "{message:?}"
        );
    }

    #[test]
    fn messages_of_all_errors() {
        let denied = |why| WebError::KeyDenied {
            why,
            address: IpAddr::from([172, 18, 0, 3]),
        };
        let errors = [
            WebError::NotFound,
            WebError::SignIn,
            WebError::TokenRequired,
            WebError::ReadOnlyToken,
            WebError::PushOverHttp {
                url: "ssh://git@nas:2222/app.git".to_owned(),
            },
            WebError::BadRequest("the query cannot be read".to_owned()),
            WebError::from(StoreError::AmbiguousRun {
                selector: "0197".to_owned(),
                candidates: Vec::new(),
            }),
            WebError::from(StoreError::NotFinished {
                run: "0197".to_owned(),
                state: quire_types::run::RunState::Active,
            }),
            WebError::from(StoreError::NothingFailed("0197".to_owned())),
            WebError::CrossSite,
            WebError::OtherName,
            WebError::LinkSpent,
            denied(KeyDenied::NotAuthorized),
            denied(KeyDenied::Expired),
            denied(KeyDenied::Address),
            denied(KeyDenied::Limited),
            WebError::Conflict("This run is being stopped already."),
            WebError::VisitRequired,
            WebError::Stranger(StrangerRefused::Client {
                after: Duration::from_millis(29_001),
            }),
            WebError::Stranger(StrangerRefused::Processor {
                after: Duration::from_secs(3),
            }),
            WebError::TooManyFollowers,
            WebError::TooLarge,
            WebError::Slow,
            WebError::Read(ReadError::Panicked),
            WebError::Io {
                attempt: "read the log of run 1".to_owned(),
                source: io::Error::other("input/output error"),
            },
            WebError::Render(askama::Error::Fmt),
        ];
        let texts: Vec<String> = errors
            .iter()
            .map(|error| {
                let message = error.client_message();
                format!(
                    "{} {}\n  {}\n  log: {error}",
                    error.status().as_u16(),
                    message.title,
                    message.sentence
                )
            })
            .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
