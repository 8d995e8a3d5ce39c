//! SSH keys, and the options of an ssh that knows no others.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::program::run_ok;

/// Which host keys a client takes.
#[derive(Debug, Clone, Copy)]
pub enum HostKeys<'a> {
    /// Those of this file only.
    Known(&'a Path),
    /// The first one that it sees, which it writes to this file.
    AcceptNew(&'a Path),
}

/// Makes a key pair, the public half beside it with the extension `pub`; returns the public half's line.
pub fn generate_key(file: &Path, comment: &str) -> String {
    run_ok(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(file),
    );
    fs::read_to_string(file.with_extension("pub")).unwrap()
}

/// The options of an ssh, scp or sftp that has this key and nothing of the machine's settings.
pub fn ssh_options(key: &Path, host_keys: HostKeys) -> Vec<String> {
    let (checking, file) = match host_keys {
        HostKeys::Known(file) => ("yes", file),
        HostKeys::AcceptNew(file) => ("accept-new", file),
    };
    let mut options = vec![
        "-F".to_owned(),
        "none".to_owned(),
        "-i".to_owned(),
        key.display().to_string(),
    ];
    // Else ssh warns that it added a host key.
    if matches!(host_keys, HostKeys::AcceptNew(_)) {
        options.extend(["-o".to_owned(), "LogLevel=ERROR".to_owned()]);
    }
    for setting in [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        &format!("StrictHostKeyChecking={checking}"),
        &format!("UserKnownHostsFile={}", file.display()),
        "GlobalKnownHostsFile=/dev/null",
        "ConnectTimeout=30",
    ] {
        options.extend(["-o".to_owned(), setting.to_owned()]);
    }
    options
}
