//! `quire init`: parses its flags and calls [`quire_init`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use quire_init::InitOptions;

/// Start the appliance: check everything, then supervise sshd and `quire serve`.
///
/// It also reads these environment variables: PUID, PGID, QUIRE_AUTHORIZED_KEYS, QUIRE_GRACE (how many seconds a
/// stop may take), QUIRE_DATA, QUIRE_RUNTIME and, with --native, QUIRE_SSH_PORT and QUIRE_HTTP_PORT.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Init {
    /// Run without a container, as the current user
    #[arg(long)]
    native: bool,
    /// Data folder [default: /var/quire; with --native ~/.local/share/quire]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of the SSH server [default: 2222]
    #[arg(long, value_name = "PORT", requires = "native", value_parser = clap::value_parser!(u16).range(1..))]
    ssh_port: Option<u16>,
    /// Port of the web server [default: 3000]
    #[arg(long, value_name = "PORT", requires = "native", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,
    /// Address that both servers listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", requires = "native")]
    listen: Option<IpAddr>,
    /// Additional file of public keys that can connect
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// For tests: runs a script with `sh` in place of a child
    #[arg(long = "child", value_name = "NAME=SCRIPT", hide = true)]
    children: Vec<String>,
    /// For tests: does not reap adopted processes
    #[arg(long, hide = true)]
    leave_zombies: bool,
}

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
    quire_init::main(InitOptions {
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
