//! `quire init`: its flags, and the way into [`crate::init`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::init::{self, Options};

/// Start the appliance: check everything, then supervise sshd and `quire serve`.
///
/// Also read from the environment: PUID, PGID, QUIRE_AUTHORIZED_KEYS, QUIRE_GRACE (seconds that a stop may take),
/// QUIRE_DATA, QUIRE_RUNTIME and, with --native, QUIRE_SSH_PORT and QUIRE_HTTP_PORT.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Init {
    /// Run without a container, as the present user
    #[arg(long)]
    native: bool,
    /// Folder of all data [default: /var/quire; natively ~/.local/share/quire]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of the SSH server [default: 2222]
    #[arg(long, value_name = "PORT", requires = "native", value_parser = clap::value_parser!(u16).range(1..))]
    ssh_port: Option<u16>,
    /// Port of the web [default: 3000]
    #[arg(long, value_name = "PORT", requires = "native", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,
    /// Address that both listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", requires = "native")]
    listen: Option<IpAddr>,
    /// A further file of public keys that may connect
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// For tests: a script under `sh` in the place of a child
    #[arg(long = "child", value_name = "NAME=SCRIPT", hide = true)]
    children: Vec<String>,
    /// For tests: leave adopted processes unreaped
    #[arg(long, hide = true)]
    leave_zombies: bool,
}

/// Runs it until it is told to stop.
pub(super) fn run(init: Init) -> ExitCode {
    let Init {
        native,
        data,
        ssh_port,
        http_port,
        listen,
        keys,
        children,
        leave_zombies,
    } = init;
    init::main(Options {
        native,
        data,
        ssh_port,
        http_port,
        listen,
        keys,
        children,
        leave_zombies,
    })
}
