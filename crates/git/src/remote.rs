//! Remotes on other machines: reading their refs, and pushing to them. [`super::remote_fetch`] fetches from them.
//!
//! Git runs on an empty repository that only borrows the objects of the one that is pushed. So neither the configuration of the
//! repository, which a session over SSH could write, nor that of the machine or of a user has an effect, and what is
//! pushed are exactly the objects that the caller names. A token is in the environment of the process alone. The host is
//! connected to at the address that the caller has checked.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::error::GitError;
use super::git::Git;
use super::object_format::ObjectFormat;
use super::remote_access::{RemoteAccess, RemoteLogin};
use super::remote_output::{PushedRef, RemoteError, parse_push};
use super::remote_refs::{RemoteRefs, parse_refs};
use super::remote_ssh::ssh_words;
use quire_runtime::process::{Captured, Limits, capture};
use quire_types::names::{ObjectId, RefName};

/// How long reading the refs of a remote may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a push may take. A remote that sends nothing is given up earlier.
const PUSH_TIMEOUT: Duration = Duration::from_secs(3600);
/// How many bytes the list of refs of a remote may have: some have hundreds of thousands of refs.
const MAX_LIST: usize = 64 << 20;
/// How many refs one push has: a command line has a limit.
const MAX_PUSHED_REFS: usize = 500;

/// A change of one ref of a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefPush {
    pub ref_name: RefName,
    /// `None` deletes it.
    pub to: Option<ObjectId>,
}

impl Git {
    /// All refs of a remote.
    pub async fn remote_refs(&self, remote: &RemoteAccess) -> Result<RemoteRefs, RemoteError> {
        let empty = self.ensure_empty_repo(ObjectFormat::Sha1)?;
        let mut command = self.remote_command(&empty, remote);
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        command.args(["ls-remote", "--symref", "--", remote.url.as_str()]);
        let limits = Limits {
            deadline: LIST_TIMEOUT,
            output: MAX_LIST,
        };
        let ended = run(&mut command, remote, limits).await?;
        if ended.status.success() {
            Ok(parse_refs(&ended.stdout))
        } else {
            Err(RemoteError::of_output(&ended.stderr, remote.login.kind()))
        }
    }

    /// Pushes the objects of a repository to refs of a remote. `force` allows to move them to commits that do not contain the
    /// old ones. Returns what the remote said to each ref.
    pub async fn push_refs(
        &self,
        repo: &Path,
        format: ObjectFormat,
        remote: &RemoteAccess,
        refs: &[RefPush],
        force: bool,
    ) -> Result<Vec<PushedRef>, RemoteError> {
        let mut pushed = Vec::with_capacity(refs.len());
        for refs in refs.chunks(MAX_PUSHED_REFS) {
            let mut command = self.push_command(repo, format, remote)?;
            command.args(["push", "--porcelain", "--no-verify", "--no-follow-tags"]);
            command.args(["--no-signed", "--recurse-submodules=no", "--"]);
            command.arg(remote.url.as_str());
            command.args(refs.iter().map(|push| refspec(push, force)));
            let limits = Limits {
                deadline: PUSH_TIMEOUT,
                ..Limits::default()
            };
            let ended = run(&mut command, remote, limits).await?;
            let results = parse_push(&ended.stdout, &ended.stderr);
            if !ended.status.success() && results.iter().all(|pushed| pushed.result.is_ok()) {
                return Err(RemoteError::of_output(&ended.stderr, remote.login.kind()));
            }
            pushed.extend(results);
        }
        Ok(pushed)
    }

    /// A git process that pushes the objects of a repository, without any configuration but this.
    fn push_command(
        &self,
        repo: &Path,
        format: ObjectFormat,
        remote: &RemoteAccess,
    ) -> Result<Command, GitError> {
        let empty = self.ensure_empty_repo(format)?;
        let objects = repo.join("objects");
        let mut command = self.remote_command(&empty, remote);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env(
            "GIT_OBJECT_DIRECTORY",
            std::path::absolute(&objects).unwrap_or(objects),
        );
        Ok(command)
    }

