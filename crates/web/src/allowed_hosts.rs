//! The names under which an appliance that is open to everybody answers.
//!
//! If signing in is not required, a page of another site could have its own name resolve to this
//! appliance and so read it as its own origin (DNS rebinding). Such a request carries the other
//! site's name as its `Host`. With sessions there is no such danger: a cookie knows its host.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header;
use quire_types::url_host::{host_of_authority, host_of_url, without_final_dot};

use super::state::WebConfig;

/// Whether everything that the request calls this appliance is a name of its own.
pub(super) fn is_allowed(config: &WebConfig, request: &Request) -> bool {
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
    is_allowed_authority(config, first)
        && called.all(|authority| is_allowed_authority(config, authority))
}

/// Whether the host is that of the configured URL or of SSH, `localhost`, or an address. The port may
/// be any.
fn is_allowed_authority(config: &WebConfig, authority: &str) -> bool {
    let Some(host) = host_of_authority(authority) else {
        return false;
    };
    let url_host = host_of_url(&config.url);
    let own = [
        url_host.as_deref(),
        Some(without_final_dot(&config.ssh_host)),
        Some("localhost"),
    ];
    host.parse::<IpAddr>().is_ok()
        || own
            .into_iter()
            .flatten()
            .any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::super::state::SignInMethod;
    use super::super::strangers::StrangerSettings;
    use super::*;

    fn config() -> WebConfig {
        WebConfig {
            url: "https://Git.example.org:8443/quire".to_owned(),
            auth: SignInMethod::Open,
            ssh_user: "git".to_owned(),
            ssh_host: "nas".to_owned(),
            ssh_port: 2222,
            host_is_configured: true,
            strangers: StrangerSettings::default(),
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
            assert!(is_allowed_authority(&config(), own), "{own}");
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
            assert!(!is_allowed_authority(&config(), other), "{other}");
        }
    }

    #[test]
    fn all_that_a_request_says_counts() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header("host", *host);
            }
            is_allowed(&config(), &request.body(axum::body::Body::empty()).unwrap())
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
