//! Connections to receivers: the name is resolved, each address is checked, and a checked address is connected to.

use std::fmt::Debug;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::delivery_error::DeliveryError;
use crate::addresses::{AddressRange, permitted};
use crate::tls_roots::system_roots;
use quire_runtime::blocking::run_blocking;
use quire_types::network::Network;

/// A connection, with or without TLS.
pub(super) trait IoStream: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug> IoStream for T {}

/// Connects to the first address of a host that is permitted and answers.
pub(super) async fn connect(
    host: &str,
    port: u16,
    allowed: &[Network],
) -> Result<TcpStream, DeliveryError> {
    let mut failed = None;
    for address in permitted((host, port), AddressRange::Private, allowed).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => failed = Some(DeliveryError::Connect { address, source }),
        }
    }
    Err(failed.unwrap_or(DeliveryError::TimedOut))
}

/// Makes a TLS connection of a connection, if the receiver's certificate is valid for the host.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
) -> Result<Box<dyn IoStream>, DeliveryError> {
    let tls = |source| DeliveryError::Tls {
        host: host.to_owned(),
        source,
    };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| tls(std::io::Error::other(error)))?;
    let config = run_blocking(tls_config).await??;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(tls)?;
    Ok(Box::new(stream))
}

/// Trusts the certificates of the system.
fn tls_config() -> Result<ClientConfig, DeliveryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(DeliveryError::Certificates)?;
    Ok(builder
        .with_root_certificates(system_roots())
        .with_no_client_auth())
}
