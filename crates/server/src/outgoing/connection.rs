//! Connections to servers: the name is resolved, each address is checked, and a checked address is connected to.
//!
//! The name is resolved once for each connection. What is connected to are the very addresses that were checked, so a server of
//! names that answers something else the next time is not asked again.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection_error::ConnectionError;
use crate::addresses::{AddressError, ReachableAddresses, permitted};
use crate::tls_roots::system_roots;
use quire_runtime::blocking::run_blocking;

/// A connection, with or without TLS.
pub(crate) trait IoStream: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug> IoStream for T {}

/// Connects to the first address of a host that is permitted and answers.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    reachable: ReachableAddresses<'_>,
) -> Result<TcpStream, ConnectionError> {
    let mut failed = None;
    for address in permitted((host, port), reachable).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => failed = Some(ConnectionError::Connect { address, source }),
        }
    }
    let none = || AddressError::Resolve {
        host: host.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    };
    Err(failed.unwrap_or_else(|| none().into()))
}

/// Makes a TLS connection of a connection, if the server's certificate is valid for the host.
pub(crate) async fn secure(
    stream: TcpStream,
    host: &str,
) -> Result<Box<dyn IoStream>, ConnectionError> {
    let tls = |source| ConnectionError::Tls {
        host: host.to_owned(),
        source,
    };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| tls(io::Error::other(error)))?;
    let config = run_blocking(tls_config).await??;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(tls)?;
    Ok(Box::new(stream))
}

/// Trusts the certificates of the system.
fn tls_config() -> Result<ClientConfig, ConnectionError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConnectionError::Certificates)?;
    Ok(builder
        .with_root_certificates(system_roots())
        .with_no_client_auth())
}