    /// A git process for a remote, on a repository that no session can write. It is killed when it is dropped.
    pub(super) fn remote_command(&self, own_repo: &Path, remote: &RemoteAccess) -> Command {
        let mut command = self.command();
        command
            .arg("--git-dir")
            .arg(own_repo)
            .args(["-c", "credential.helper="]);
        match &remote.login {
            RemoteLogin::Anonymous => {
                command
                    .env("GIT_ALLOW_PROTOCOL", "https")
                    .args(http_settings(remote));
            }
            RemoteLogin::Token { user, token } => {
                command
                    .env("GIT_ALLOW_PROTOCOL", "https")
                    .env("QUIRE_REMOTE_USER", user)
                    .env("QUIRE_REMOTE_TOKEN", token.expose())
                    .args(http_settings(remote));
            }
            RemoteLogin::Key { .. } => {
                command
                    .env("GIT_ALLOW_PROTOCOL", "ssh")
                    .env("GIT_SSH_VARIANT", "ssh")
                    .env("GIT_SSH_COMMAND", shell_words::join(ssh_words(remote)));
            }
        }
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }
}

/// Prints what is in the environment; the shell's own `printf` has no command line.
const CREDENTIAL_HELPER: &str = "credential.helper=!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
     \"$QUIRE_REMOTE_USER\" \"$QUIRE_REMOTE_TOKEN\"; }; f";

fn http_settings(remote: &RemoteAccess) -> Vec<OsString> {
    let helper = match remote.login {
        RemoteLogin::Token { .. } => Some(CREDENTIAL_HELPER.into()),
        RemoteLogin::Anonymous | RemoteLogin::Key { .. } => None,
    };
    let mut settings: Vec<OsString> = helper.into_iter().collect();
    settings.extend([
        OsString::from("http.followRedirects=false"),
        "http.proxy=".into(),
        // A remote that sends or takes nothing for a minute is given up.
        "http.lowSpeedLimit=1".into(),
        "http.lowSpeedTime=60".into(),
    ]);
    let url = &remote.url;
    if url.host().parse::<IpAddr>().is_err() {
        let addresses: Vec<String> = remote.addresses.iter().map(in_resolve).collect();
        let (host, port) = (url.host(), url.port());
        settings.push(format!("http.curloptResolve={host}:{port}:{}", addresses.join(",")).into());
    }
    // The certificates that the notifications trust as well.
    for (variable, setting) in [
        ("SSL_CERT_FILE", "http.sslCAInfo="),
        ("SSL_CERT_DIR", "http.sslCAPath="),
    ] {
        if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
            let mut setting = OsString::from(setting);
            setting.push(path);
            settings.push(setting);
        }
    }
    let option = |setting| [OsString::from("-c"), setting];
    settings.into_iter().flat_map(option).collect()
}

fn in_resolve(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn refspec(push: &RefPush, force: bool) -> String {
    let name = push.ref_name.as_str();
    match &push.to {
        None => format!(":{name}"),
        Some(id) if force => format!("+{}:{name}", id.as_str()),
        Some(id) => format!("{}:{name}", id.as_str()),
    }
}

/// Runs git to its end. What it printed holds no secret.
async fn run(
    command: &mut Command,
    remote: &RemoteAccess,
    limits: Limits,
) -> Result<Captured, RemoteError> {
    let mut captured = capture(command, limits).await?;
    for output in [&mut captured.stdout, &mut captured.stderr] {
        let text = String::from_utf8_lossy(output);
        *output = remote.redactor.redact_text(&text).into_bytes();
    }
    Ok(captured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::secret::{Redactor, Secret};

    #[test]
    fn the_settings_of_https_hold_no_token() {
        let remote = RemoteAccess {
            url: "https://git.example.org/app.git".parse().unwrap(),
            addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            login: RemoteLogin::Token {
                user: "me".to_owned(),
                token: Secret::new("hunter2".to_owned()),
            },
            redactor: Redactor::default(),
        };
        let settings: Vec<String> = http_settings(&remote)
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .filter(|word| word != "-c" && !word.starts_with("http.sslCA"))
            .collect();
        insta::assert_snapshot!(settings.join("\n"));
    }

    #[test]
    fn refspecs_name_objects() {
        let id: ObjectId = "1111111111111111111111111111111111111111".parse().unwrap();
        let push = |to: Option<&ObjectId>| RefPush {
            ref_name: "refs/heads/main".parse().unwrap(),
            to: to.cloned(),
        };
        assert_eq!(refspec(&push(None), true), ":refs/heads/main");
        assert_eq!(
            refspec(&push(Some(&id)), true),
            "+1111111111111111111111111111111111111111:refs/heads/main"
        );
        assert_eq!(
            refspec(&push(Some(&id)), false),
            "1111111111111111111111111111111111111111:refs/heads/main"
        );
    }
}
