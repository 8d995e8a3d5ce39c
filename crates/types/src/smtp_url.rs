//! The URL of a mail server.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::url_host::{host_in_url, split_authority};

/// `smtps://host[:port]`, with TLS from the beginning of the connection, or `smtp://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    host: String,
    port: Option<u16>,
    is_implicit_tls: bool,
}

/// Text that is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URL such as `smtps://host.example:465` or `smtp://host.example:587`")]
pub struct InvalidSmtpUrl;

impl FromStr for SmtpUrl {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidSmtpUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidSmtpUrl)?;
        let is_implicit_tls = match uri.scheme_str() {
            Some("smtps") => true,
            Some("smtp") => false,
            _ => return Err(InvalidSmtpUrl),
        };
        if !["", "/"].contains(&uri.path()) || uri.query().is_some() {
            return Err(InvalidSmtpUrl);
        }
        let authority = uri.authority().ok_or(InvalidSmtpUrl)?;
        let (host, port) = split_authority(authority.as_str()).ok_or(InvalidSmtpUrl)?;
        Ok(Self {
            host: host.to_owned(),
            port,
            is_implicit_tls,
        })
    }
}

impl SmtpUrl {
    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is 465 or 587 if the URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
            .unwrap_or(if self.is_implicit_tls { 465 } else { 587 })
    }

    /// Whether the connection begins with TLS.
    #[must_use]
    pub fn is_implicit_tls(&self) -> bool {
        self.is_implicit_tls
    }
}

impl fmt::Display for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_implicit_tls {
            "smtps"
        } else {
            "smtp"
        };
        write!(f, "{scheme}://{}:{}", host_in_url(&self.host), self.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_mail_servers() {
        let lines: Vec<String> = [
            "smtps://mail.example.org",
            "smtp://mail.example.org",
            "smtp://mail.example.org:25/",
            "smtps://[::1]:4650",
            "https://mail.example.org",
            "smtp://user:password@mail.example.org",
            "smtp://mail.example.org/path",
            "smtp://mail.example.org?x",
            "smtp://mail.example.org:99999",
            "mail.example.org:25",
            "",
        ]
        .iter()
        .map(|text| {
            let shown = text.parse::<SmtpUrl>().map(|url| url.to_string());
            format!("{text} -> {}", shown.unwrap_or_else(|_| "-".to_owned()))
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        smtps://mail.example.org -> smtps://mail.example.org:465
        smtp://mail.example.org -> smtp://mail.example.org:587
        smtp://mail.example.org:25/ -> smtp://mail.example.org:25
        smtps://[::1]:4650 -> smtps://[::1]:4650
        https://mail.example.org -> -
        smtp://user:password@mail.example.org -> -
        smtp://mail.example.org/path -> -
        smtp://mail.example.org?x -> -
        smtp://mail.example.org:99999 -> -
        mail.example.org:25 -> -
         -> -
        ");
    }
}
