//! How ssh is started for a remote: without any configuration, with one key, and for one host.

use std::net::IpAddr;
use std::path::Path;

use tokio::process::Command;

use super::git::Git;
use super::remote_access::{RemoteAccess, RemoteLogin};

/// Under which name the host key of a remote is looked up in its file.
pub(super) const HOST_ALIAS: &str = "mirror";

impl Git {
    /// An ssh that has the remote run a command, which its shell reads. It is killed when it is dropped.
    #[expect(clippy::disallowed_methods, reason = "the one place that starts ssh")]
    pub(crate) fn remote_ssh(&self, remote: &RemoteAccess, command: &[&str]) -> Command {
        let url = &remote.url;
        let host = match url.user() {
            Some(user) => format!("{user}@{}", url.host()),
            None => url.host().to_owned(),
        };
        let words = ssh_words(remote);
        let (program, options) = words
            .split_first()
            .map_or(("false", &[][..]), |(program, options)| {
                (program.as_str(), options)
            });
        let mut ssh = std::process::Command::new(program);
        ssh.env_clear()
            .envs(self.environment())
            .args(options)
            .args(["-p", &url.port().to_string(), "--", &host])
            .arg(shell_words::join(command));
        let mut ssh = Command::from(ssh);
        ssh.kill_on_drop(true);
        ssh
    }
}

/// An ssh that reads no configuration, offers one key, and knows one host.
pub(super) fn ssh_words(remote: &RemoteAccess) -> Vec<String> {
    let RemoteLogin::Key {
        private_key,
        known_hosts,
        accept_new,
    } = &remote.login
    else {
        return vec!["false".to_owned()];
    };
    let checking = if *accept_new { "accept-new" } else { "yes" };
    let address = remote.addresses.first().map(IpAddr::to_string);
    let mut words = vec!["ssh".to_owned(), "-F".to_owned(), "none".to_owned()];
    for setting in [
        format!("IdentityFile={}", quoted(private_key)),
        format!("UserKnownHostsFile={}", quoted(known_hosts)),
        format!("StrictHostKeyChecking={checking}"),
        format!("HostKeyAlias={HOST_ALIAS}"),
        format!("HostName={}", address.unwrap_or_default()),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        "BatchMode=yes".to_owned(),
        "PreferredAuthentications=publickey".to_owned(),
        "CheckHostIP=no".to_owned(),
        "HashKnownHosts=no".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        "ControlMaster=no".to_owned(),
        "ControlPath=none".to_owned(),
        "ConnectTimeout=30".to_owned(),
        "ServerAliveInterval=15".to_owned(),
        "ServerAliveCountMax=4".to_owned(),
    ] {
        words.extend(["-o".to_owned(), setting]);
    }
    words
}

/// A path for an option of ssh.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::secret::Redactor;

    #[test]
    fn ssh_knows_one_key_and_one_host() {
        let remote = RemoteAccess {
            url: "git@nas:app.git".parse().unwrap(),
            addresses: vec!["192.0.2.7".parse().unwrap()],
            login: RemoteLogin::Key {
                private_key: "/var/it's/id".into(),
                known_hosts: "/var/known hosts".into(),
                accept_new: false,
            },
            redactor: Redactor::default(),
        };
        insta::assert_snapshot!(shell_words::join(ssh_words(&remote)).replace(" '-o' ", "\n"));
    }
}
