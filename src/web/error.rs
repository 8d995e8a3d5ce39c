//! What went wrong, as a status and one sentence for the person outside. Details go to the log.
//!
//! A [`WebError`] becomes a bare response that carries an [`Outside`]; the outermost layer
//! ([`super::page::finish`]) knows who asked and dresses it as a page or as JSON.

use std::io;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::causes::with_causes;
use crate::store::StoreError;
use crate::token::NoRandomness;

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// No such thing, or not for this person: the two are told apart by nobody.
    #[error("there is nothing at this address")]
    NotFound,
    /// The page needs a session.
    #[error("this page is for those who are signed in")]
    SignIn,
    /// The request's parameters cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// The request came from another site.
    #[error("this request did not come from a page of this appliance")]
    CrossSite,
    /// Open to everybody, and called by a name that is not its own.
    #[error("the request calls this appliance by a name that it does not know")]
    OtherName,
    /// A login link that is used up, too old, or was never one.
    #[error("this link has been used already, or is older than five minutes")]
    LinkSpent,
    /// Too late for what was asked.
    #[error("{0}")]
    Conflict(&'static str),
    /// The cap on live followers is reached.
    #[error("too many pages follow live already")]
    TooManyFollowers,
    /// The handler took too long.
    #[error("the answer took too long")]
    Slow,
    /// The database failed.
    #[error("the database did not answer")]
    Store(#[source] StoreError),
    /// A file could not be read.
    #[error("cannot {attempt}")]
    Io {
        /// What was attempted, with the path.
        attempt: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A page could not be rendered.
    #[error("the page could not be rendered")]
    Render(#[from] askama::Error),
    /// No session token could be made.
    #[error("no session could be made")]
    Token(#[from] NoRandomness),
    /// A task of our own died.
    #[error("a task of the web server ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchRun { .. } => Self::NotFound,
            StoreError::AmbiguousRun { .. } => {
                Self::BadRequest("more than one run begins so: give more of its id".to_owned())
            }
            other => Self::Store(other),
        }
    }
}

/// What a person outside is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outside {
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
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::OtherName => StatusCode::MISDIRECTED_REQUEST,
            Self::LinkSpent => StatusCode::GONE,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyFollowers | Self::Slow | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Io { .. } | Self::Render(_) | Self::Token(_) | Self::Task(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn outside(&self) -> Outside {
        let (title, sentence) = match self {
            Self::NotFound => ("Nothing here", "There is nothing at this address, or nothing that you may see.".to_owned()),
            Self::SignIn => ("Sign in", "This appliance shows its repositories to those who are signed in.".to_owned()),
            Self::BadRequest(why) => ("Cannot read that", format!("{}.", why.trim_end_matches('.'))),
            Self::CrossSite => ("Refused", "The request did not come from a page of this appliance, so it was not done.".to_owned()),
            Self::OtherName => (
                "Not a name of this appliance",
                "It is open to everybody, so it answers only to the host of `:http {:url …}` (QUIRE_HTTP_URL) or `:ssh {:host …}`, \
                 to localhost and to IP addresses: set one of them to the name that you use."
                    .to_owned(),
            ),
            Self::LinkSpent => ("This link is used up", "A sign-in link works once, for five minutes. Ask for a new one.".to_owned()),
            Self::Conflict(why) => ("Too late", (*why).to_owned()),
            Self::TooManyFollowers => {
                ("Too many followers", "Too many pages follow live already. Close some, then load this one again.".to_owned())
            }
            Self::Slow | Self::Store(_) => ("Not now", "The appliance is too busy to answer. Try again in a moment.".to_owned()),
            Self::Io { .. } | Self::Render(_) | Self::Token(_) | Self::Task(_) => {
                ("Internal error", "This is a fault of quire's own. Its log says more.".to_owned())
            }
        };
        Outside { title, sentence }
    }
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), "web: {}", with_causes(&self));
        }
        let mut response = status.into_response();
        response.extensions_mut().insert(self.outside());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_outside_has_no_detail_from_within() {
        let error = WebError::Io {
            attempt: "read /var/quire/runs/work/x".to_owned(),
            source: io::Error::other("disk on fire"),
        };
        let outside = error.outside();
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            !outside.sentence.contains("/var") && !outside.sentence.contains("fire"),
            "{outside:?}"
        );
    }
}
