//! Why no connection can be made, or a request was cut off.

use std::io;
use std::net::SocketAddr;

use crate::addresses::AddressError;
use quire_runtime::blocking::BlockingInterrupted;

/// Why a server was not reached, or did not answer to the end. No message contains the path of a URL or another secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no secure connection to {host} can be made")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("the certificates of the system cannot be used")]
    Certificates(#[source] rustls::Error),
    #[error("the request failed")]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
}
