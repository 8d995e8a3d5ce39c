//! The names under which an appliance that is open to everybody answers.
//!
//! Where nobody signs in, a page of another site could have its own name resolve to this
//! appliance and so read it as its own origin (DNS rebinding). Such a request carries the other
//! site's name as its `Host`. With sessions there is no such danger: a cookie knows its host.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header;

use super::WebConfig;

/// Whether everything that the request calls this appliance is a name of its own.
pub(super) fn is_own(config: &WebConfig, request: &Request) -> bool {
    let mut called = request
        .headers()
        .get_all(header::HOST)
        .iter()
        .map(|value| value.to_str().unwrap_or_default());
    let by_address = request
        .uri()
        .authority()
        .map(axum::http::uri::Authority::as_str);
    let Some(first) = by_address.or_else(|| called.next()) else {
        return false;
    };
    is_own_authority(config, first) && called.all(|authority| is_own_authority(config, authority))
}

/// The host of the configured URL or of SSH, `localhost`, or an address; any port.
fn is_own_authority(config: &WebConfig, authority: &str) -> bool {
    let Some(host) = host(authority) else {
        return false;
    };
    let is_address = host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok();
    let url = config
        .url
        .split_once("://")
        .map_or(config.url.as_str(), |(_, rest)| rest);
    let own = [
        host_of_url(url),
        Some(plain(&config.ssh_host)),
        Some("localhost"),
    ];
    is_address
        || own
            .into_iter()
            .flatten()
            .any(|name| name.eq_ignore_ascii_case(host))
}

fn host_of_url(url: &str) -> Option<&str> {
    let authority = url.split(['/', '?', '#']).next()?;
    host(
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host),
    )
}

/// The host in `host:port`; none where that is malformed.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let has_port = port
        .strip_prefix(':')
        .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let host = plain(host);
    ((port.is_empty() || has_port) && !host.is_empty()).then_some(host)
}

/// A name without the dot that ends an absolute one.
fn plain(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::super::Auth;
    use super::*;

    fn config() -> WebConfig {
        WebConfig {
            url: "https://Git.example.org:8443/quire".to_owned(),
            auth: Auth::Open,
            ssh_user: "git".to_owned(),
            ssh_host: "nas".to_owned(),
            ssh_port: 2222,
        }
    }

    #[test]
    fn its_own_names_and_addresses_and_no_other() {
        for own in [
            "git.example.org",
            "GIT.example.org:3000",
            "git.example.org.",
            "nas:3000",
            "localhost",
            "LOCALHOST.:80",
            "192.168.1.4:3000",
            "[::1]:3000",
            "[fd00::1]",
        ] {
            assert!(is_own_authority(&config(), own), "{own}");
        }
        for other in [
            "evil.example",
            "git.example.org.evil.example",
            "evil.git.example.org",
            "nas.evil.example:3000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "user@nas",
            "nas:80:80",
            "nas:x",
            "[::1",
            "[nas.evil.example]:1",
            "[::1]evil",
            "",
            ":80",
            "example.org",
        ] {
            assert!(!is_own_authority(&config(), other), "{other}");
        }
    }

    #[test]
    fn all_that_a_request_says_counts() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header("host", *host);
            }
            is_own(&config(), &request.body(axum::body::Body::empty()).unwrap())
        };
        assert!(
            request("/", &["nas"])
                && request("http://nas/", &["nas"])
                && request("http://nas/", &[])
        );
        assert!(
            !request("/", &[])
                && !request("/", &["nas", "evil.example"])
                && !request("http://evil.example/", &["nas"])
        );
        assert!(!request("http://nas/", &["evil.example"]));
    }
}
