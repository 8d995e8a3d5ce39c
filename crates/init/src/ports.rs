//! Whether the ports are free. Natively another program may use them; in the container none can.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::error::InitError;
use super::settings::InitSettings;

pub(super) fn check(settings: &InitSettings) -> Result<(), InitError> {
    if settings.scripts.sshd.is_none() {
        check_port(settings, "sshd", settings.ssh_port, "--ssh-port")?;
    }
    if settings.scripts.serve.is_none() {
        check_port(
            settings,
            "the web server",
            settings.http_port,
            "--http-port",
        )?;
    }
    if settings.ssh_port == settings.http_port && settings.scripts.sshd.is_none() {
        return Err(InitError::PortInUse {
            server: "the web server",
            address: SocketAddr::new(settings.listen, settings.http_port),
            flag: "--http-port",
        });
    }
    Ok(())
}

fn check_port(
    settings: &InitSettings,
    server: &'static str,
    port: u16,
    flag: &'static str,
) -> Result<(), InitError> {
    let address = SocketAddr::new(settings.listen, port);
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(InitError::PortInUse {
            server,
            address,
            flag,
        }),
        Err(source) => Err(InitError::Port {
            server,
            address,
            flag,
            source,
        }),
    }
}
