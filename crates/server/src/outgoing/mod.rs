//! Connections that quire makes to servers on other machines, and HTTP over them. Redirects and proxies are not followed.

mod answer;
mod connection;
mod connection_error;
mod kept_connection;

/// How requests name the program.
pub(crate) const PROGRAM_NAME: &str = concat!("quire/", env!("CARGO_PKG_VERSION"));

pub(crate) use answer::{error_words, quote, read_answer};
pub(crate) use connection::{IoStream, connect, secure};
pub(crate) use connection_error::ConnectionError;
pub(crate) use kept_connection::{KeptConnection, OpenConnection};
