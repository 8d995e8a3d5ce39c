//! The address of the client of a request, also behind proxies.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use super::connection_limit::TrustedProxies;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientAddress(pub(super) IpAddr);

impl ClientAddress {
    /// The peer of the connection. If that is a trusted proxy, the address that the proxy names in `X-Forwarded-For`,
    /// and so on while that is one. What another client writes into the header counts for nothing.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let named = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .rev()
            .flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let mut address = peer.to_canonical();
        for text in named {
            if !proxies.holds(address) {
                break;
            }
            match parse(text.trim()) {
                Some(next) => address = next,
                None => break,
            }
        }
        Self(address)
    }
}

/// An address, which some proxies write with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    Some(address.or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let proxies = TrustedProxies::new(|address| {
            address.is_loopback() || address.to_string().starts_with("172.18.")
        });
        let of = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let ClientAddress(address) =
                ClientAddress::of(peer.parse().unwrap(), &headers, &proxies);
            address.to_string()
        };
        assert_eq!(of("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(of("192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
        assert_eq!(of("::ffff:127.0.0.1", &["10.0.0.1"]), "10.0.0.1");
        assert_eq!(of("172.18.0.3", &["6.6.6.6, 10.0.0.1:5000"]), "10.0.0.1");
        assert_eq!(of("172.18.0.3", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(
            of("172.18.0.3", &["6.6.6.6", "10.0.0.1, 172.18.0.9"]),
            "10.0.0.1"
        );
        assert_eq!(of("172.18.0.3", &["6.6.6.6, nonsense"]), "172.18.0.3");
        assert_eq!(of("127.0.0.1", &[]), "127.0.0.1");
    }
}
