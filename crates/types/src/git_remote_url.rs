//! The address of a repository on another machine.

use std::fmt;
use std::str::FromStr;

use crate::http_url::HttpUrl;
use crate::text::is_unprintable;
use crate::url_host::{host_in_url, split_authority};

/// The longest address, in bytes.
const MAX_LENGTH: usize = 1024;

/// `https://host/path`, `ssh://[user@]host[:port]/path` or `user@host:path`. It holds no password and no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRemoteUrl {
    text: String,
    /// For SSH, if one is named.
    user: Option<String>,
    host: String,
    port: u16,
    /// As the other side is told it.
    path: String,
    transport: RemoteTransport,
}

/// How a remote is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteTransport {
    /// HTTP over TLS.
    Https,
    /// SSH.
    Ssh,
}

/// Text that is no such address. The text may contain a secret, so it is not part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address such as `https://host.example/app.git` or `git@host.example:app.git`")]
pub struct InvalidRemoteUrl;

impl FromStr for GitRemoteUrl {
    type Err = InvalidRemoteUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRemoteUrl> {
        let is_plain = |c: char| !c.is_whitespace() && !is_unprintable(c);
        if text.len() > MAX_LENGTH || !text.chars().all(is_plain) {
            return Err(InvalidRemoteUrl);
        }
        parse(text).ok_or(InvalidRemoteUrl)
    }
}

fn parse(text: &str) -> Option<GitRemoteUrl> {
    let url = if let Some(rest) = text.strip_prefix("ssh://") {
        let (authority, path) = rest.split_once('/')?;
        let (user, host) = split_user(authority)?;
        let (host, port) = split_authority(host)?;
        // A path below the home folder of the user begins with `~`.
        let root = if path.starts_with('~') { "" } else { "/" };
        (!path.is_empty()).then(|| GitRemoteUrl {
            text: text.to_owned(),
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: port.unwrap_or(22),
            path: format!("{root}{path}"),
            transport: RemoteTransport::Ssh,
        })?
    } else if text.contains("://") {
        let url: HttpUrl = text.parse().ok()?;
        let has_path = url.path_and_query().len() > 1 && !url.has_query() && !text.contains('#');
        (url.is_tls() && has_path).then(|| GitRemoteUrl {
            text: text.to_owned(),
            user: None,
            host: url.host().to_owned(),
            port: url.port(),
            path: url.path_and_query().to_owned(),
            transport: RemoteTransport::Https,
        })?
    } else {
        let (authority, path) = text.split_once(':')?;
        let (user, host) = split_user(authority)?;
        let (host, port) = split_authority(host)?;
        let is_remote = port.is_none() && !path.is_empty() && user.is_some();
        is_remote.then(|| GitRemoteUrl {
            text: text.to_owned(),
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: 22,
            path: path.to_owned(),
            transport: RemoteTransport::Ssh,
        })?
    };
    // ssh and git would take it for an option.
    (!url.host.starts_with('-')).then_some(url)
}

/// The user of `[user@]host[:port]`, and the rest. A password is not accepted.
fn split_user(authority: &str) -> Option<(Option<&str>, &str)> {
    let Some((user, host)) = authority.split_once('@') else {
        return Some((None, authority));
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_user = !user.is_empty() && !user.starts_with('-') && user.bytes().all(is_plain);
    is_user.then_some((Some(user), host))
}

impl GitRemoteUrl {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is that of the transport if the address names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user for SSH, if the address names one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The path of the repository, as the other side is told it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it is reached.
    #[must_use]
    pub fn transport(&self) -> RemoteTransport {
        self.transport
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", host_in_url(&self.host), self.port)
    }
}

impl fmt::Display for GitRemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_remotes() {
        let lines: Vec<String> = [
            "https://github.com/me/app.git",
            "https://[::1]:3000/app",
            "ssh://git@nas:2222/app",
            "ssh://nas/~/app.git",
            "ssh://git@[fd00::1]:22/app",
            "git@github.com:me/app.git",
            "http://github.com/me/app.git",
            "https://user:token@github.com/app",
            "https://github.com",
            "https://github.com/app?x=y",
            "https://github.com/app#x",
            "ssh://git:password@nas/app",
            "ssh://-oProxyCommand=x/app",
            "ssh://-x@nas/app",
            "ssh://git@nas",
            "-oProxyCommand=x@nas:app",
            "nas:app",
            "/srv/app.git",
            "file:///srv/app.git",
            "ext::sh -c x",
            "git@nas:a b",
            "git@nas:a\u{202e}b",
            "",
        ]
        .iter()
        .map(|text| match text.parse::<GitRemoteUrl>() {
            Ok(url) => format!(
                "{text} -> {:?} {} {} {}",
                url.transport(),
                url.user().unwrap_or("-"),
                url.authority(),
                url.path()
            ),
            Err(_) => format!("{} -> -", text.escape_debug()),
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
