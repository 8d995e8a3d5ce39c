//! Hosts and origins: of URLs, of `Host` headers and of `Origin` headers.
//!
//! The guards against DNS rebinding and cross-site requests depend on these functions, so they accept
//! only what they understand completely: everything else is `None`.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::Uri;
use http::uri::Authority;

/// Scheme, host and port of a URL or of an `Origin` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    scheme: String,
    authority: String,
}

impl WebOrigin {
    /// The origin of a URL.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?.as_str();
        host_of_authority(authority)?;
        Some(Self {
            scheme: uri.scheme_str()?.to_ascii_lowercase(),
            authority: authority.to_ascii_lowercase(),
        })
    }

    /// Parses an `Origin` header, which has neither a path nor a query.
    #[must_use]
    pub fn of_header(header: &str) -> Option<Self> {
        let origin = Self::of_url(header)?;
        let text = format!("{}://{}", origin.scheme, origin.authority);
        text.eq_ignore_ascii_case(header).then_some(origin)
    }

    /// Whether `authority`, such as a `Host` header, is the host and port of this origin.
    #[must_use]
    pub fn has_authority(&self, authority: &str) -> bool {
        self.authority.eq_ignore_ascii_case(authority)
    }
}

/// The host of a URL: an IPv6 address without brackets, a name without the dot at its end.
#[must_use]
pub fn host_of_url(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    uri.scheme()?;
    host_of_authority(uri.authority()?.as_str()).map(str::to_owned)
}

/// The host of `host[:port]`, as in a `Host` header.
#[must_use]
pub fn host_of_authority(text: &str) -> Option<&str> {
    let authority: Authority = text.parse().ok()?;
    // The parser skips a user (`user@host`) and accepts any text after an address in brackets.
    let rest = text.strip_prefix(authority.host())?;
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if !rest.is_empty() && !rest.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let host = &text[..text.len() - rest.len()];
    let host = match host.strip_prefix('[') {
        Some(address) => {
            let address = address.strip_suffix(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            address
        }
        // The parser of `http` accepts brackets anywhere.
        None if host.contains(['[', ']']) => return None,
        None => without_final_dot(host),
    };
    (!host.is_empty()).then_some(host)
}

/// Host and port of `host[:port]`.
#[must_use]
pub fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let host = host_of_authority(text)?;
    let after_host = text.rsplit(']').next().unwrap_or_default();
    let port = match after_host.split_once(':') {
        Some((_, port)) => Some(port.parse().ok()?),
        None => None,
    };
    Some((host, port))
}

/// A host as it is written in a URL: an IPv6 address in brackets.
#[must_use]
pub fn host_in_url(host: &str) -> Cow<'_, str> {
    if host.contains(':') {
        format!("[{host}]").into()
    } else {
        host.into()
    }
}

/// A name without the dot that may end an absolute one.
#[must_use]
pub fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found() {
        for (url, host) in [
            ("https://git.example.org", Some("git.example.org")),
            ("http://[::1]:3000/x", Some("::1")),
            ("http://h:1/", Some("h")),
            ("http://h./x?y#z", Some("h")),
            ("nonsense", None),
            ("http://", None),
            ("http:///x", None),
            ("http://user@h/", None),
        ] {
            assert_eq!(host_of_url(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn the_host_of_an_authority_is_strict() {
        for (authority, host) in [
            ("nas", Some("nas")),
            ("nas:3000", Some("nas")),
            ("Git.example.org.", Some("Git.example.org")),
            ("192.168.1.4:3000", Some("192.168.1.4")),
            ("[fd00::1]", Some("fd00::1")),
            ("[::1]:3000", Some("::1")),
            ("", None),
            (".", None),
            (":80", None),
            ("user@nas", None),
            ("user:pass@nas:80", None),
            ("nas@evil", None),
            ("nas:80:80", None),
            ("nas:x", None),
            ("nas/", None),
            ("nas?x", None),
            ("[::1", None),
            ("[::1]evil", None),
            ("[::1]:x", None),
            ("[nas]:1", None),
            ("[::1]@evil", None),
            ("[::1]:80@evil", None),
            ("nas[]", None),
        ] {
            assert_eq!(host_of_authority(authority), host, "{authority}");
        }
    }

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        let origin = WebOrigin::of_header("https://Git.example.org:8443").unwrap();
        assert_eq!(
            WebOrigin::of_url("https://git.example.org:8443/quire?x"),
            Some(origin.clone())
        );
        assert!(origin.has_authority("git.example.org:8443"));
        assert!(!origin.has_authority("git.example.org"));
        for other in [
            "http://git.example.org:8443",
            "https://git.example.org",
            "https://git.example.org.evil.example:8443",
        ] {
            assert_ne!(WebOrigin::of_header(other), Some(origin.clone()), "{other}");
        }
        for header in [
            "null",
            "",
            "https://",
            "https://nas/",
            "https://nas/x",
            "nas:80",
            "https://user@nas",
        ] {
            assert_eq!(WebOrigin::of_header(header), None, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_host_is_always_a_part_of_the_text(text in "[a-z0-9.:@\\[\\]/?#-]{0,24}") {
            if let Some(host) = host_of_authority(&text) {
                proptest::prop_assert!(!host.is_empty() && text.contains(host));
                proptest::prop_assert!(!host.contains(['@', '/', '?', '#', '[', ']']));
            }
        }
    }
}
