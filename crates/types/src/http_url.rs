//! The URL of an HTTP request that quire makes.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::url_host::{host_in_url, split_authority};

/// An absolute URL with the scheme `http` or `https` and without a user. Its path and query may be a secret, so neither
/// `Debug` nor [`HttpUrl::origin`] has them.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    host: String,
    port: Option<u16>,
    is_tls: bool,
    path_and_query: String,
}

/// Text that is no such URL. The text may be a secret, so it is not part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URL such as `https://host.example/path`")]
pub struct InvalidHttpUrl;

impl FromStr for HttpUrl {
    type Err = InvalidHttpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidHttpUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidHttpUrl)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(InvalidHttpUrl),
        };
        let authority = uri.authority().ok_or(InvalidHttpUrl)?;
        let (host, port) = split_authority(authority.as_str()).ok_or(InvalidHttpUrl)?;
        Ok(Self {
            host: host.to_owned(),
            port,
            is_tls,
            path_and_query: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned()),
        })
    }
}

impl HttpUrl {
    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is that of the scheme if the URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The target of a request.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Host and port, for the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = host_in_url(&self.host);
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.into_owned(),
        }
    }

    /// The same server with another path: the one of this URL, followed by `path`. Without a query.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let base = self.path().trim_end_matches('/');
        Self {
            path_and_query: format!("{base}/{path}"),
            ..self.clone()
        }
    }

    /// What precedes the last name of the path, and this name. `None` if the path ends with `/` or the URL has a query.
    #[must_use]
    pub fn split_last_name(&self) -> Option<(Self, &str)> {
        let (base, name) = self.path_and_query.rsplit_once('/')?;
        if name.is_empty() || self.has_query() {
            return None;
        }
        let base = Self {
            path_and_query: format!("{base}/"),
            ..self.clone()
        };
        Some((base, name))
    }

    /// Whether there is a query, be it an empty one.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.path_and_query.contains('?')
    }

    fn path(&self) -> &str {
        let path = self.path_and_query.split('?').next();
        path.unwrap_or_default()
    }

    /// Whether both have the same scheme, host and port.
    #[must_use]
    pub fn has_same_server(&self, other: &Self) -> bool {
        self.is_tls == other.is_tls
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.port() == other.port()
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpUrl").field(&self.origin()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |text: &str| {
            let url: HttpUrl = text.parse().ok()?;
            Some(format!(
                "{} | {} | {} | {}",
                url.origin(),
                url.host(),
                url.port(),
                url.path_and_query()
            ))
        };
        let lines: Vec<String> = [
            "https://ntfy.example.org/ci?auth=x",
            "http://h",
            "http://[::1]:3000/x",
            "https://h:0443/",
            "ftp://h/",
            "https://user:password@h/",
            "https:///x",
            "/x",
            "https://h:x/",
            "https://h:70000/",
            "https://h/a b",
            "",
        ]
        .iter()
        .map(|text| {
            format!(
                "{text} -> {}",
                parts(text).unwrap_or_else(|| "-".to_owned())
            )
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        https://ntfy.example.org/ci?auth=x -> https://ntfy.example.org | ntfy.example.org | 443 | /ci?auth=x
        http://h -> http://h | h | 80 | /
        http://[::1]:3000/x -> http://[::1]:3000 | ::1 | 3000 | /x
        https://h:0443/ -> https://h:443 | h | 443 | /
        ftp://h/ -> -
        https://user:password@h/ -> -
        https:///x -> -
        /x -> -
        https://h:x/ -> -
        https://h:70000/ -> -
        https://h/a b -> -
         -> -
        ");
        let url: HttpUrl = "https://h/secret".parse().unwrap();
        assert_eq!(format!("{url:?}"), "HttpUrl(\"https://h\")");
    }

    #[test]
    fn paths_are_joined_and_split() {
        let url = |text: &str| text.parse::<HttpUrl>().unwrap();
        let joined = |text: &str| url(text).join("message").path_and_query;
        assert_eq!(
            [
                "https://h",
                "https://h/",
                "https://h/a/b/",
                "https://h/a?x=/y"
            ]
            .map(joined),
            ["/message", "/message", "/a/b/message", "/a/message"]
        );
        let split = |text: &str| {
            let url = url(text);
            let (base, name) = url.split_last_name()?;
            Some(format!("{} {name}", base.path_and_query))
        };
        assert_eq!(split("https://h/alerts").as_deref(), Some("/ alerts"));
        assert_eq!(split("https://h/a/b").as_deref(), Some("/a/ b"));
        assert_eq!(
            ["https://h", "https://h/a/", "https://h/a?b=c"].map(split),
            [None, None, None]
        );
    }
}
