//! The addresses that settings have, read from text.

use std::net::Ipv6Addr;

use quire_types::url_host::host_of_authority;

/// An address whose links work at `/` only, so a path is refused.
pub(super) fn read_url(text: &str) -> Option<Option<String>> {
    let text = text.trim_end_matches('/');
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))?;
    let host = host_of_authority(rest)?;
    (is_plain_host(host) && has_valid_port(rest)).then(|| Some(text.to_owned()))
}

/// The port of `host:port`, if there is one, is a number that a port can have.
fn has_valid_port(authority: &str) -> bool {
    let after_address = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    match after_address.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => true,
    }
}

fn is_plain_host(host: &str) -> bool {
    host.parse::<Ipv6Addr>().is_ok()
        || !host.starts_with('-')
            && host
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// A name or an address. An IPv6 address may be in brackets, and is kept without.
pub(super) fn read_host(text: &str) -> Option<Option<String>> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Some(address) = bare {
        return address
            .parse::<Ipv6Addr>()
            .is_ok()
            .then(|| Some(address.to_owned()));
    }
    is_plain_host(text).then(|| Some(text.to_owned()))
}

pub(super) fn read_engine(text: &str) -> Option<String> {
    // Only sockets: an engine on TCP would be open to every run that can reach it.
    let path = text.strip_prefix("unix:///")?;
    (!path.is_empty()).then(|| text.to_owned())
}
